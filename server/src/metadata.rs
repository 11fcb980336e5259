//! What a client may say about a container or a database, checked, and in the form it is stored and read back.
//!
//! Owns the defaults the service fills in and the refusals of what this server cannot keep. It writes nothing.

use std::collections::HashSet;
use std::time::Duration;

use etagdb::Retention;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::partition_key::PartitionKeyDefinition;
use crate::query::{self, ComputedProperty};
use crate::status::ApiError;
use crate::ttl;
use crate::unique;

/// For how many minutes the store keeps what items were, unless it is told otherwise.
const RETENTION_MINUTES_DEFAULT: u64 = 10;
/// Most characters in the id of a database or container.
const ID_CHARACTERS_MAX: usize = 255;
/// Most computed properties of a container, as the service has it.
const COMPUTED_PROPERTIES_MAX: usize = 20;
/// Names that every item has already.
const SYSTEM_PROPERTIES: [&str; 6] = ["id", "_rid", "_ts", "_etag", "_self", "_attachments"];

/// A container as its owner defined it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerDefinition {
    pub(crate) id: String,
    pub(crate) partition_key: PartitionKeyDefinition,
    pub(crate) indexing_policy: Value,
    pub(crate) conflict_resolution_policy: Value,
    pub(crate) geospatial_config: Value,
    /// Seconds after which items expire; see `ttl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default_ttl: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unique_key_policy: Option<Value>,
    /// How long the change feed with all versions and deletes must be kept, in minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) change_feed_policy: Option<Value>,
    /// As they were given; [`computed_properties`] reads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) computed_properties: Option<Value>,
}

/// Reads the id of a new database.
pub(crate) fn database_id(body: &[u8]) -> Result<String, ApiError> {
    let object = object(body)?;
    id(&object)
}

/// Reads the definition of a container to be made.
pub(crate) fn container(body: &[u8]) -> Result<ContainerDefinition, ApiError> {
    let mut object = object(body)?;
    let id = id(&object)?;
    refuse_left_out(&object)?;
    let Some(partition_key) = object.remove("partitionKey") else {
        return Err(ApiError::bad_request("The container has no 'partitionKey'."));
    };
    refuse_too_many_paths(&partition_key)?;
    let partition_key: PartitionKeyDefinition = serde_json::from_value(partition_key)
        .map_err(|error| ApiError::bad_request(format!("The 'partitionKey' of the container is invalid: {error}")))?;
    Ok(ContainerDefinition {
        id,
        partition_key,
        indexing_policy: indexing_policy(object.remove("indexingPolicy"))?,
        conflict_resolution_policy: given(&mut object, "conflictResolutionPolicy").unwrap_or_else(
            || json!({"mode": "LastWriterWins", "conflictResolutionPath": "/_ts", "conflictResolutionProcedure": ""}),
        ),
        geospatial_config: given(&mut object, "geospatialConfig").unwrap_or_else(|| json!({"type": "Geography"})),
        default_ttl: ttl::container_default(object.get("defaultTtl"))?,
        unique_key_policy: unique_key_policy(given(&mut object, "uniqueKeyPolicy"))?,
        change_feed_policy: change_feed_policy(given(&mut object, "changeFeedPolicy"))?,
        computed_properties: checked_computed_properties(given(&mut object, "computedProperties"))?,
    })
}

fn checked_computed_properties(list: Option<Value>) -> Result<Option<Value>, ApiError> {
    let properties = computed_properties(list.as_ref())?;
    Ok(list.filter(|_| !properties.is_empty()))
}

/// The computed properties that a definition has.
pub(crate) fn computed_properties(list: Option<&Value>) -> Result<Vec<ComputedProperty>, ApiError> {
    let wrong = |what: String| {
        ApiError::bad_request(format!("One of the specified inputs is invalid: 'computedProperties' {what}."))
    };
    let Some(list) = list else { return Ok(Vec::new()) };
    let list = list.as_array().ok_or_else(|| wrong("must be a list of objects with 'name' and 'query'".into()))?;
    if list.len() > COMPUTED_PROPERTIES_MAX {
        return Err(wrong(format!("has {} entries; the limit is {COMPUTED_PROPERTIES_MAX}", list.len())));
    }
    let mut names = HashSet::new();
    let mut properties = Vec::with_capacity(list.len());
    for property in list {
        let (Some(name), Some(query)) = (property["name"].as_str(), property["query"].as_str()) else {
            return Err(wrong("must be a list of objects with 'name' and 'query'".into()));
        };
        if name.is_empty() || SYSTEM_PROPERTIES.contains(&name) || !names.insert(name) {
            return Err(wrong(format!(
                "cannot have the name {name:?}: it is empty, a system property, or there twice"
            )));
        }
        let property = query::computed_property(name, query);
        properties.push(property.map_err(|error| wrong(format!("has the invalid entry {name:?}: {error}")))?);
    }
    Ok(properties)
}

/// Reads the definition that is to take the place of `current`. What names and divides the items cannot change.
pub(crate) fn container_replacement(
    body: &[u8],
    current: &ContainerDefinition,
) -> Result<ContainerDefinition, ApiError> {
    let replacement = container(body)?;
    if replacement.id != current.id {
        return Err(ApiError::bad_request(format!(
            "The container's id cannot change: it is {:?}, the body says {:?}.",
            current.id, replacement.id
        )));
    }
    if !replacement.partition_key.paths().eq(current.partition_key.paths()) {
        return Err(ApiError::bad_request("The container's partition key paths cannot change."));
    }
    if replacement.unique_key_policy.is_some() && replacement.unique_key_policy != current.unique_key_policy {
        return Err(ApiError::bad_request("The container's unique keys cannot change."));
    }
    // A client that leaves the version or the unique keys out means those there are.
    Ok(ContainerDefinition {
        partition_key: current.partition_key.clone(),
        unique_key_policy: current.unique_key_policy.clone(),
        ..replacement
    })
}

/// Refuses more paths than the kind of key has, in the words that clients look for.
fn refuse_too_many_paths(partition_key: &Value) -> Result<(), ApiError> {
    let most = if partition_key["kind"] == "MultiHash" { 3 } else { 1 };
    match partition_key["paths"].as_array().map_or(0, Vec::len) {
        count if count > most => Err(ApiError::bad_request(format!(
            "Too many partition key paths: the 'partitionKey' of the container has {count}, and its kind takes {most}."
        ))),
        _ => Ok(()),
    }
}

fn object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ApiError::bad_request("The request body must be a JSON object.")),
        Err(error) => Err(ApiError::bad_request(format!("The request body is not valid JSON: {error}."))),
    }
}

fn id(object: &Map<String, Value>) -> Result<String, ApiError> {
    let Some(id) = object.get("id") else {
        return Err(ApiError::bad_request(
            "The input content is invalid because the required property 'id' is missing.",
        ));
    };
    let Some(id) = id.as_str() else {
        return Err(ApiError::bad_request("The input content is invalid because the property 'id' must be a string."));
    };
    if id.is_empty() || id.chars().count() > ID_CHARACTERS_MAX {
        return Err(ApiError::bad_request(
            "The input name is invalid. Ensure to provide a unique non-empty string less than '255' characters.",
        ));
    }
    if let Some(bad) = id.chars().find(|c| matches!(c, '/' | '\\' | '#' | '?') || c.is_control()) {
        return Err(ApiError::bad_request(format!(
            "The input name {id:?} is invalid: it contains the character {bad:?}."
        )));
    }
    if id.ends_with(' ') {
        return Err(ApiError::bad_request(format!("The input name {id:?} is invalid: it ends with a space.")));
    }
    Ok(id.to_owned())
}

fn given(object: &mut Map<String, Value>, name: &str) -> Option<Value> {
    object.remove(name).filter(|value| !value.is_null())
}

/// A setting that would be stored and then not kept is refused: a client that reads it back would trust it.
fn refuse_left_out(object: &Map<String, Value>) -> Result<(), ApiError> {
    let asks = |name: &str| object.get(name).filter(|value| !value.is_null());
    if asks("analyticalStorageTtl").is_some_and(|ttl| ttl.as_i64() != Some(0)) {
        return Err(ApiError::bad_request("There is no analytical store: 'analyticalStorageTtl' must be absent or 0."));
    }
    for name in ["vectorEmbeddingPolicy", "fullTextPolicy", "clientEncryptionPolicy", "materializedViewDefinition"] {
        if asks(name).is_some() {
            return Err(ApiError::bad_request(format!("The container property '{name}' is not supported.")));
        }
    }
    Ok(())
}

/// A policy that makes sense is kept as it was written.
fn unique_key_policy(given: Option<Value>) -> Result<Option<Value>, ApiError> {
    unique::parse(given.as_ref())?;
    Ok(given)
}

/// How long superseded versions and deletes are kept: as the change feed policy asks, and never less than by default,
/// because pages of feeds and queries are read at one commit too.
pub(crate) fn retention(definition: &ContainerDefinition) -> Retention {
    let minutes = definition.change_feed_policy.as_ref().and_then(|policy| policy["retentionDuration"].as_u64());
    match minutes {
        Some(minutes) if minutes > RETENTION_MINUTES_DEFAULT => {
            Retention::age(Duration::from_secs(minutes.saturating_mul(60)))
        }
        _ => Retention::default(),
    }
}

/// A policy that asks for nothing is none.
fn change_feed_policy(given: Option<Value>) -> Result<Option<Value>, ApiError> {
    match given.as_ref().map(|policy| policy["retentionDuration"].as_u64()) {
        None => Ok(None),
        Some(Some(_)) => Ok(given),
        Some(None) => Err(ApiError::bad_request(
            "The 'changeFeedPolicy' must hold a 'retentionDuration', a whole number of minutes.",
        )),
    }
}

/// Fills in what the service fills in. The policy is kept for its readers; every query here reads the items themselves.
fn indexing_policy(given: Option<Value>) -> Result<Value, ApiError> {
    let mut policy = match given {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(policy)) => policy,
        Some(_) => return Err(ApiError::bad_request("The 'indexingPolicy' must be an object.")),
    };
    let mode = match policy.get("indexingMode") {
        None | Some(Value::Null) => "consistent".to_owned(),
        Some(Value::String(mode)) => mode.to_ascii_lowercase(),
        Some(_) => return Err(ApiError::bad_request("The 'indexingMode' must be a string.")),
    };
    if !matches!(mode.as_str(), "consistent" | "lazy" | "none") {
        return Err(ApiError::bad_request(format!("The 'indexingMode' {mode:?} is invalid.")));
    }
    let automatic = policy.get("automatic").and_then(Value::as_bool).unwrap_or(mode != "none");
    let mut included = paths(&mut policy, "includedPaths")?;
    let mut excluded = paths(&mut policy, "excludedPaths")?;
    if mode != "none" {
        let has = |list: &[Value], path: &str| list.iter().any(|entry| entry["path"] == path);
        if included.is_empty() && !has(&excluded, "/*") {
            included.push(json!({"path": "/*"}));
        }
        if !has(&excluded, "/\"_etag\"/?") && !has(&excluded, "/*") {
            excluded.push(json!({"path": "/\"_etag\"/?"}));
        }
    }
    let mut complete = Map::new();
    complete.insert("indexingMode".to_owned(), mode.into());
    complete.insert("automatic".to_owned(), automatic.into());
    complete.insert("includedPaths".to_owned(), included.into());
    complete.insert("excludedPaths".to_owned(), excluded.into());
    for (name, value) in policy {
        if !complete.contains_key(&name) && !value.is_null() {
            complete.insert(name, value);
        }
    }
    Ok(complete.into())
}

/// A list of paths. The index kinds that older clients write beside each path are dropped, as the service drops them.
fn paths(policy: &mut Map<String, Value>, name: &str) -> Result<Vec<Value>, ApiError> {
    let invalid = || {
        ApiError::bad_request(format!("The '{name}' of the 'indexingPolicy' must be a list of objects with a 'path'."))
    };
    let Some(value) = given(policy, name) else { return Ok(Vec::new()) };
    let Value::Array(list) = value else { return Err(invalid()) };
    list.into_iter()
        .map(|entry| match entry.get("path").and_then(Value::as_str) {
            Some(path) if path.starts_with('/') => Ok(json!({ "path": path })),
            _ => Err(invalid()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(extra: &str) -> Result<ContainerDefinition, ApiError> {
        container(format!(r#"{{"id":"c","partitionKey":{{"paths":["/pk"],"kind":"Hash"}}{extra}}}"#).as_bytes())
    }

    #[test]
    fn the_default_policy_excludes_the_etag() {
        let policy = definition("").unwrap().indexing_policy;
        assert_eq!(policy["includedPaths"], json!([{"path": "/*"}]));
        assert_eq!(policy["excludedPaths"], json!([{"path": "/\"_etag\"/?"}]));
        let none =
            definition(r#","indexingPolicy":{"indexingMode":"None","automatic":false}"#).unwrap().indexing_policy;
        assert_eq!((&none["indexingMode"], &none["includedPaths"]), (&json!("none"), &json!([])));
    }

    #[test]
    fn what_cannot_be_kept_is_refused_by_name() {
        for (extra, name) in [
            (r#","uniqueKeyPolicy":{"uniqueKeys":[{"paths":["a"]}]}"#, "uniqueKeyPolicy"),
            (r#","computedProperties":[{"name":"a","query":"SELECT VALUE 1"}]"#, "computedProperties"),
            (r#","computedProperties":{"name":"a","query":"SELECT VALUE c.a FROM c"}"#, "One of the specified inputs"),
            (r#","computedProperties":[{"name":"id","query":"SELECT VALUE c.a FROM c"}]"#, "system property"),
            (r#","computedProperties":[{"name":"a"}]"#, "'name' and 'query'"),
            (r#","vectorEmbeddingPolicy":{}"#, "vectorEmbeddingPolicy"),
            (r#","partitionKey":{"paths":["/a","/b"],"kind":"Hash"}"#, "Too many partition key paths"),
            (r#","defaultTtl":0"#, "defaultTtl"),
            (r#","defaultTtl":-10"#, "defaultTtl"),
            (r#","defaultTtl":1.5"#, "defaultTtl"),
        ] {
            let error = definition(extra).unwrap_err();
            assert!(error.message.contains(name), "{extra}: {}", error.message);
        }
        assert_eq!(
            definition(r#","defaultTtl":-1,"uniqueKeyPolicy":{"uniqueKeys":[]}"#).unwrap().default_ttl,
            Some(-1)
        );
    }

    #[test]
    fn ids_have_a_length_and_no_separators() {
        for id in ["", "a/b", "a\\b", "a#b", "a?b", "a\tb", "a "] {
            let body = json!({ "id": id }).to_string();
            assert!(database_id(body.as_bytes()).is_err(), "{id:?}");
        }
        assert!(database_id(json!({"id": "x".repeat(256)}).to_string().as_bytes()).is_err());
        assert!(database_id(json!({"id": "ü".repeat(255)}).to_string().as_bytes()).is_ok());
        assert!(database_id(br#"{"id":7}"#).is_err());
        assert!(database_id(b"[]").is_err());
        assert!(database_id(b"{").is_err());
    }
}
