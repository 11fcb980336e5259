//! Queries over HTTP: over the items of a container, and over the lists of databases, containers and offers.
//!
//! Owns what part of a container a query has to read, and its pages. What a query means is the `query` module's.

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use etagdb::{CommitSeq, ScanRange};
use serde::Deserialize;
use serde_json::Value;

use crate::as_of;
use crate::catalog::Container;
use crate::continuation::{Position, Token};
use crate::feed::{self, Page, Walk};
use crate::headers::{Headers, Scope};
use crate::item_key;
use crate::partition_key::{Component, PartitionKey};
use crate::query::{self, Flow, KeyHints, Query, QueryError};
use crate::service::{Reply, Service};
use crate::status::{ApiError, Kind};
use crate::wire::{self, Version};

/// Which indexes a query used or could have used: none, because there are none besides the partition key and the id.
const NO_INDEXES: &str = r#"{"UtilizedSingleIndexes":[],"PotentialSingleIndexes":[],"UtilizedCompositeIndexes":[],"PotentialCompositeIndexes":[]}"#;

/// The body of a query.
#[derive(Deserialize)]
struct Spec {
    query: String,
    #[serde(default)]
    parameters: Option<Vec<Parameter>>,
}

#[derive(Deserialize)]
struct Parameter {
    name: String,
    #[serde(default)]
    value: Value,
}

fn parse(body: &[u8]) -> Result<Query, ApiError> {
    let spec: Spec = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("The query's body is invalid: {error}.")))?;
    let parameters = spec.parameters.unwrap_or_default().into_iter().map(|parameter| (parameter.name, parameter.value));
    query::parse(&spec.query, parameters.collect()).map_err(refusal)
}

fn refusal(error: QueryError) -> ApiError {
    ApiError::bad_request(format!("Syntax error or unsupported query: {error}."))
}

/// A query plan: send the query as it is. The query is checked all the same, so that a mistake shows here too.
pub(crate) fn plan(body: &[u8]) -> Result<Reply, ApiError> {
    parse(body)?;
    Ok(Reply::value(http::StatusCode::OK, &wire::query_plan()))
}

/// A query over conflicts, of which there are none.
pub(crate) fn conflicts(
    service: &Service,
    container: &Container,
    headers: Headers<'_>,
    body: &[u8],
) -> Result<Reply, ApiError> {
    parse(body)?;
    require_routing(&headers.scope()?)?;
    list(service, "Conflicts", &container.rid.to_string(), headers, Vec::new())
}

/// A query over a container's items.
pub(crate) fn items(
    service: &Service,
    container: &Container,
    headers: Headers<'_>,
    body: &[u8],
) -> Result<Reply, ApiError> {
    headers.check_session(service.store.last_commit())?;
    let query = parse(body)?;
    let started = Instant::now();
    let hints = query.key_equality();
    let mut scope = headers.scope()?;
    if let (Scope::Everything { .. }, Some(key)) = (&scope, hinted_key(container, &hints)) {
        scope = Scope::Key(key);
    }
    require_routing(&scope)?;
    let range = narrowed(container, &scope, &hints)?;
    let (page, continuation, read) = if query.streams() {
        stream(service, container, headers, &query, range, body)?
    } else {
        gather(service, container, headers, &query, range, body)?
    };
    let metrics = headers.flag("x-ms-documentdb-populatequerymetrics").then(|| {
        let milliseconds = started.elapsed().as_secs_f64() * 1000.0;
        format!(
            "totalExecutionTimeInMs={milliseconds:.2};retrievedDocumentCount={read};outputDocumentCount={}",
            page.len()
        )
    });
    let mut reply = page.reply(service, container, "Documents", continuation);
    if let Some(metrics) = metrics {
        reply = reply.header("x-ms-documentdb-query-metrics", &metrics);
    }
    if headers.flag("x-ms-cosmos-populateindexmetrics") {
        reply = reply.header("x-ms-cosmos-index-utilization", &STANDARD.encode(NO_INDEXES));
    }
    Ok(reply)
}

/// The service demands that a client says so when it means to ask every partition.
fn require_routing(scope: &Scope) -> Result<(), ApiError> {
    match scope {
        Scope::Everything { routed: false } => Err(ApiError::bad_request(
            "Cross partition query is required but disabled. Please set x-ms-documentdb-query-enablecrosspartition to true, \
             specify x-ms-documentdb-partitionkey, or revise your query to avoid this exception.",
        )),
        _ => Ok(()),
    }
}

/// The partition key that every result must have, if the query fixes all of it.
fn hinted_key(container: &Container, hints: &KeyHints) -> Option<PartitionKey> {
    let paths = container.definition.partition_key.paths();
    let components = paths.map(|path| {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match hints.value_of(&path)? {
            Value::Null => Some(Component::Null),
            Value::Bool(value) => Some(Component::Bool(*value)),
            // Adding zero turns minus zero into zero, as it does for stored keys.
            Value::Number(number) => number.as_f64().map(|number| Component::Number(number + 0.0)),
            Value::String(text) => Some(Component::String(text.clone())),
            Value::Array(_) | Value::Object(_) => None,
        }
    });
    components.collect::<Option<Vec<_>>>().map(PartitionKey)
}

/// What of the scope has to be read: one item when the query fixes its id too.
fn narrowed(container: &Container, scope: &Scope, hints: &KeyHints) -> Result<ScanRange, ApiError> {
    let definition = &container.definition.partition_key;
    if let (Scope::Key(key), Some(Value::String(id))) = (scope, hints.value_of(&["id"]))
        && definition.is_full(key)
    {
        let key = item_key::item_key(definition, key, id);
        // The smallest key above this one ends the range.
        let end = [key.as_slice(), &[0]].concat();
        return Ok(ScanRange::all().from(&key).to(end));
    }
    feed::range(container, scope)
}

/// A page of a query whose results come item by item.
fn stream(
    service: &Service,
    container: &Container,
    headers: Headers<'_>,
    query: &Query,
    range: ScanRange,
    body: &[u8],
) -> Result<(Page, Option<String>, u64), ApiError> {
    let mut walk = Walk::begin(service, container, headers, range, body)?;
    let mut page = Page::new(headers)?;
    let mut results = Vec::new();
    walk.run(|document, delivered| {
        results.clear();
        query.apply(&item(container, document)?, &mut results).map_err(refusal)?;
        let count = u32::try_from(results.len()).unwrap_or(u32::MAX);
        for (index, result) in (0..count).zip(&results).skip(*delivered as usize) {
            page.push(bytes(result)?);
            if page.is_full() {
                if index + 1 < count {
                    *delivered = index + 1;
                }
                return Ok(true);
            }
        }
        Ok(false)
    })?;
    Ok((page, walk.continuation(), walk.read))
}

/// A page of a query whose results depend on one another: all of them are made, for each page anew.
fn gather(
    service: &Service,
    container: &Container,
    headers: Headers<'_>,
    query: &Query,
    range: ScanRange,
    body: &[u8],
) -> Result<(Page, Option<String>, u64), ApiError> {
    let what = [container.rid.to_string().as_bytes(), b"\0", body, b"\0", format!("{range:?}").as_bytes()].concat();
    let (offset, seq) = offset(headers, &what)?;
    let snapshot = match seq {
        None => as_of::snapshot(service, container, headers)?,
        // Else the present state is the best there is.
        Some(seq) => container.snapshot_at(&service.store, seq)?.unwrap_or_else(|| service.store.snapshot()),
    };
    let mut collector = query.collect();
    let mut read = 0;
    for row in snapshot.scan(&container.items, &range)? {
        let (_, document) = row?;
        read += 1;
        match collector.push(&item(container, &document)?).map_err(refusal)? {
            Flow::Continue => {}
            Flow::Done => break,
        }
    }
    let results = collector.finish().map_err(refusal)?;
    let mut page = Page::new(headers)?;
    let mut results = results.iter().skip(usize::try_from(offset).unwrap_or(usize::MAX));
    for result in results.by_ref() {
        page.push(bytes(result)?);
        if page.is_full() {
            break;
        }
    }
    let next = offset + page.len() as u64;
    let more = results.next().is_some();
    let continuation = more.then(|| Token { seq: snapshot.seq(), position: Position::Offset(next) }.encode(&what));
    Ok((page, continuation, read))
}

fn offset(headers: Headers<'_>, what: &[u8]) -> Result<(u64, Option<CommitSeq>), ApiError> {
    match headers.continuation()?.map(|text| Token::decode(text, what)).transpose()? {
        None => Ok((0, None)),
        Some(Token { seq, position: Position::Offset(offset) }) => Ok((offset, Some(seq))),
        Some(_) => Err(ApiError::bad_request("The continuation token is invalid: it belongs to another query.")),
    }
}

/// An item as a query sees it: with its system properties, as a client does.
fn item(container: &Container, document: &etagdb::Document) -> Result<Value, ApiError> {
    serde_json::from_slice(&Version::of(document).render(container))
        .map_err(|error| ApiError::new(Kind::InternalServerError, format!("a stored item is not JSON: {error}")))
}

fn bytes(value: &Value) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value)
        .map_err(|error| ApiError::new(Kind::InternalServerError, format!("a result could not be written: {error}")))
}

/// A page of a list of resources, each with its number; the numbers rise, so a page goes on after the last one even when
/// resources were deleted meanwhile.
pub(crate) fn list(
    service: &Service,
    name: &str,
    rid: &str,
    headers: Headers<'_>,
    all: Vec<(u64, Value)>,
) -> Result<Reply, ApiError> {
    let what = [name.as_bytes(), b"\0", rid.as_bytes()].concat();
    let (after, _) = offset(headers, &what)?;
    let mut page = Page::new(headers)?;
    let mut rest = all.into_iter().filter(|(number, _)| *number > after);
    let mut last = after;
    for (number, value) in rest.by_ref() {
        page.push(bytes(&value)?);
        last = number;
        if page.is_full() {
            break;
        }
    }
    let seq = service.store.last_commit();
    let continuation = rest.next().map(|_| Token { seq, position: Position::Offset(last) }.encode(&what));
    Ok(page.plain_reply(rid, name, continuation))
}

/// A query over a list of resources. Such lists are short; every page runs over all of it.
pub(crate) fn over(
    service: &Service,
    name: &str,
    rid: &str,
    headers: Headers<'_>,
    body: &[u8],
    all: Vec<(u64, Value)>,
) -> Result<Reply, ApiError> {
    let query = parse(body)?;
    let mut results = Vec::new();
    if query.streams() {
        for (_, value) in &all {
            query.apply(value, &mut results).map_err(refusal)?;
        }
    } else {
        let mut collector = query.collect();
        for (_, value) in &all {
            match collector.push(value).map_err(refusal)? {
                Flow::Continue => {}
                Flow::Done => break,
            }
        }
        results = collector.finish().map_err(refusal)?;
    }
    let what = [name.as_bytes(), b"\0", rid.as_bytes(), b"\0", body].concat();
    let (offset, _) = offset(headers, &what)?;
    let mut page = Page::new(headers)?;
    let mut rest = results.iter().skip(usize::try_from(offset).unwrap_or(usize::MAX));
    for result in rest.by_ref() {
        page.push(bytes(result)?);
        if page.is_full() {
            break;
        }
    }
    let position = Position::Offset(offset + page.len() as u64);
    let continuation = rest.next().map(|_| Token { seq: service.store.last_commit(), position }.encode(&what));
    Ok(page.plain_reply(rid, name, continuation))
}
