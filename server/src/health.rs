//! Whether the store takes writes: what `/health` answers, and what the log says when it changes. Owns no state of the
//! store; asks it.

use std::time::Duration;

use etagdb::{Store, StoreHealth};
use http::StatusCode;

use crate::reply::Reply;

/// How often the store is asked, for the log.
const INTERVAL: Duration = Duration::from_secs(1);

/// Whether the store takes writes; reads may work even when it does not. Why is for the log alone: it may name paths.
pub(crate) fn reply(state: &StoreHealth) -> Reply {
    let body = match state {
        StoreHealth::Healthy => return Reply::json(StatusCode::OK, r#"{"status":"ok"}"#),
        StoreHealth::DiskFull { since_ms, .. } => format!(r#"{{"status":"disk-full","sinceMs":{since_ms}}}"#),
        StoreHealth::ReadOnly { since_ms, .. } => format!(r#"{{"status":"read-only","sinceMs":{since_ms}}}"#),
        _ => r#"{"status":"unavailable"}"#.to_owned(),
    };
    Reply::json(StatusCode::SERVICE_UNAVAILABLE, body)
}

/// Says in the log when the store takes no more writes, and why, and when it does again. Never ends.
pub(crate) async fn log_changes(store: &Store) {
    let mut told = StoreHealth::Healthy;
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        let store = store.clone();
        // It may have to try a write.
        let Ok(now) = tokio::task::spawn_blocking(move || store.health()).await else { continue };
        if now != told {
            match &now {
                StoreHealth::Healthy => tracing::info!("the store takes writes again"),
                StoreHealth::DiskFull { because, .. } => {
                    tracing::error!(because, "the store takes no writes until the disk has space");
                }
                StoreHealth::ReadOnly { because, .. } => {
                    tracing::error!(because, "the store takes no more writes until the server is started again");
                }
                _ => tracing::error!("the store takes no writes"),
            }
            told = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_takes_no_writes_is_not_healthy_and_says_since_when() {
        let because = "on purpose".to_owned();
        let full = StoreHealth::DiskFull { since_ms: 7, because: because.clone() };
        for (state, status, body) in [
            (StoreHealth::Healthy, 200, r#"{"status":"ok"}"#),
            (full, 503, r#"{"status":"disk-full","sinceMs":7}"#),
            (StoreHealth::ReadOnly { since_ms: 8, because }, 503, r#"{"status":"read-only","sinceMs":8}"#),
        ] {
            let reply = reply(&state);
            assert_eq!((reply.status.as_u16(), &reply.body[..]), (status, body.as_bytes()));
        }
    }
}
