//! What the SDK is answered, operation by condition: the cells of CONFORMANCE.md in its column. One line a cell: operation,
//! target, condition and status, with tabs between them. PATCH is behind the SDK's feature `unstable_patch`, and sent to the server.

use azure_data_cosmos::models::{PatchInstructions, PatchOperation};
use azure_data_cosmos::options::{ItemReadOptions, ItemWriteOptions, PatchItemOptions, PatchStrategy, Precondition};
use serde_json::json;

use crate::scene::{Outcome, Scene, etag, status, text};

const CONDITIONS: [&str; 7] = [
    "none",
    "If-Match: current",
    "If-Match: stale",
    "If-Match: *",
    "If-None-Match: current",
    "If-None-Match: stale",
    "If-None-Match: *",
];

/// Prints every cell.
pub(crate) async fn print(scene: &Scene) -> Outcome {
    let container = &scene.container;
    let mut count = 0;
    for operation in ["read", "create", "replace", "upsert", "patch", "delete"] {
        for (target, condition) in ["present", "absent"].iter().flat_map(|target| CONDITIONS.map(|c| (*target, c))) {
            let (header, which) = condition.split_once(": ").unwrap_or(("", ""));
            // The SDK itself refuses other conditions on a patch than If-Match.
            let has_call = operation != "patch" || header != "If-None-Match";
            if (target == "absent" && which == "current") || !has_call {
                continue;
            }
            count += 1;
            let id = format!("c{count}");
            let body = |n: u32| json!({"id": id, "pk": "p", "n": n});
            let stale = etag(&container.create_item("p", &id, body(1), None).await.map_err(text)?)?;
            let current = etag(&container.replace_item("p", &id, body(2), None).await.map_err(text)?)?;
            if target == "absent" {
                container.delete_item("p", &id, None).await.map_err(text)?;
            }
            let tag = match which {
                "current" => current,
                "stale" => stale,
                other => other.to_owned(),
            };
            let precondition = match header {
                "If-Match" => Some(Precondition::if_match(tag)),
                "If-None-Match" => Some(Precondition::if_none_match(tag)),
                _ => None,
            };
            let reading = precondition.clone().map(|p| ItemReadOptions::default().with_precondition(p));
            let mut patching = PatchItemOptions::default().with_strategy(PatchStrategy::ServerSide);
            patching.precondition = precondition.clone();
            let writing = precondition.map(|p| ItemWriteOptions::default().with_precondition(p));
            let answer = match operation {
                "read" => container.read_item("p", &id, reading).await,
                "create" => container.create_item("p", &id, body(9), writing).await,
                "replace" => container.replace_item("p", &id, body(9), writing).await,
                "upsert" => container.upsert_item("p", &id, body(9), writing).await,
                "patch" => {
                    let set = PatchInstructions::from(vec![PatchOperation::set("/n", json!(9))]);
                    container.patch_item("p", &id, set, Some(patching)).await
                }
                _ => container.delete_item("p", &id, writing).await,
            };
            println!("{operation}\t{target}\t{condition}\t{}", status(&answer));
        }
    }
    Ok(())
}
