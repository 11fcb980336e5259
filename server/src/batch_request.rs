//! The bodies of transactional batches and of bulk requests, and the entries of their answers.
//!
//! Owns what an operation may say and the limits on how many there are. It executes nothing, and leaves items and patches as
//! the raw JSON they arrived in.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::document;

/// Most operations of one request.
const MAX_OPERATIONS: usize = 100;

/// Why a request was refused as a whole, in words for the person who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchRequestError(String);

impl fmt::Display for BatchRequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BatchRequestError {}

/// One operation of a batch or a bulk request.
#[derive(Debug, Clone)]
pub(crate) struct BatchOperation {
    /// What to do.
    pub(crate) action: BatchAction,
    /// The etag to compare with, as `If-Match` would carry it.
    pub(crate) if_match: Option<String>,
    /// The etag to compare with, as `If-None-Match` would carry it.
    pub(crate) if_none_match: Option<String>,
    /// In bulk, the partition key as the header would carry it. A batch has one for all, in its header.
    pub(crate) partition_key: Option<String>,
}

/// What an operation does. Every `body` is JSON as it was sent.
#[derive(Debug, Clone)]
pub(crate) enum BatchAction {
    /// Makes a new item.
    Create {
        /// The item.
        body: Box<RawValue>,
    },
    /// Makes an item or replaces it.
    Upsert {
        /// The item.
        body: Box<RawValue>,
    },
    /// Replaces an item that is there.
    Replace {
        /// The id of the item to replace; the new one may have another.
        id: String,
        /// The item.
        body: Box<RawValue>,
    },
    /// Reads an item.
    Read {
        /// The item's id.
        id: String,
    },
    /// Deletes an item.
    Delete {
        /// The item's id.
        id: String,
    },
    /// Looks whether `ifMatch` or `ifNoneMatch` holds, and ends the batch if it does not. Not of the service: SDKs have no
    /// call for it.
    Check {
        /// The id of the item that is or is not to be there.
        id: String,
    },
    /// Changes parts of an item.
    Patch {
        /// The item's id.
        id: String,
        /// The operations, as a PATCH request would carry them.
        body: Box<RawValue>,
    },
}

/// The outcome of one operation.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BatchResult {
    /// The status that the operation would have had on its own, or 424 if it was not tried because of another.
    pub(crate) status_code: u16,
    /// What the status means more closely.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sub_status_code: Option<u32>,
    /// The request units charged.
    pub(crate) request_charge: f64,
    /// The item's etag, quotes included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) e_tag: Option<String>,
    /// The item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resource_body: Option<Box<RawValue>>,
    /// How long to wait before another attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_milliseconds: Option<u64>,
}

/// An operation as it stands in the request, with everything optional that some operation goes without.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    operation_type: String,
    id: Option<String>,
    resource_body: Option<Box<RawValue>>,
    if_match: Option<String>,
    if_none_match: Option<String>,
    partition_key: Option<Box<RawValue>>,
}

/// Reads the operations of a request.
pub(crate) fn parse(body: &[u8]) -> Result<Vec<BatchOperation>, BatchRequestError> {
    let text = std::str::from_utf8(body).map_err(|error| {
        BatchRequestError(format!("the batch request is not UTF-8: byte {} is not valid there", error.valid_up_to()))
    })?;
    // Counting comes first, so that a request with a hundred thousand operations costs no more than reading over it.
    let operations: Vec<&RawValue> = serde_json::from_str(text)
        .map_err(|error| BatchRequestError(format!("the batch request is not a JSON array of operations: {error}")))?;
    match operations.len() {
        0 => return Err(BatchRequestError("Batch request has no operations.".to_owned())),
        count if count > MAX_OPERATIONS => {
            return Err(BatchRequestError(format!(
                "Batch request has more operations than what is supported. It has {count}, and there can be at most {MAX_OPERATIONS}."
            )));
        }
        _ => {}
    }
    let operations = operations.into_iter().enumerate().map(|(index, operation)| {
        BatchOperation::parse(operation)
            .map_err(|what| BatchRequestError(format!("batch operation {}: {what}", index + 1)))
    });
    operations.collect()
}

impl BatchOperation {
    fn parse(operation: &RawValue) -> Result<BatchOperation, String> {
        if !operation.get().starts_with('{') {
            return Err(format!("an operation must be an object, not {}", document::kind_of(operation.get())));
        }
        let Wire { operation_type: name, id, resource_body, if_match, if_none_match, partition_key } =
            serde_json::from_str(operation.get()).map_err(|error| error.to_string())?;
        let body = || resource_body.ok_or_else(|| format!("`{name}` needs a `resourceBody`"));
        let id = || id.ok_or_else(|| format!("`{name}` needs an `id`"));
        let action = match name.as_str() {
            "Create" => BatchAction::Create { body: body()? },
            "Upsert" => BatchAction::Upsert { body: body()? },
            "Replace" => BatchAction::Replace { id: id()?, body: body()? },
            "Read" => BatchAction::Read { id: id()? },
            "Delete" => BatchAction::Delete { id: id()? },
            "Patch" => BatchAction::Patch { id: id()?, body: body()? },
            "Check" if if_match.is_none() && if_none_match.is_none() => {
                return Err("`Check` needs an `ifMatch` or an `ifNoneMatch`".to_owned());
            }
            "Check" => BatchAction::Check { id: id()? },
            other => {
                return Err(format!(
                    "operation type `{other}` is not supported, only `Create`, `Upsert`, `Replace`, `Read`, `Delete`, `Patch` and `Check`"
                ));
            }
        };
        let partition_key = partition_key.map(|key| partition_key_text(&key)).transpose()?;
        Ok(BatchOperation { action, if_match, if_none_match, partition_key })
    }
}

/// SDKs send the partition key as a string that holds a JSON array; the array itself means the same.
fn partition_key_text(key: &RawValue) -> Result<String, String> {
    match document::kind_of(key.get()) {
        "a string" => {
            serde_json::from_str(key.get()).map_err(|error| format!("`partitionKey` cannot be read: {error}"))
        }
        "an array" => Ok(key.get().to_owned()),
        other => Err(format!("`partitionKey` must be a JSON array in a string, not {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn operation(operation: &Value) -> BatchOperation {
        parse(json!([operation]).to_string().as_bytes()).unwrap().remove(0)
    }

    fn refusal(body: &str) -> String {
        parse(body.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn operations_are_read() {
        let body = r#"[{"operationType":"Create","resourceBody":{"id":"1", "n":1.0}},
            {"operationType":"Upsert","resourceBody":{},"ifMatch":"\"e\"","partitionKey":"[\"p\"]"},
            {"operationType":"Replace","id":"1","resourceBody":{"id":"2"},"ifNoneMatch":"x"},
            {"operationType":"Read","id":"1"},
            {"operationType":"Delete","id":"1","partitionKey":[ {} ]},
            {"operationType":"Patch","id":"1","resourceBody":{"operations":[]},"ifMatch":null,"extra":1}]"#;
        let operations = parse(body.as_bytes()).unwrap();
        let actions: Vec<_> = operations.iter().map(|operation| &operation.action).collect();
        let [
            BatchAction::Create { body: created },
            BatchAction::Upsert { .. },
            BatchAction::Replace { id, body: replaced },
            BatchAction::Read { .. },
            BatchAction::Delete { .. },
            BatchAction::Patch { body: patch, .. },
        ] = actions[..]
        else {
            panic!("wrong actions: {actions:?}");
        };
        assert_eq!(created.get(), r#"{"id":"1", "n":1.0}"#, "bodies stay as they were written");
        assert_eq!((id.as_str(), replaced.get(), patch.get()), ("1", r#"{"id":"2"}"#, r#"{"operations":[]}"#));
        assert_eq!(operations[1].if_match.as_deref(), Some("\"e\""));
        assert_eq!(operations[1].partition_key.as_deref(), Some("[\"p\"]"));
        assert_eq!(operations[2].if_none_match.as_deref(), Some("x"));
        assert_eq!(operations[4].partition_key.as_deref(), Some("[ {} ]"));
        assert_eq!(operations[5].if_match, None);
    }

    #[test]
    fn the_number_of_operations_is_bounded() {
        let many = |count: usize| json!(vec![json!({"operationType": "Read", "id": "1"}); count]).to_string();
        assert_eq!(parse(many(100).as_bytes()).unwrap().len(), 100);
        assert!(refusal(&many(101)).starts_with("Batch request has more operations than what is supported."));
        assert_eq!(refusal("[]"), "Batch request has no operations.");
    }

    #[test]
    fn refusals_name_the_operation_and_the_mistake() {
        for (body, part) in [
            ("", "not a JSON array"),
            ("{}", "not a JSON array"),
            ("[1", "not a JSON array"),
            (
                r#"[{"operationType":"Read","id":"1"},1]"#,
                "batch operation 2: an operation must be an object, not a number",
            ),
            (r#"[{"id":"1"}]"#, "batch operation 1: missing field `operationType`"),
            (r#"[{"operationType":"read","id":"1"}]"#, "`read` is not supported"),
            (r#"[{"operationType":"Read"}]"#, "`Read` needs an `id`"),
            (r#"[{"operationType":"Read","id":1}]"#, "expected a string"),
            (r#"[{"operationType":"Create","id":"1"}]"#, "`Create` needs a `resourceBody`"),
            (
                r#"[{"operationType":"Read","id":"1","partitionKey":{}}]"#,
                "`partitionKey` must be a JSON array in a string, not an object",
            ),
        ] {
            let refusal = refusal(body);
            assert!(refusal.contains(part), "{body}: {refusal}");
        }
        assert!(parse(b"[\xff]").unwrap_err().to_string().contains("byte 1"));
    }

    #[test]
    fn results_have_the_members_sdks_read() {
        let body = RawValue::from_string(r#"{"id": "1"}"#.to_owned()).unwrap();
        let full = BatchResult {
            status_code: 201,
            sub_status_code: Some(0),
            request_charge: 5.5,
            e_tag: Some("\"e\"".to_owned()),
            resource_body: Some(body),
            retry_after_milliseconds: Some(10),
        };
        assert_eq!(
            serde_json::to_string(&full).unwrap(),
            r#"{"statusCode":201,"subStatusCode":0,"requestCharge":5.5,"eTag":"\"e\"","resourceBody":{"id": "1"},"retryAfterMilliseconds":10}"#
        );
        let bare = BatchResult {
            status_code: 424,
            sub_status_code: None,
            request_charge: 0.0,
            e_tag: None,
            resource_body: None,
            retry_after_milliseconds: None,
        };
        assert_eq!(serde_json::to_string(&bare).unwrap(), r#"{"statusCode":424,"requestCharge":0.0}"#);
    }

    proptest! {
        #[test]
        fn any_operation_is_read_without_a_panic(name in "(Create|Read|Patch|[A-Z]{0,3})", id in ".{0,4}", key in ".{0,4}", body in "[\\[\\]{}\",:a0-9]{0,16}") {
            let _ = operation(&json!({"operationType": "Read", "id": id, "partitionKey": key, "ifMatch": name}));
            let text = format!("[{{\"operationType\":\"{name}\",\"resourceBody\":{body}}}]");
            let _ = parse(text.as_bytes());
            let _ = parse(body.as_bytes());
        }
    }
}
