//! What the explorer shows that the protocol has no route for: figures of the store and the server, what keeps old
//! versions, which items writers race for, and how much each container holds.
//!
//! Owns the JSON of these answers. Everything in them is a count since the start or a state of now: rates are for the
//! page to make, from two answers.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use etagdb::PinKind;
use serde_json::{Value, json};

use super::hot::HotKey;
use crate::catalog::{Container, Database};
use crate::item_key;
use crate::items::Item;
use crate::metadata;
use crate::routes::ContainerPath;
use crate::service::Service;
use crate::status::ApiError;

/// How long the sizes of containers are estimated for one answer; those whose turn does not come have none.
const SPACE_TIME_MAX: Duration = Duration::from_secs(2);
/// How many hot items are named.
const HOT_MAX: usize = 12;

/// Figures of the store and the server.
pub(super) fn stats(service: &Service) -> Value {
    let stats = service.store.stats();
    let pins: Vec<Value> = stats
        .pins
        .iter()
        .map(|pin| {
            let (kind, name) = match &pin.kind {
                PinKind::Snapshot => ("snapshot", None),
                PinKind::Transaction => ("transaction", None),
                PinKind::Cursor(name) => ("cursor", Some(name.as_str())),
                _ => ("other", None),
            };
            json!({ "kind": kind, "name": name, "seq": pin.seq.get(), "sinceMs": unix_ms(pin.since) })
        })
        .collect();
    let mut value = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "nowMs": unix_ms(SystemTime::now()),
        "writable": service.store.is_writable(),
        "lastCommit": stats.last_commit.get(),
        "watermark": stats.watermark.get(),
        "commits": stats.commits,
        "groups": stats.groups,
        "groupMicros": u64::try_from(stats.group_time.as_micros()).unwrap_or(u64::MAX),
        "queuedBytes": stats.queued_bytes,
        "cacheHits": stats.cache_hits,
        "cacheMisses": stats.cache_misses,
        "versionsEstimate": stats.versions_estimate,
        "versionsBytes": stats.versions_bytes,
        "waitingFeeds": stats.waiting_feeds,
        "pins": pins,
        "hot": service.hot.list().iter().take(HOT_MAX).filter_map(|hot| named(service, hot)).collect::<Vec<_>>(),
    });
    service.metrics.figures(&mut value);
    value
}

/// A hot item by its names; none if its container is gone.
fn named(service: &Service, hot: &HotKey) -> Option<Value> {
    let (database, container) = containers(service).find(|(_, container)| container.rid == hot.container)?;
    // The key as a client writes it is read from the item; one that is gone has none.
    let item = container.items.get(&hot.key).ok().flatten();
    let key = item.and_then(|item| Item::parse(&item.body).ok()?.own_key(&container).ok());
    Some(json!({
        "database": database.id,
        "container": container.definition.id,
        "id": item_key::id_of_key(&hot.key)?,
        "partitionKey": key.map(|key| key.to_header()),
        "count": hot.count,
        "error": hot.error,
        "lastCommit": hot.last.get(),
    }))
}

/// What every container holds, as far as there is time to look.
pub(super) fn space(service: &Service) -> Value {
    let begun = Instant::now();
    let all = containers(service);
    let all = all.map(|(database, container)| one(&database, &container, begun.elapsed() < SPACE_TIME_MAX));
    json!({ "containers": all.collect::<Vec<_>>() })
}

/// What one container holds.
pub(super) fn space_of(service: &Service, database: &str, container: &str) -> Result<Value, ApiError> {
    let path = ContainerPath { database: database.to_owned(), container: container.to_owned() };
    Ok(one(&*service.catalog.database(database)?, &*service.catalog.container(&path)?, true))
}

fn one(database: &Database, container: &Container, measure: bool) -> Value {
    let retention = metadata::retention(&container.definition);
    let mut value = json!({
        "database": database.id,
        "container": container.definition.id,
        "retentionMs": retention.kept_for().map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        "horizon": container.items.horizon().get(),
        "ranges": container.ranges.len(),
        "size": null,
    });
    // A container that is dropped at this moment has no size; neither has one whose disk fails, which others report.
    if let Some(size) = measure.then(|| container.items.size_estimate().ok()).flatten() {
        value["size"] = json!({
            "documents": size.documents,
            "documentBytes": size.document_bytes,
            "versions": size.versions,
            "versionBytes": size.version_bytes,
            "diskBytes": size.disk_bytes,
            "isExact": size.is_exact,
        });
    }
    value
}

fn containers(service: &Service) -> impl Iterator<Item = (std::sync::Arc<Database>, std::sync::Arc<Container>)> {
    service.catalog.list_databases().into_iter().flat_map(|database| {
        let containers = service.catalog.list_containers(database.rid);
        containers.into_iter().map(move |container| (Arc::clone(&database), container))
    })
}

fn unix_ms(time: SystemTime) -> u64 {
    let elapsed = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
