//! The checks of PATCH, which this SDK has behind its feature `unstable_patch`, done by the server or by the client, who
//! reads, applies and replaces with If-Match.

use azure_data_cosmos::CosmosError;
use azure_data_cosmos::clients::ContainerClient;
use azure_data_cosmos::models::{ItemResponse, PatchInstructions, PatchOperation};
use azure_data_cosmos::options::{PatchItemOptions, PatchStrategy, Precondition};
use serde_json::{Value, json};

use crate::scene::{Outcome, Scene, create, ensure, equal, etag, has_status, is_stored, read, text, user_part};

const STRATEGIES: [PatchStrategy; 3] = [PatchStrategy::ServerSide, PatchStrategy::ClientSide, PatchStrategy::Auto];

fn document(id: &str) -> Value {
    json!({ "id": id, "pk": "p", "value": 1, "ratio": 0.5, "tags": ["a", "b"], "old": { "deep": [1, null, true] } })
}

async fn patch(
    container: &ContainerClient,
    id: &str,
    operations: Vec<PatchOperation>,
    options: PatchItemOptions,
) -> Result<ItemResponse, CosmosError> {
    container.patch_item("p", id, PatchInstructions::from(operations), Some(options)).await
}

fn by(strategy: PatchStrategy) -> PatchItemOptions {
    PatchItemOptions::default().with_strategy(strategy)
}

pub(crate) async fn a_patch_obeys_the_etag(scene: &Scene) -> Outcome {
    let container = &scene.container;
    for (number, strategy) in STRATEGIES.into_iter().enumerate() {
        let id = format!("patch-{number}");
        let first = create(container, "p", &document(&id)).await?;
        let operations = || {
            vec![
                PatchOperation::increment("/value", 2i64),
                PatchOperation::increment("/ratio", 0.25),
                PatchOperation::add("/tags/1", json!("between")),
                PatchOperation::add("/tags/-", json!("last")),
                PatchOperation::set("/made", json!({ "now": true })),
                PatchOperation::replace("/old/deep/0", json!("one")),
                PatchOperation::move_value("/old/deep", "/deep"),
                PatchOperation::remove("/old"),
            ]
        };
        let guarded = || by(strategy).with_precondition(Precondition::if_match(first.clone()));
        let answer = patch(container, &id, operations(), guarded()).await;
        has_status(200, &answer, &format!("a patch, {strategy:?}"))?;
        let answer = answer.map_err(text)?;
        let newer = etag(&answer)?;
        ensure(newer != first, "a patch kept the etag")?;
        let patched = json!({
            "id": id, "pk": "p", "value": 3, "ratio": 0.75, "tags": ["a", "between", "b", "last"],
            "made": { "now": true }, "deep": ["one", null, true],
        });
        let item: Value = answer.into_model().map_err(text)?;
        equal(&user_part(&item), &patched, &format!("the patched item, {strategy:?}"))?;
        let answer = patch(container, &id, operations(), guarded()).await;
        has_status(412, &answer, &format!("a patch with a stale etag, {strategy:?}"))?;
        let (item, stored) = read(container, "p", &id).await?;
        equal(&user_part(&item), &patched, "the stored item")?;
        equal(stored, newer, "the etag of the stored item")?;
    }
    Ok(())
}

/// Nothing of a list of instructions happens if one of them cannot.
pub(crate) async fn a_patch_that_cannot_be_applied_changes_nothing(scene: &Scene) -> Outcome {
    let container = &scene.container;
    let body = document("patch-refused");
    let current = create(container, "p", &body).await?;
    let server = || by(PatchStrategy::ServerSide);
    for refused in [
        PatchOperation::replace("/absent", json!(1)),
        PatchOperation::remove("/absent"),
        PatchOperation::increment("/tags", 1i64),
        PatchOperation::add("/tags/7", json!(1)),
    ] {
        let what = format!("{refused:?}");
        let answer =
            patch(container, "patch-refused", vec![PatchOperation::set("/value", json!(9)), refused], server());
        has_status(400, &answer.await, &what)?;
        is_stored(container, "p", &body, &current).await?;
    }
    let many = |count| vec![PatchOperation::set("/value", json!(count)); count];
    has_status(400, &patch(container, "patch-refused", many(11), server()).await, "a patch of eleven instructions")?;
    is_stored(container, "p", &body, &current).await?;
    let answer = patch(container, "patch-absent", many(1), server()).await;
    has_status(404, &answer, "a patch of a missing item")?;
    has_status(200, &patch(container, "patch-refused", many(10), server()).await, "a patch of ten instructions")
}

/// Two clients add one a hundred times each, without a condition and without trying again.
pub(crate) async fn racing_patches_lose_no_update(scene: &Scene) -> Outcome {
    async fn increment(container: ContainerClient) -> Outcome {
        for _ in 0..100 {
            let one = vec![PatchOperation::increment("/value", 1i64)];
            let answer = patch(&container, "patch-counter", one, by(PatchStrategy::ServerSide)).await;
            has_status(200, &answer, "an increment")?;
        }
        Ok(())
    }

    create(&scene.container, "p", &document("patch-counter")).await?;
    let clients = [scene.container.clone(), scene.rival.clone()].map(|client| tokio::spawn(increment(client)));
    for client in clients {
        client.await.map_err(|error| error.to_string())??;
    }
    let (item, _) = read(&scene.container, "p", "patch-counter").await?;
    equal(&item["value"], &json!(201), "the counter after 200 increments")
}
