//! Offers: the throughput a database or container was given. Kept and read back, because SDKs ask for it; nothing is
//! metered by it.
//!
//! Owns the content of an offer. The catalog stores it.

use etagdb::Etag;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::headers::Throughput;
use crate::rid::OfferRid;
use crate::status::ApiError;

/// The least that an autoscale offer may be allowed to reach.
const AUTOSCALE_MIN: u64 = 1000;

/// What `sys/offers` holds under an offer's number.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredOffer {
    pub(crate) rid: u32,
    /// The self link of what the throughput is for.
    pub(crate) resource: String,
    /// The rid of what the throughput is for.
    pub(crate) owner: String,
    pub(crate) content: Value,
}

/// An offer.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) stored: StoredOffer,
    pub(crate) etag: Etag,
    pub(crate) ts: u64,
}

impl Offer {
    pub(crate) fn new(stored: StoredOffer, etag: Etag, ts: u64) -> Offer {
        Offer { stored, etag, ts }
    }

    /// The offer as a client reads it.
    pub(crate) fn json(&self) -> Value {
        let rid = OfferRid(self.stored.rid).to_string();
        json!({
            "resource": self.stored.resource,
            "offerType": "Invalid",
            "offerResourceId": self.stored.owner,
            "offerVersion": "V2",
            "content": self.stored.content,
            "id": rid,
            "_rid": rid,
            "_self": format!("offers/{rid}/"),
            "_etag": format!("\"{}\"", self.etag),
            "_ts": self.ts,
        })
    }
}

/// The content of a new offer. An autoscale one starts at a tenth of its most, as the service's do.
pub(crate) fn content(throughput: &Throughput) -> Result<Value, ApiError> {
    Ok(match throughput {
        Throughput::Fixed(amount) => json!({ "offerThroughput": amount }),
        Throughput::Autoscale(settings) => {
            json!({ "offerThroughput": autoscale_most(settings)? / 10, "offerAutopilotSettings": settings })
        }
    })
}

/// Reads the content of an offer that a client sends back changed.
pub(crate) fn replacement(body: &[u8]) -> Result<Value, ApiError> {
    let offer: Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("The request body is not valid JSON: {error}.")))?;
    let content = &offer["content"];
    if let Some(settings) = content.get("offerAutopilotSettings").filter(|settings| !settings.is_null()) {
        return self::content(&Throughput::Autoscale(settings.clone()));
    }
    match content["offerThroughput"].as_u64() {
        Some(amount) if amount > 0 => self::content(&Throughput::Fixed(amount)),
        _ => Err(ApiError::bad_request(
            "The offer's 'content' must hold a positive 'offerThroughput' or 'offerAutopilotSettings'.",
        )),
    }
}

/// The most throughput that was asked for.
pub(crate) fn most(throughput: &Throughput) -> Result<u64, ApiError> {
    match throughput {
        Throughput::Fixed(amount) => Ok(*amount),
        Throughput::Autoscale(settings) => autoscale_most(settings),
    }
}

/// The most that an autoscale offer may reach. The service's minimum is kept, so that a mistake shows here too.
fn autoscale_most(settings: &Value) -> Result<u64, ApiError> {
    let asked = &settings["maxThroughput"];
    asked.as_u64().filter(|most| *most >= AUTOSCALE_MIN).ok_or_else(|| {
        ApiError::bad_request(format!(
            "The 'maxThroughput' of 'offerAutopilotSettings' is invalid. Requested throughput {asked} is less than \
             required minimum throughput {AUTOSCALE_MIN}."
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_and_autoscale_content() {
        assert_eq!(content(&Throughput::Fixed(500)).unwrap(), json!({"offerThroughput": 500}));
        let settings =
            json!({"maxThroughput": 5000, "autoUpgradePolicy": {"throughputPolicy": {"incrementPercent": 2}}});
        let autoscale = content(&Throughput::Autoscale(settings.clone())).unwrap();
        assert_eq!(autoscale, json!({"offerThroughput": 500, "offerAutopilotSettings": settings}));
    }

    #[test]
    fn a_replacement_without_throughput_is_refused() {
        for body in [
            "",
            "[]",
            "{}",
            r#"{"content":{}}"#,
            r#"{"content":{"offerThroughput":0}}"#,
            r#"{"content":{"offerAutopilotSettings":{}}}"#,
        ] {
            assert!(replacement(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(replacement(br#"{"content":{"offerThroughput":700}}"#).unwrap()["offerThroughput"], 700);
    }
}
