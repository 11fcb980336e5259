//! The one table of errors: every status the server answers with, its code text, and the JSON body around a message.
//!
//! Owns [`ApiError`] and the translation of the store's errors. It never decides *whether* something is an error.
//!
//! | status | code | when |
//! |---|---|---|
//! | 400 | `BadRequest` | the request contradicts itself or the container; sub-status 1001: partition key, 1024: another container's rid |
//! | 401 | `Unauthorized` | no signature, or one that does not match |
//! | 404 | `NotFound` | no such resource; sub-status 1002: a session token ahead of this store, 1003: no such container |
//! | 405 | `MethodNotAllowed` | the route exists, the method does not |
//! | 408 | `RequestTimeout` | the body did not arrive in time; or a write whose outcome is unknown, because its sync failed: Cosmos clients read 408 on a write as "perhaps done" and do not repeat it blindly |
//! | 409 | `Conflict` | the id is taken |
//! | 410 | `Gone` | sub-status 1002: no such partition key range |
//! | 412 | `PreconditionFailed` | an etag or a patch condition does not hold |
//! | 413 | `RequestEntityTooLarge` | more than 2 MiB |
//! | 422 | `UnprocessableEntity` | an `Idempotency-Key` that was used for another request |
//! | 429 | `TooManyRequests` | by fault injection only |
//! | 449 | `RetryWith` | by fault injection only |
//! | 500 | `InternalServerError` | damaged data, a failing disk, or an error of ours |
//! | 501 | `NotImplemented` | a feature this server leaves out on purpose |
//! | 503 | `ServiceUnavailable` | the store takes no writes until it is reopened; reads go on |
//! | 507 | `InsufficientStorage` | the disk is full; nothing was written, reads go on |

use etagdb::{Error, Etag};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::chaos::Fault;
use crate::wire::Version;

/// The partition key contradicts the container or the item.
pub(crate) const PARTITION_KEY_MISMATCH: u32 = 1001;
/// The session token is ahead of this store.
pub(crate) const SESSION_NOT_AVAILABLE: u32 = 1002;
/// The partition key range that the client named does not exist.
pub(crate) const KEY_RANGE_GONE: u32 = 1002;
/// The container of an item operation does not exist.
pub(crate) const OWNER_NOT_FOUND: u32 = 1003;
/// The container was deleted and made anew since the client learned its rid.
pub(crate) const COLLECTION_RID_MISMATCH: u32 = 1024;

/// The client has used up its throughput.
pub(crate) const REQUEST_RATE_TOO_LARGE: u32 = 3200;

/// Not of the registry, and the service's own: try again.
const RETRY_WITH: StatusCode = match StatusCode::from_u16(449) {
    Ok(status) => status,
    Err(_) => StatusCode::TOO_MANY_REQUESTS,
};

/// What kind of answer an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    Conflict,
    Gone,
    PreconditionFailed,
    RequestEntityTooLarge,
    UnprocessableEntity,
    TooManyRequests,
    InternalServerError,
    RetryWith,
    NotImplemented,
    ServiceUnavailable,
    InsufficientStorage,
}

impl Kind {
    /// The row of the table: status and code text.
    fn row(self) -> (StatusCode, &'static str) {
        match self {
            Kind::BadRequest => (StatusCode::BAD_REQUEST, "BadRequest"),
            Kind::Unauthorized => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Kind::Forbidden => (StatusCode::FORBIDDEN, "Forbidden"),
            Kind::NotFound => (StatusCode::NOT_FOUND, "NotFound"),
            Kind::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
            Kind::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, "RequestTimeout"),
            Kind::Conflict => (StatusCode::CONFLICT, "Conflict"),
            Kind::Gone => (StatusCode::GONE, "Gone"),
            Kind::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, "PreconditionFailed"),
            Kind::RequestEntityTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge"),
            Kind::UnprocessableEntity => (StatusCode::UNPROCESSABLE_ENTITY, "UnprocessableEntity"),
            Kind::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            Kind::RetryWith => (RETRY_WITH, "RetryWith"),
            Kind::InternalServerError => (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError"),
            Kind::NotImplemented => (StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
            Kind::ServiceUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            Kind::InsufficientStorage => (StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage"),
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        self.row().0
    }

    pub(crate) fn code(self) -> &'static str {
        self.row().1
    }
}

/// An answer that is not what the client asked for.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) kind: Kind,
    pub(crate) substatus: u32,
    pub(crate) message: String,
    /// The etag of the version that is there instead, for 409 and 412.
    pub(crate) etag: Option<Etag>,
    /// That version itself, for clients that ask to see it. It may be missing where the etag is not.
    pub(crate) current: Option<Box<Version>>,
    /// The storage key of the item that it is about, where one was judged.
    pub(crate) key: Option<Box<[u8]>>,
    /// What the `allow` header says, for 405.
    pub(crate) allow: Option<&'static str>,
    /// The injected fault that this is. Boxed, as it is rare and errors are passed around by value.
    pub(crate) fault: Option<Box<Fault>>,
}

impl ApiError {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> ApiError {
        let message = message.into();
        ApiError { kind, substatus: 0, message, etag: None, current: None, key: None, allow: None, fault: None }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(Kind::BadRequest, message)
    }

    pub(crate) fn not_found(what: impl Into<String>) -> ApiError {
        ApiError::new(Kind::NotFound, what)
    }

    /// A partition key that contradicts the container or the item. The first sentence is the one clients look for.
    pub(crate) fn partition_key(detail: &str) -> ApiError {
        let message = format!(
            "Partition key provided either doesn't correspond to definition in the collection or doesn't match \
             partition key field values specified in the document. {detail}"
        );
        ApiError::bad_request(message).substatus(PARTITION_KEY_MISMATCH)
    }

    /// The version found is not the one asked for.
    pub(crate) fn precondition(current: Option<Etag>) -> ApiError {
        let now = match current {
            Some(etag) if etag != Etag::NEVER => format!(" The current etag is {etag}."),
            _ => String::new(),
        };
        let message = format!("Errors : [\"One of the specified pre-condition is not met.{now}\"]");
        ApiError::new(Kind::PreconditionFailed, message).etag(current)
    }

    /// The id is taken.
    pub(crate) fn conflict(current: Option<Etag>) -> ApiError {
        ApiError::new(Kind::Conflict, "Entity with the specified id already exists in the system.").etag(current)
    }

    pub(crate) fn substatus(mut self, substatus: u32) -> ApiError {
        self.substatus = substatus;
        self
    }

    /// Names the version that is there. One that does not exist yet, made earlier in a refused batch, has no name.
    /// Names the version that is there. One that does not exist yet is not named.
    pub(crate) fn etag(mut self, etag: Option<Etag>) -> ApiError {
        self.etag = etag.filter(|etag| *etag != Etag::NEVER);
        self
    }

    /// Keeps the version that is there, for clients that ask to see it. One that does not exist yet is not shown.
    pub(crate) fn showing(mut self, current: &Version) -> ApiError {
        self.current = (current.etag != Etag::NEVER).then(|| Box::new(current.clone()));
        self
    }

    /// Names the item that it is about, by its storage key.
    pub(crate) fn about(mut self, key: Vec<u8>) -> ApiError {
        self.key = Some(key.into());
        self
    }

    pub(crate) fn allow(mut self, methods: &'static str) -> ApiError {
        self.allow = Some(methods);
        self
    }

    /// The body: always JSON, always with a `message` that is a string, because clients read that field unasked.
    pub(crate) fn body(&self) -> Vec<u8> {
        serde_json::json!({ "code": self.kind.code(), "message": self.message }).to_string().into_bytes()
    }

    /// The body with the version that is there, as a client sees it, in a further member, `current`.
    pub(crate) fn body_showing(&self, current: &[u8]) -> Vec<u8> {
        let mut body = self.body();
        body.pop();
        body.extend_from_slice(b",\"current\":");
        body.extend_from_slice(current);
        body.push(b'}');
        body
    }
}

impl From<Error> for ApiError {
    /// Translates what the store says when no operation expected it. Conflicts are judged where they happen.
    fn from(error: Error) -> ApiError {
        let kind = match &error {
            Error::Conflict(conflict) => return ApiError::precondition(conflict.current),
            Error::Invalid(_) => Kind::BadRequest,
            Error::ReadOnly { .. } => Kind::ServiceUnavailable,
            Error::OutcomeUnknown(_) => Kind::RequestTimeout,
            Error::DiskFull(_) => Kind::InsufficientStorage,
            _ => Kind::InternalServerError,
        };
        if kind.status().is_server_error() || kind == Kind::RequestTimeout {
            tracing::error!(%error, "the store failed");
        }
        ApiError::new(kind, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_json_with_a_string_message() {
        let error = ApiError::bad_request("quotes \" and a line\nbreak");
        let body: serde_json::Value = serde_json::from_slice(&error.body()).unwrap();
        assert_eq!(body["code"], "BadRequest");
        assert_eq!(body["message"], "quotes \" and a line\nbreak");
    }

    #[test]
    fn a_failed_sync_is_perhaps_done_and_a_full_disk_is_not() {
        let unknown = ApiError::from(Error::OutcomeUnknown("sync failed".into()));
        assert_eq!(unknown.kind.status(), StatusCode::REQUEST_TIMEOUT);
        let full = ApiError::from(Error::DiskFull("no space left".into()));
        assert_eq!(full.kind.status(), StatusCode::INSUFFICIENT_STORAGE);
        let read_only = ApiError::from(Error::ReadOnly { because: "sync failed".to_owned() });
        assert_eq!(read_only.kind.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn an_etag_that_is_not_assigned_yet_is_not_shown() {
        assert_eq!(ApiError::conflict(Some(Etag::NEVER)).etag, None);
        assert!(!ApiError::precondition(Some(Etag::NEVER)).message.contains("0000"));
    }
}
