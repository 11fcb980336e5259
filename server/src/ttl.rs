//! Time to live, as Cosmos says it: a container's `defaultTtl` and an item's `ttl`, in whole seconds.
//!
//! Owns what the two may be, and what they mean to the store, which expires documents by itself.
//!
//! | `defaultTtl` | an item without `ttl` | `ttl: 60` | `ttl: -1` |
//! |---|---|---|---|
//! | absent | stays | stays | stays |
//! | -1 | stays | expires after 60 s | stays |
//! | 3600 | expires after 3600 s | expires after 60 s | stays |
//!
//! Time runs from the item's last write.

use std::time::Duration;

use etagdb::{CollectionTtl, DocumentTtl};
use serde_json::Value;

use crate::status::ApiError;

/// Reads a container's `defaultTtl`: `-1` keeps items for ever unless they say otherwise; a positive number is their life.
pub(crate) fn container_default(value: Option<&Value>) -> Result<Option<i64>, ApiError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_i64() {
            Some(ttl) if ttl == -1 || (ttl > 0 && ttl <= i64::from(i32::MAX)) => Ok(Some(ttl)),
            _ => Err(ApiError::bad_request(format!(
                "The value {value} of 'defaultTtl' is invalid: it must be -1 or a positive 32-bit integer."
            ))),
        },
    }
}

/// What a container's `defaultTtl` means to the store.
pub(crate) fn of_collection(default: Option<i64>) -> CollectionTtl {
    match default {
        None => CollectionTtl::Off,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds) => CollectionTtl::After(Duration::from_secs(seconds)),
            Err(_) => CollectionTtl::Documents,
        },
    }
}

/// Reads an item's `ttl`, as JSON text: `-1` or a positive number of seconds.
pub(crate) fn of_item(text: Option<&str>) -> Result<DocumentTtl, ApiError> {
    let Some(text) = text else { return Ok(DocumentTtl::Collection) };
    match text.parse::<i32>() {
        Ok(-1) => Ok(DocumentTtl::Never),
        Ok(seconds) if seconds > 0 => Ok(DocumentTtl::After(Duration::from_secs(seconds.unsigned_abs().into()))),
        _ => Err(ApiError::bad_request(format!(
            "The input ttl {} is invalid. Ensure to provide a nonzero positive integer or -1.",
            text.chars().take(40).collect::<String>()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_items_ttl_is_minus_one_or_positive() {
        let seconds = |count| Some(DocumentTtl::After(Duration::from_secs(count)));
        for (text, expected) in [
            (None, Some(DocumentTtl::Collection)),
            (Some("-1"), Some(DocumentTtl::Never)),
            (Some("1"), seconds(1)),
            (Some("2147483647"), seconds(2_147_483_647)),
            (Some("0"), None),
            (Some("-10"), None),
            (Some("null"), None),
            (Some("\"5\""), None),
            (Some("1.5"), None),
            (Some("2147483648"), None),
        ] {
            assert_eq!(of_item(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_containers_default_is_absent_minus_one_or_positive() {
        for (value, expected) in [
            (json!(null), Some(CollectionTtl::Off)),
            (json!(-1), Some(CollectionTtl::Documents)),
            (json!(3600), Some(CollectionTtl::After(Duration::from_secs(3600)))),
            (json!(0), None),
            (json!(-10), None),
            (json!(1.5), None),
            (json!("5"), None),
            (json!(2_147_483_648_i64), None),
        ] {
            assert_eq!(container_default(Some(&value)).ok().map(of_collection), expected, "{value}");
        }
        assert_eq!(container_default(None).ok().map(of_collection), Some(CollectionTtl::Off));
    }
}
