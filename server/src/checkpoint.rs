//! `POST /_etagdb/checkpoint`: a checkpoint of the store, made by the process that has it open.
//!
//! Owns the shape of the request and its answer. The directory is one of the server's machine, so only a server that
//! listens on loopback does it, and only for who holds the key.

use std::path::Path;

use bytes::Bytes;
use etagdb::{Error, Store};
use http::StatusCode;
use http::request::Parts;
use serde::Deserialize;
use serde_json::json;

use crate::explorer;
use crate::headers;
use crate::service::Reply;
use crate::status::{ApiError, Kind};

/// Makes a checkpoint in the new directory that the body names.
pub(crate) fn answer(store: &Store, is_local: bool, parts: &Parts, body: &Bytes) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        directory: String,
    }
    if parts.method != http::Method::POST {
        return Err(headers::wrong_method(&parts.method, "POST"));
    }
    explorer::check_site(parts)?;
    if !is_local {
        return Err(ApiError::new(
            Kind::Forbidden,
            "This server listens on more than loopback: it writes no checkpoints to directories that requests name.",
        ));
    }
    let Body { directory } = serde_json::from_slice(body).map_err(|error| {
        ApiError::bad_request(format!("The body is not {{\"directory\": \"/an/absolute/path\"}}: {error}."))
    })?;
    let path = Path::new(&directory);
    if !path.is_absolute() {
        return Err(ApiError::bad_request(format!("The directory {directory:?} is not an absolute path.")));
    }
    let newest = store.checkpoint(path).map_err(|error| match error {
        Error::Invalid(message) => ApiError::bad_request(message),
        Error::Io(cause) => ApiError::bad_request(format!("The checkpoint could not be made: {cause}.")),
        error => error.into(),
    })?;
    Ok(Reply::value(StatusCode::CREATED, &json!({ "directory": directory, "lsn": newest.get() })))
}
