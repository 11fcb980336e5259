//! Single items over HTTP: create, upsert, read, replace, patch, delete; and all items of one partition key at once.
//!
//! Owns the way from headers and a body to an [`Operation`], and from its outcome to an answer. What an operation is
//! allowed to do is `operations`' business.

use std::sync::Arc;

use bytes::Bytes;
use etagdb::{CommitSeq, ScanRange};
use http::StatusCode;
use serde_json::json;
use serde_json::value::RawValue;

use crate::as_of;
use crate::binary_json;
use crate::catalog::Container;
use crate::config::BODY_BYTES_MAX;
use crate::document::{self, Body};
use crate::headers::{Condition, Headers};
use crate::item_key;
use crate::operations::{self, Action, NewBody, Operation, Outcome};
use crate::partition_key::{self, Component, PartitionKey, PartitionKeyDefinition};
use crate::patch::Patch;
use crate::query;
use crate::rid::DocumentRid;
use crate::run::{Mode, Ran, Run};
use crate::service::{Reply, Service, container_reply};
use crate::status::{ApiError, Kind};
use crate::strict::Conditions;
use crate::ttl;
use crate::wire::{self, Version};

/// Most items deleted in one step of a delete by partition key.
const DELETES_PER_STEP: usize = 1000;

pub(crate) fn create(container: &Container, headers: Headers<'_>, body: &Bytes) -> Result<Operation, ApiError> {
    let text = binary_json::as_text(body)?;
    let item = Item::parse(&text)?;
    let key = item.key(container, headers.partition_key()?)?;
    let key = item_key::item_key(&container.definition.partition_key, &key, &item.id);
    let action = if headers.is_upsert() {
        Action::Upsert { body: item.stored, if_match: headers.if_match() }
    } else {
        Action::Create { body: item.stored }
    };
    Ok(Operation { key, created: None, action })
}

pub(crate) fn read(
    service: &Service,
    container: &Container,
    id: &str,
    headers: Headers<'_>,
) -> Result<Reply, ApiError> {
    headers.check_session(service.store.last_commit())?;
    let key = addressed_key(container, headers.partition_key()?)?;
    let action = Action::Read { if_none_match: headers.if_none_match() };
    let operation = address(service, container, &key, id, action)?;
    if as_of::asks_for_versions(headers) {
        return as_of::versions(service, container, headers, &operation);
    }
    let version = match as_of::requested(headers)? {
        Some(as_of) => as_of::version(container, &operation.key, as_of)?,
        None => container.items.get(&operation.key)?.as_ref().map(Version::of),
    };
    read_found(service, container, headers, operation, version)
}

/// Reads an item that is in memory. `None`: somebody who may wait for the disk has to look, or to say what is wrong.
pub(crate) fn read_in_memory(
    service: &Service,
    container: &Container,
    id: &str,
    headers: Headers<'_>,
) -> Option<Reply> {
    headers.check_session(service.store.last_commit()).ok()?;
    let key = addressed_key(container, headers.partition_key().ok()?).ok()?;
    // Finding an item by its rid takes a search, and the past is on disk.
    if as_of::refuse(headers, "").is_err() || DocumentRid::read(id).is_some() {
        return None;
    }
    let key = item_key::item_key(&container.definition.partition_key, &key, id);
    let version = Version::of(&container.items.get_cached(&key)?);
    let action = Action::Read { if_none_match: headers.if_none_match() };
    read_found(service, container, headers, Operation { key, created: None, action }, Some(version)).ok()
}

fn read_found(
    service: &Service,
    container: &Container,
    headers: Headers<'_>,
    operation: Operation,
    version: Option<Version>,
) -> Result<Reply, ApiError> {
    let mut outcome = operations::read(conditioned(service, headers, operation)?, version);
    if !service.strict
        && let Outcome::Item(_, version) = &outcome
        && headers.if_none_match_text().is_none()
        && let Some(since) = headers.if_modified_since()
        && let Ok(since) = since.duration_since(std::time::UNIX_EPOCH)
        // The header has whole seconds, and so has the `_ts` it was made from.
        && version.time_ms / 1000 <= since.as_secs()
    {
        outcome = Outcome::NotModified(version.etag, version.seq);
    }
    let last = service.store.last_commit();
    answer(container, outcome, last, last, false)
}

pub(crate) fn replace(
    service: &Service,
    container: &Container,
    id: &str,
    headers: Headers<'_>,
    body: &Bytes,
) -> Result<Operation, ApiError> {
    let text = binary_json::as_text(body)?;
    let item = Item::parse(&text)?;
    let key = item.key(container, headers.partition_key()?)?;
    let action = Action::Replace { body: item.stored, if_match: headers.if_match(), moved_to: None };
    let mut operation = address(service, container, &key, id, action)?;
    // Unless the path named it by its rid, an item that keeps its id keeps its place.
    if item.id != id || operation.created.is_some() {
        let new_key = item_key::item_key(&container.definition.partition_key, &key, &item.id);
        if let Action::Replace { moved_to, .. } = &mut operation.action {
            *moved_to = (new_key != operation.key).then_some(new_key);
        }
    }
    Ok(operation)
}

pub(crate) fn patch(
    service: &Service,
    container: &Arc<Container>,
    id: &str,
    headers: Headers<'_>,
    body: &Bytes,
) -> Result<Operation, ApiError> {
    let key = addressed_key(container, headers.partition_key()?)?;
    let patch = Patch::parse(body).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let action = patch_action(container, patch, headers.if_match())?;
    address(service, container, &key, id, action)
}

/// The action of a patch, with its condition understood now and judged when the item is at hand.
pub(crate) fn patch_action(container: &Arc<Container>, patch: Patch, if_match: Condition) -> Result<Action, ApiError> {
    let condition = match patch.condition() {
        Some(text) => Some(
            query::parse_predicate(text)
                .map_err(|error| ApiError::bad_request(format!("The patch condition is invalid: {error}.")))?,
        ),
        None => None,
    };
    let container = Arc::clone(container);
    let apply = move |version: &Version| {
        let unreadable = |error: serde_json::Error| {
            ApiError::new(Kind::InternalServerError, format!("the stored item is not JSON: {error}"))
        };
        if let Some(condition) = &condition {
            let item = serde_json::from_slice(&version.render(&container)).map_err(unreadable)?;
            let holds = condition.matches(&item).map_err(|error| ApiError::bad_request(error.to_string()))?;
            if !holds {
                return Err(ApiError::precondition(Some(version.etag)).showing(version));
            }
        }
        let stored = serde_json::from_slice(&version.body).map_err(unreadable)?;
        let patched = patch
            .apply(&stored)
            .map_err(|error| ApiError::bad_request(format!("The patch cannot be applied: {error}.")))?;
        let patched = serde_json::to_vec(&patched).map_err(unreadable)?;
        if patched.len() > BODY_BYTES_MAX {
            return Err(ApiError::new(Kind::RequestEntityTooLarge, "Request size is too large"));
        }
        let (before, after) = (Item::parse(&version.body)?, Item::parse(&patched)?);
        let definition = &container.definition.partition_key;
        if before.id != after.id || before.extract(definition)? != after.extract(definition)? {
            return Err(ApiError::bad_request("A patch cannot change the item's 'id' or its partition key."));
        }
        let ttl = after.stored.ttl;
        Ok(NewBody { bytes: patched, ttl })
    };
    Ok(Action::Patch { if_match, apply: Arc::new(apply) })
}

pub(crate) fn delete(
    service: &Service,
    container: &Container,
    id: &str,
    headers: Headers<'_>,
) -> Result<Operation, ApiError> {
    let key = addressed_key(container, headers.partition_key()?)?;
    let action = Action::Delete { if_match: headers.if_match() };
    address(service, container, &key, id, action)
}

/// Deletes every item of one partition key, a bounded number in each step: the service does this in the background, and
/// promises no single moment either.
pub(crate) fn delete_partition(
    service: &Service,
    container: &Arc<Container>,
    headers: Headers<'_>,
) -> Result<Reply, ApiError> {
    let key = addressed_key(container, headers.partition_key()?)?;
    let prefix = item_key::partition_prefix(&container.definition.partition_key, &key);
    let mut range = ScanRange::prefix(&prefix);
    loop {
        let mut keys = Vec::new();
        for row in container.items.scan(&range)?.take(DELETES_PER_STEP) {
            keys.push(row?.0.to_vec());
        }
        let Some(last) = keys.last() else { break };
        range = ScanRange::prefix(&prefix).after(last);
        let delete = |key| Ok(Operation { key, created: None, action: Action::Delete { if_match: Condition::None } });
        let run = Run {
            store: service.store.clone(),
            container: Arc::clone(container),
            operations: keys.into_iter().map(delete).collect(),
            mode: Mode::EachAlone,
            guard: None,
        };
        run.run_blocking()?;
    }
    let last = service.store.last_commit();
    Ok(Reply::empty(StatusCode::OK).container(container, last, last))
}

/// The container's own description, with the figures that were asked for.
pub(crate) fn describe(service: &Service, container: &Container, headers: Headers<'_>) -> Result<Reply, ApiError> {
    let mut reply = container_reply(StatusCode::OK, container);
    let statistics = headers.flag("x-ms-documentdb-populatepartitionstatistics");
    let quota = headers.flag("x-ms-documentdb-populatequotainfo");
    if statistics || quota {
        // Only counting says how many there are, so this reads the whole container; clients ask for it by hand.
        let mut ranges = vec![(0u64, 0u64); container.ranges.len()];
        for row in service.store.snapshot().scan(&container.items, &ScanRange::all())? {
            let (key, document) = row?;
            if let Some((count, bytes)) = ranges.get_mut(container.ranges.number_of(&key)) {
                *count += 1;
                *bytes += (key.len() + document.body.len()) as u64;
            }
        }
        if statistics {
            let of_range = |(number, (count, bytes)): (usize, &(u64, u64))| {
                let (id, kib) = (number.to_string(), bytes.div_ceil(1024));
                json!({ "id": id, "sizeInKB": kib, "documentCount": count, "partitionKeys": [] })
            };
            let mut value = wire::container(container);
            value["statistics"] = ranges.iter().enumerate().map(of_range).collect();
            reply.body = value.to_string().into();
        }
        if quota {
            let (count, bytes) = ranges.iter().fold((0, 0), |all, range| (all.0 + range.0, all.1 + range.1));
            let kib = bytes.div_ceil(1024);
            let usage = format!("documentSize={kib};documentsSize={kib};documentsCount={count};collectionSize={kib};");
            reply = reply.header("x-ms-resource-usage", &usage);
        }
    }
    Ok(reply)
}

/// An item as a client sent it: checked, and in the form it is stored.
pub(crate) struct Item<'a> {
    body: Body<'a>,
    pub(crate) id: String,
    pub(crate) stored: NewBody,
}

impl<'a> Item<'a> {
    /// Reads an item's text.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Item<'a>, ApiError> {
        let invalid =
            |error: &dyn std::fmt::Display| ApiError::bad_request(format!("The request body is invalid: {error}."));
        let body = Body::parse(body).map_err(|error| invalid(&error))?;
        let Some(id) = body.id().map_err(|error| invalid(&error))? else {
            return Err(ApiError::bad_request(
                "The input content is invalid because the required properties - 'id; ' - are missing.",
            ));
        };
        if id.is_empty() || id.len() > document::MAX_ID_BYTES {
            return Err(ApiError::bad_request(
                "The input name is invalid. Ensure to provide a unique non-empty string less than '1024' characters.",
            ));
        }
        document::validate_id(&id).map_err(|error| invalid(&error))?;
        let ttl = ttl::of_item(body.get("ttl").map(RawValue::get))?;
        let stored = NewBody { bytes: body.stored(), ttl };
        if stored.bytes.len() > BODY_BYTES_MAX {
            return Err(ApiError::new(Kind::RequestEntityTooLarge, "Request size is too large"));
        }
        Ok(Item { body, id, stored })
    }

    /// The partition key that the item holds itself.
    pub(crate) fn own_key(&self, container: &Container) -> Result<PartitionKey, ApiError> {
        self.extract(&container.definition.partition_key)
    }

    fn extract(&self, definition: &PartitionKeyDefinition) -> Result<PartitionKey, ApiError> {
        partition_key::extract(definition, &self.body).map_err(|error| ApiError::partition_key(&error.to_string()))
    }

    /// The partition key that the request and the item agree on.
    pub(crate) fn key(&self, container: &Container, sent: Option<PartitionKey>) -> Result<PartitionKey, ApiError> {
        let definition = &container.definition.partition_key;
        let sent = sent.ok_or_else(missing_key)?;
        let own = self.extract(definition)?;
        // `[]` is the key of items that have none of the key's properties, from before containers had keys.
        let none = sent.0.is_empty() && own.0.iter().all(|component| *component == Component::Undefined);
        if sent == own || none {
            return Ok(sent);
        }
        let detail = format!("The request says {}, the item says {}.", sent.to_header(), own.to_header());
        Err(ApiError::partition_key(&detail))
    }
}

fn missing_key() -> ApiError {
    ApiError::bad_request("PartitionKey value must be supplied for this operation.")
}

/// The partition key of an operation on one item, or on all items of one key.
pub(crate) fn addressed_key(container: &Container, sent: Option<PartitionKey>) -> Result<PartitionKey, ApiError> {
    let sent = sent.ok_or_else(missing_key)?;
    let definition = &container.definition.partition_key;
    if sent.0.is_empty() || definition.is_full(&sent) {
        return Ok(sent);
    }
    let detail =
        format!("The container has {} key paths, the request gives {}.", definition.paths().len(), sent.to_header());
    Err(ApiError::partition_key(&detail))
}

/// Finds the item that a path segment names: its id, or its rid as the client read it in `_rid` or `_self`.
pub(crate) fn address(
    service: &Service,
    container: &Container,
    key: &PartitionKey,
    segment: &str,
    action: Action,
) -> Result<Operation, ApiError> {
    let definition = &container.definition.partition_key;
    let named = Operation { key: item_key::item_key(definition, key, segment), created: None, action };
    let Some(rid) = DocumentRid::read(segment).filter(|rid| rid.container == container.rid) else {
        return Ok(named);
    };
    let snapshot = service.store.snapshot();
    if snapshot.get(&container.items, &named.key)?.is_some() {
        return Ok(named);
    }
    let created = CommitSeq::new(rid.document);
    for row in snapshot.scan(&container.items, &ScanRange::prefix(item_key::partition_prefix(definition, key)))? {
        let (key, document) = row?;
        if document.created == created {
            return Ok(Operation { key: key.to_vec(), created: Some(created), action: named.action });
        }
    }
    Ok(named)
}

/// The operation under the conditions of its request, where they are those of RFC 9110.
pub(crate) fn conditioned(
    service: &Service,
    headers: Headers<'_>,
    mut operation: Operation,
) -> Result<Operation, ApiError> {
    if service.strict {
        operation.action = operation.action.strictly(Conditions::of_request(headers)?);
    }
    Ok(operation)
}

/// The answer to one write.
pub(crate) fn written(
    service: &Service,
    container: &Container,
    headers: Headers<'_>,
    mut ran: Ran,
) -> Result<Reply, ApiError> {
    let last = ran.commits.map_or_else(|| service.store.last_commit(), |(_, last)| last);
    let outcome = ran.outcomes.pop().unwrap_or(Outcome::Dependent);
    Ok(answer(container, outcome, last, last, headers.wants_minimal())?.recalled(ran.recalled))
}

/// The answer to one operation.
fn answer(
    container: &Container,
    outcome: Outcome,
    lsn: CommitSeq,
    seen: CommitSeq,
    minimal: bool,
) -> Result<Reply, ApiError> {
    let reply = match outcome {
        Outcome::Item(status, version) => {
            let reply = if minimal { Reply::empty(status) } else { Reply::item(status, container, &version) };
            reply.etag(version.etag).item_lsn(version.seq)
        }
        Outcome::Deleted => Reply::empty(StatusCode::NO_CONTENT),
        Outcome::NotModified(etag, seq) => Reply::empty(StatusCode::NOT_MODIFIED).etag(etag).item_lsn(seq),
        Outcome::Refused(error) => return Err(error),
        Outcome::Dependent => {
            return Err(ApiError::new(Kind::InternalServerError, "a single operation waited for another"));
        }
    };
    Ok(reply.container(container, lsn, seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_needs_a_string_id() {
        for (body, word) in [
            ("{}", "id"),
            (r#"{"id":7}"#, "string"),
            (r#"{"id":""}"#, "1024"),
            (r#"{"id":"a/b"}"#, "/"),
            ("[]", "object"),
            ("{", "invalid"),
        ] {
            let error = Item::parse(body.as_bytes()).err().unwrap();
            assert_eq!(error.kind, Kind::BadRequest);
            assert!(error.message.contains(word), "{body}: {}", error.message);
        }
        assert_eq!(Item::parse(br#"{"id":"a?b"}"#).map(|item| item.id).ok(), Some("a?b".to_owned()));
    }
}
