//! The JSON that clients read: resources with their system properties, feeds, the account, the query plan.
//!
//! Owns the names and order of members. It takes no decisions and touches no store.

use bytes::Bytes;
use etagdb::{CommitSeq, Document, Etag, Written};
use serde_json::{Value, json};

use crate::catalog::{Container, Database};
use crate::document::{self, SystemProperties};
use crate::rid::{DocumentRid, KeyRangeRid};

/// One version of an item, complete enough to be answered with.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) body: Bytes,
    pub(crate) etag: Etag,
    pub(crate) seq: CommitSeq,
    pub(crate) created: CommitSeq,
    pub(crate) time_ms: u64,
}

impl Version {
    pub(crate) fn of(document: &Document) -> Version {
        Version {
            body: document.body.clone(),
            etag: document.etag,
            seq: document.seq,
            created: document.created,
            time_ms: document.time_ms,
        }
    }

    pub(crate) fn written(body: Bytes, written: &Written) -> Version {
        Version { body, etag: written.etag, seq: written.seq, created: written.created, time_ms: written.time_ms }
    }

    /// The item as a client sees it.
    pub(crate) fn render(&self, container: &Container) -> Vec<u8> {
        self.with_system(container, |system| document::render(&self.body, system))
    }

    /// The same in two parts: what is stored, without a copy, and what comes behind it.
    pub(crate) fn parts(&self, container: &Container) -> (Bytes, Vec<u8>) {
        let (open, rest) = self.with_system(container, |system| document::parts(&self.body, system));
        (self.body.slice(..open), rest)
    }

    fn with_system<T>(&self, container: &Container, then: impl FnOnce(&SystemProperties<'_>) -> T) -> T {
        let rid = DocumentRid { container: container.rid, document: self.created.get() };
        then(&SystemProperties {
            rid: rid.write_to(&mut [0; DocumentRid::TEXT_BYTES]),
            container_link: &container.self_link,
            etag: self.etag.write_to(&mut [0; Etag::TEXT_BYTES]),
            ts: self.time_ms / 1000,
        })
    }
}

/// An etag as headers and `_etag` carry it, with its quotes.
pub(crate) fn quoted(etag: Etag) -> String {
    format!("\"{etag}\"")
}

pub(crate) fn database(database: &Database) -> Value {
    let rid = database.rid.to_string();
    json!({
        "id": database.id,
        "_rid": rid,
        "_self": format!("dbs/{rid}/"),
        "_etag": quoted(database.etag),
        "_colls": "colls/",
        "_users": "users/",
        "_ts": database.ts,
    })
}

pub(crate) fn container(container: &Container) -> Value {
    let definition = &container.definition;
    let mut value = json!({
        "id": definition.id,
        "indexingPolicy": definition.indexing_policy,
        "partitionKey": definition.partition_key,
        "conflictResolutionPolicy": definition.conflict_resolution_policy,
        "geospatialConfig": definition.geospatial_config,
        "_rid": container.rid.to_string(),
        "_ts": container.ts,
        "_self": container.self_link,
        "_etag": quoted(container.etag),
        "_docs": "docs/",
        "_sprocs": "sprocs/",
        "_triggers": "triggers/",
        "_udfs": "udfs/",
        "_conflicts": "conflicts/",
    });
    if let Some(ttl) = definition.default_ttl {
        value["defaultTtl"] = ttl.into();
    }
    if let Some(policy) = &definition.change_feed_policy {
        value["changeFeedPolicy"] = policy.clone();
    }
    if let Some(policy) = &definition.unique_key_policy {
        value["uniqueKeyPolicy"] = policy.clone();
    }
    if let Some(properties) = &definition.computed_properties {
        value["computedProperties"] = properties.clone();
    }
    value
}

/// One of the partition key ranges of a container.
pub(crate) fn key_range(container: &Container, number: usize) -> Value {
    // No container has so many.
    let rid = KeyRangeRid { container: container.rid, range: u32::try_from(number).unwrap_or(u32::MAX) }.to_string();
    let (min, max) = container.ranges.hex(number);
    json!({
        "id": number.to_string(),
        "_rid": rid,
        "_self": format!("{}pkranges/{rid}/", container.self_link),
        "_etag": key_ranges_etag(container),
        "_ts": container.ts,
        "minInclusive": min,
        "maxExclusive": max,
        "ridPrefix": number,
        "throughputFraction": 1.0 / container.ranges.len() as f64,
        "status": "online",
        "parents": [],
        "_lsn": 0,
    })
}

/// The etag of a container's list of ranges. A container never splits, so it stays the same for its life.
pub(crate) fn key_ranges_etag(container: &Container) -> String {
    format!("\"{}-0\"", container.rid)
}

/// The account, which must name this server as the client reaches it.
pub(crate) fn account(scheme: &str, authority: &str) -> Value {
    let endpoint = format!("{scheme}://{authority}/");
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let locations = json!([{ "name": "Local", "databaseAccountEndpoint": endpoint }]);
    json!({
        "id": format!("etagdb-{host}"),
        "_rid": format!("{host}.etagdb.local"),
        "_self": "",
        "_dbs": "//dbs/",
        "media": "//media/",
        "addresses": "//addresses/",
        "writableLocations": locations,
        "readableLocations": locations,
        "enableMultipleWriteLocations": false,
        "enablePerPartitionFailoverBehavior": false,
        "userReplicationPolicy": { "asyncReplication": false, "minReplicaSetSize": 1, "maxReplicasetSize": 4 },
        "systemReplicationPolicy": { "minReplicaSetSize": 1, "maxReplicasetSize": 4 },
        "readPolicy": { "primaryReadCoefficient": 1, "secondaryReadCoefficient": 1 },
        "userConsistencyPolicy": { "defaultConsistencyLevel": "Session" },
        "queryEngineConfiguration": "{}",
    })
}

/// A query plan: how a client that asks each partition key range by itself brings the answers together.
pub(crate) fn query_plan(query_info: &Value, ranges: &Value) -> Value {
    json!({
        "partitionedQueryExecutionInfoVersion": 2,
        "queryInfo": query_info,
        "queryRanges": ranges,
        "hybridSearchQueryInfo": null,
    })
}

/// A list of resources under its name, as every feed and query answers.
pub(crate) fn feed(rid: &str, name: &str, items: &[Vec<u8>]) -> Vec<u8> {
    let bytes: usize = items.iter().map(|item| item.len() + 1).sum();
    let mut out = Vec::with_capacity(bytes + 64 + rid.len() + name.len());
    out.extend_from_slice(b"{\"_rid\":\"");
    out.extend_from_slice(rid.as_bytes());
    out.extend_from_slice(b"\",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":[");
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(item);
    }
    out.extend_from_slice(format!("],\"_count\":{}}}", items.len()).as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_is_json_whatever_its_length() {
        for items in [vec![], vec![b"1".to_vec()], vec![b"{}".to_vec(), b"null".to_vec()]] {
            let feed: Value = serde_json::from_slice(&feed("AQ==", "Documents", &items)).unwrap();
            assert_eq!(feed["_count"], items.len());
            assert_eq!(feed["Documents"].as_array().map(Vec::len), Some(items.len()));
        }
    }

    #[test]
    fn the_account_points_at_whom_the_client_asked() {
        let account = account("http", "[::1]:8081");
        assert_eq!(account["writableLocations"][0]["databaseAccountEndpoint"], "http://[::1]:8081/");
        assert_ne!(account["id"], "localhost");
    }
}
