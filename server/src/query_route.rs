//! Queries over HTTP: over the items of a container, and over the lists of databases, containers and offers.
//!
//! Owns what part of a container a query has to read, who merges the results of several partition key ranges, and the
//! pages of lists. What a query means is the `query` module's; running it over items is `query_run`'s.

use etagdb::{CommitSeq, ScanRange};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::catalog::Container;
use crate::continuation::{Position, Token};
use crate::feed::{self, Page};
use crate::figures::{Access, Figures};
use crate::headers::{Headers, Scope};
use crate::item_key;
use crate::metadata;
use crate::partition_key::{Component, PartitionKey};
use crate::query::{self, ComputedProperty, Features, Flow, KeyHints, Query, QueryError};
use crate::query_run::Run;
use crate::service::{Reply, Service};
use crate::status::{ApiError, Kind};
use crate::wire;

/// Asks the server to merge what partition key ranges answer, for clients that do not do it themselves.
const MERGE: &str = "x-etagdb-merge";
/// The sub-status of a query that only the client can merge.
const NOT_SERVABLE: &str = "1004";

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

fn parse(body: &[u8], computed: &[ComputedProperty]) -> Result<Query, ApiError> {
    let spec: Spec = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("The query's body is invalid: {error}.")))?;
    let parameters = spec.parameters.unwrap_or_default().into_iter().map(|parameter| (parameter.name, parameter.value));
    query::parse_with(&spec.query, parameters.collect(), computed).map_err(refusal)
}

/// Reads a query over a container's items.
fn parse_over(container: &Container, body: &[u8]) -> Result<Query, ApiError> {
    parse(body, &metadata::computed_properties(container.definition.computed_properties.as_ref())?)
}

pub(crate) fn refusal(error: QueryError) -> ApiError {
    ApiError::bad_request(format!("Syntax error or unsupported query: {error}."))
}

/// Answers a request for a query plan.
pub(crate) fn plan(container: &Container, headers: Headers<'_>, body: &[u8]) -> Result<Reply, ApiError> {
    let query = parse_over(container, body)?;
    let features = Features::parse(headers.text("x-ms-cosmos-supported-query-features")?.unwrap_or(""));
    let info = match query.plan_for_clients(features) {
        // With one range there is nothing to merge: the query itself gives the result.
        Err(_) if container.ranges.len() == 1 => query.plan_for_one(),
        info => info.map_err(refusal)?,
    };
    Ok(Reply::value(StatusCode::OK, &wire::query_plan(&info, &plan_ranges(container, &query))))
}

/// The part of the container that a plan covers: the one partition key that the query fixes, or all of it.
fn plan_ranges(container: &Container, query: &Query) -> Value {
    let Some(key) = hinted_key(container, &query.key_equality()) else {
        return json!([{ "min": "", "max": "FF", "isMinInclusive": true, "isMaxInclusive": false }]);
    };
    let mut epk = Vec::new();
    container.definition.partition_key.write_epk(&key.0, &mut epk);
    let epk = hex(&epk);
    json!([{ "min": epk, "max": epk, "isMinInclusive": true, "isMaxInclusive": true }])
}

/// Bytes as the wire has effective partition keys.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Refuses a query over several ranges whose results must be merged, as the service does: its clients then ask for the
/// plan, ask each range by itself, and merge. The plan is in the answer too, for those that look there.
fn leave_to_client(container: &Container, query: &Query) -> Result<Reply, ApiError> {
    let info = query.plan_for_clients(Features::ALL).map_err(refusal)?;
    let plan = wire::query_plan(&info, &plan_ranges(container, query));
    let body = json!({
        "code": Kind::BadRequest.code(),
        "message": "The provided cross partition query can not be directly served by the gateway. This is a first chance \
                    (internal) exception that all newer clients will know how to handle gracefully.",
        "additionalErrorInfo": plan.to_string(),
    });
    Ok(Reply::value(StatusCode::BAD_REQUEST, &body).header("x-ms-substatus", NOT_SERVABLE))
}

/// A query over conflicts, of which there are none.
pub(crate) fn conflicts(
    service: &Service,
    container: &Container,
    headers: Headers<'_>,
    body: &[u8],
) -> Result<Reply, ApiError> {
    parse(body, &[])?;
    require_routing(&headers.scope(container)?)?;
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
    if headers.flag(MERGE) && matches!(headers.scope(container)?, Scope::Everything { .. }) {
        return whole(service, container, headers, body);
    }
    let figures = Figures::begin();
    let query = parse_over(container, body)?;
    let hints = query.key_equality();
    let mut scope = headers.scope(container)?;
    let spread = matches!(scope, Scope::Everything { routed: true }) && container.ranges.len() > 1;
    if spread && query.merges() {
        return leave_to_client(container, &query);
    }
    if let (Scope::Everything { .. }, Some(key)) = (&scope, hinted_key(container, &hints)) {
        scope = Scope::Key(key);
    }
    require_routing(&scope)?;
    let by_range = spread && matches!(scope, Scope::Everything { .. });
    run(service, container, headers, body, (&query, scope, by_range), figures)
}

/// A query over all of a container's items, for a caller in this process or one that asks for it: everything is merged
/// here.
pub(crate) fn whole(
    service: &Service,
    container: &Container,
    headers: Headers<'_>,
    body: &[u8],
) -> Result<Reply, ApiError> {
    let figures = Figures::begin();
    let query = parse_over(container, body)?;
    let key = hinted_key(container, &query.key_equality());
    let scope = key.map_or(Scope::Everything { routed: true }, Scope::Key);
    run(service, container, headers, body, (&query, scope, false), figures)
}

fn run(
    service: &Service,
    container: &Container,
    headers: Headers<'_>,
    body: &[u8],
    (query, scope, by_range): (&Query, Scope, bool),
    mut figures: Figures,
) -> Result<Reply, ApiError> {
    if let Scope::Key(_) = scope {
        let paths = container.definition.partition_key.paths();
        figures.access = Access::Keys(paths.map(|path| format!("/{}", path.join("/"))).collect());
    }
    let (range, single) = narrowed(container, &scope, &query.key_equality())?;
    let run = Run { service, container, headers, query, by_range, range, single, scope, body };
    figures.compiled = figures.elapsed();
    let (page, continuation) = run.page(&mut figures)?;
    let reply = page.reply(service, container, "Documents", continuation);
    Ok(figures.put(headers, reply))
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

/// What of the scope has to be read: one item, which the flag tells, when the query fixes its id too.
fn narrowed(container: &Container, scope: &Scope, hints: &KeyHints) -> Result<(ScanRange, bool), ApiError> {
    let definition = &container.definition.partition_key;
    if let (Scope::Key(key), Some(Value::String(id))) = (scope, hints.value_of(&["id"]))
        && definition.is_full(key)
    {
        let key = item_key::item_key(definition, key, id);
        // The smallest key above this one ends the range.
        let end = [key.as_slice(), &[0]].concat();
        return Ok((ScanRange::all().from(&key).to(end), true));
    }
    Ok((feed::range(container, scope)?, false))
}

fn offset(headers: Headers<'_>, what: &[u8]) -> Result<(u64, Option<CommitSeq>), ApiError> {
    match headers.continuation()?.map(|text| Token::decode(text, what)).transpose()? {
        None => Ok((0, None)),
        Some(Token { seq, position: Position::Offset(offset) }) => Ok((offset, Some(seq))),
        Some(_) => Err(Token::of_another()),
    }
}

pub(crate) fn bytes(value: &Value) -> Result<Vec<u8>, ApiError> {
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
    let query = parse(body, &[])?;
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
