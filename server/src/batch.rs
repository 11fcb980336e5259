//! Transactional batches and bulk requests: one body with many operations, one step of the store.
//!
//! Owns the shape of their answers. A bulk request's operations stand each for itself, but they too are written in one
//! step, because they then share one wait for the disk.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::value::RawValue;

use crate::batch_request::{self, BatchAction, BatchOperation, BatchResult};
use crate::catalog::Container;
use crate::headers::{Condition, Headers};
use crate::item_key;
use crate::items::{self, Item};
use crate::operations::{Action, Operation, Outcome};
use crate::partition_key::{self, PartitionKey};
use crate::patch::Patch;
use crate::run::{Mode, Ran};
use crate::service::{Reply, Service};
use crate::status::{ApiError, Kind};
use crate::strict::Conditions;
use crate::wire;

/// What a body asks for: operations, and what the refusal of one means for the others.
pub(crate) fn prepare(
    service: &Service,
    container: &Arc<Container>,
    headers: Headers<'_>,
    body: &Bytes,
) -> Result<(Vec<Result<Operation, ApiError>>, Mode), ApiError> {
    let requested = batch_request::parse(body).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let sent = headers.partition_key()?;
    let mode = match (headers.batch_is_atomic(), headers.continues_on_error()) {
        (true, _) => {
            // All operations are on one partition key, so it is the request's, and judged before any of them.
            items::addressed_key(container, sent.clone())?;
            Mode::AllOrNothing
        }
        (false, true) => Mode::EachAlone,
        (false, false) => Mode::UntilRefused,
    };
    let operations =
        requested.into_iter().map(|operation| conditioned(service, container, sent.as_ref(), operation)).collect();
    Ok((operations, mode))
}

/// The answer to all of them.
pub(crate) fn answer(
    service: &Service,
    container: &Container,
    headers: Headers<'_>,
    ran: Ran,
) -> Result<Reply, ApiError> {
    let failed = ran.outcomes.iter().any(|outcome| !matches!(outcome, Outcome::Item(..) | Outcome::Deleted));
    for outcome in &ran.outcomes {
        if let Outcome::Refused(error) = outcome {
            service.count_refusal(container, error);
        }
    }
    let results: Vec<BatchResult> =
        ran.outcomes.into_iter().map(|outcome| result(container, outcome, headers)).collect::<Result<_, _>>()?;
    let body = serde_json::to_vec(&results).map_err(|error| {
        ApiError::new(Kind::InternalServerError, format!("the answer could not be written: {error}"))
    })?;
    let status = if failed { StatusCode::MULTI_STATUS } else { StatusCode::OK };
    let last = service.store.last_commit();
    // A batch is one event to its readers: its place in the container's order is that of its first write.
    let (lsn, seen) = ran.commits.unwrap_or((last, last));
    Ok(Reply::json(status, body).container(container, lsn, seen).recalled(ran.recalled))
}

/// Turns an operation as it was sent into one that can be run, under the conditions of RFC 9110 where those count.
fn conditioned(
    service: &Service,
    container: &Arc<Container>,
    sent: Option<&PartitionKey>,
    requested: BatchOperation,
) -> Result<Operation, ApiError> {
    if !service.strict {
        return prepare_one(service, container, sent, requested);
    }
    let conditions = Conditions::of_operation(requested.if_match.as_deref(), requested.if_none_match.as_deref())?;
    let mut operation = prepare_one(service, container, sent, requested)?;
    operation.action = operation.action.strictly(conditions);
    Ok(operation)
}

/// Turns an operation as it was sent into one that can be run.
fn prepare_one(
    service: &Service,
    container: &Arc<Container>,
    sent: Option<&PartitionKey>,
    operation: BatchOperation,
) -> Result<Operation, ApiError> {
    let sent = match operation.partition_key.as_deref() {
        Some(text) => {
            Some(partition_key::parse_header(text).map_err(|error| ApiError::bad_request(error.to_string()))?)
        }
        None => sent.cloned(),
    };
    let condition = |text: Option<&str>| text.map_or(Condition::None, |text| Condition::parse(text.as_bytes()));
    let if_match = condition(operation.if_match.as_deref());
    // The service has one match token per operation, and a read takes it as the version its client has already.
    let if_none_match = condition(operation.if_none_match.as_deref().or(operation.if_match.as_deref()));
    let definition = &container.definition.partition_key;
    let own_key = |item: &Item<'_>| -> Result<Vec<u8>, ApiError> {
        Ok(item_key::item_key(definition, &item.key(container, sent.clone())?, &item.id))
    };
    let address = |id: &str, action: Action| {
        let key = items::addressed_key(container, sent.clone())?;
        items::address(service, container, &key, id, action)
    };
    match operation.action {
        BatchAction::Create { body } => {
            let item = Item::parse(body.get().as_bytes())?;
            Ok(Operation { key: own_key(&item)?, created: None, action: Action::Create { body: item.stored } })
        }
        BatchAction::Upsert { body } => {
            let item = Item::parse(body.get().as_bytes())?;
            Ok(Operation {
                key: own_key(&item)?,
                created: None,
                action: Action::Upsert { body: item.stored, if_match },
            })
        }
        BatchAction::Replace { id, body } => {
            let item = Item::parse(body.get().as_bytes())?;
            let new_key = own_key(&item)?;
            let mut operation = address(&id, Action::Replace { body: item.stored, if_match, moved_to: None })?;
            if let Action::Replace { moved_to, .. } = &mut operation.action {
                *moved_to = (new_key != operation.key).then_some(new_key);
            }
            Ok(operation)
        }
        BatchAction::Read { id } => address(&id, Action::Read { if_none_match }),
        BatchAction::Check { id } => {
            let if_none_match = condition(operation.if_none_match.as_deref());
            address(&id, Action::Check { if_match, if_none_match })
        }
        BatchAction::Delete { id } => address(&id, Action::Delete { if_match }),
        BatchAction::Patch { id, body } => {
            let patch =
                Patch::parse(body.get().as_bytes()).map_err(|error| ApiError::bad_request(error.to_string()))?;
            address(&id, items::patch_action(container, patch, if_match)?)
        }
    }
}

/// One entry of the answer.
fn result(container: &Container, outcome: Outcome, headers: Headers<'_>) -> Result<BatchResult, ApiError> {
    let mut result = BatchResult {
        status_code: StatusCode::FAILED_DEPENDENCY.as_u16(),
        sub_status_code: None,
        request_charge: 1.0,
        e_tag: None,
        resource_body: None,
        retry_after_milliseconds: None,
    };
    match outcome {
        Outcome::Item(status, version) => {
            result.status_code = status.as_u16();
            result.e_tag = Some(wire::quoted(version.etag));
            if !headers.wants_minimal() {
                result.resource_body = Some(raw(version.render(container))?);
            }
        }
        Outcome::Deleted => result.status_code = StatusCode::NO_CONTENT.as_u16(),
        Outcome::NotModified(etag, _) => {
            result.status_code = StatusCode::NOT_MODIFIED.as_u16();
            result.e_tag = Some(wire::quoted(etag));
        }
        Outcome::Refused(error) => {
            result.status_code = error.kind.status().as_u16();
            result.sub_status_code = (error.substatus != 0).then_some(error.substatus);
            result.e_tag = error.etag.map(wire::quoted);
            let body = match error.current.as_ref().filter(|_| headers.wants_representation()) {
                Some(current) => error.body_showing(&current.render(container)),
                None => error.body(),
            };
            result.resource_body = Some(raw(body)?);
        }
        Outcome::Dependent => {}
    }
    Ok(result)
}

fn raw(json: Vec<u8>) -> Result<Box<RawValue>, ApiError> {
    let broken = |what: &dyn std::fmt::Display| {
        ApiError::new(Kind::InternalServerError, format!("a stored item is damaged: {what}"))
    };
    let text = String::from_utf8(json).map_err(|error| broken(&error))?;
    RawValue::from_string(text).map_err(|error| broken(&error))
}
