//! The checks of what a container's properties promise: unique keys, and times to live.

use std::time::{Duration, Instant};

use azure_data_cosmos::clients::ContainerClient;
use azure_data_cosmos::models::{ContainerProperties, UniqueKey, UniqueKeyPolicy};
use serde_json::json;

use crate::scene::{Outcome, Scene, create, ensure, equal, has_status, replace, status, text};

/// Creates a container on `/pk` with further properties, and returns a client of it.
async fn create_container(
    scene: &Scene,
    name: &'static str,
    properties: impl FnOnce(ContainerProperties) -> ContainerProperties,
) -> Outcome<ContainerClient> {
    let properties = properties(ContainerProperties::new(name, "/pk".into()));
    scene.database.create_container(properties, None).await.map_err(text)?;
    scene.database.container_client(name, None).await.map_err(text)
}

pub(crate) async fn unique_keys_are_kept(scene: &Scene) -> Outcome {
    let email = UniqueKeyPolicy::default().with_unique_key(UniqueKey::default().with_path("/email"));
    let people = create_container(scene, "people", |it| it.with_unique_key_policy(email)).await?;
    let person = |id: &str, email: &str| json!({ "id": id, "pk": "p", "email": email });
    create(&people, "p", &person("a", "x")).await?;
    let answer = people.create_item("p", "b", person("b", "x"), None).await;
    has_status(409, &answer, "a create with another's unique key")?;
    create(&people, "p", &person("b", "y")).await?;
    let answer = people.replace_item("p", "b", person("b", "x"), None).await;
    has_status(409, &answer, "a replace with another's unique key")?;
    let answer = people.upsert_item("p", "b", person("b", "x"), None).await;
    has_status(409, &answer, "an upsert with another's unique key")?;
    replace(&people, "p", &person("a", "z"), None).await?;
    replace(&people, "p", &person("b", "x"), None).await.map(drop)
}

pub(crate) async fn items_live_as_long_as_they_are_told(scene: &Scene) -> Outcome {
    let brief = create_container(scene, "brief", |it| it.with_default_ttl(1)).await?;
    create(&brief, "p", &json!({ "id": "default", "pk": "p" })).await?;
    create(&brief, "p", &json!({ "id": "own", "pk": "p", "ttl": 1000 })).await?;
    create(&brief, "p", &json!({ "id": "ever", "pk": "p", "ttl": -1 })).await?;
    let begun = Instant::now();
    while status(&brief.read_item("p", "default", None).await) != 404 {
        ensure(begun.elapsed() < Duration::from_secs(30), "an item outlives its time")?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for id in ["own", "ever"] {
        has_status(200, &brief.read_item("p", id, None).await, id)?;
    }
    let again = create(&brief, "p", &json!({ "id": "default", "pk": "p" })).await;
    equal(again.is_ok(), true, "whether the id is free again")
}
