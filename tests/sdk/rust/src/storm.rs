//! A storm of conditional writes: many clients read documents and replace them if nobody else has, until standard input
//! ends. The server is killed and started again meanwhile.
//!
//! Prints `ready` once every client has connected, and then a line of JSON for every write it tried: what it had read,
//! what it wrote, and whether that was acknowledged, refused, or is unknown. It judges nothing. The JavaScript, Python
//! and Go programs beside it do the same.

use std::hash::{BuildHasher as _, RandomState};
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use azure_data_cosmos::clients::ContainerClient;
use serde_json::json;

use crate::scene::{Outcome, connect, etag, if_match, read, status, text};

/// How long a client lets a server alone that did not answer.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs the storm with so many clients on so many documents.
pub(crate) async fn run(endpoint: &str, key: &str, clients: usize, documents: u64) -> Outcome {
    let over = Arc::new(AtomicBool::new(false));
    let input_ends = Arc::clone(&over);
    std::thread::spawn(move || {
        // However the input ends, nobody wants more of this.
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        input_ends.store(true, Ordering::Relaxed);
    });
    let mut containers = Vec::new();
    for _ in 0..clients {
        let client = connect(endpoint, key).await.map_err(text)?;
        containers.push(client.database_client("storm").container_client("documents", None).await.map_err(text)?);
    }
    println!("ready");
    let writers = containers.into_iter().enumerate().map(|(number, container)| {
        tokio::spawn(storm(container, format!("rust-{number}"), documents, Arc::clone(&over)))
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Reads and replaces documents, one after another, for as long as the storm lasts.
async fn storm(container: ContainerClient, writer: String, documents: u64, over: Arc<AtomicBool>) {
    let random = RandomState::new();
    for number in 1_u64.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let id = format!("d{}", random.hash_one(number) % documents);
        let asked = now();
        let Ok((item, seen)) = read(&container, id.clone(), &id).await else {
            // The server is away. A read promises nothing, so there is nothing to tell.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let count = item["count"].as_u64().unwrap_or_default();
        let marker = format!("{writer}-{number}");
        let body = json!({
            "id": id, "pk": id, "count": count + 1, "marker": marker, "previous": item["marker"],
        });
        let began = now();
        let answer = container.replace_item(id.clone(), &id, body, if_match(&seen)).await;
        let ended = now();
        let (outcome, status) = match (&answer, status(&answer)) {
            (Ok(_), _) => ("acknowledged", None),
            (Err(_), 412) => ("refused", None),
            (Err(_), status) => ("unknown", Some(status)),
        };
        let attempt = json!({
            "writer": writer,
            "document": id,
            "asked": asked,
            "read": { "etag": seen, "count": count, "marker": item["marker"] },
            "marker": marker,
            "began": began,
            "outcome": outcome,
            "status": status,
            "etag": answer.ok().and_then(|answer| etag(&answer).ok()),
            "ended": ended,
        });
        println!("{attempt}");
        if outcome == "unknown" {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Milliseconds since 1970: the one clock that programs in all languages share.
fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}
