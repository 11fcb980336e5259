//! The checks of change feeds: the newest version of what has changed, and every version and delete.

use std::num::NonZeroU32;

use azure_data_cosmos::FeedScope;
use azure_data_cosmos::clients::ContainerClient;
use azure_data_cosmos::feed::ContinuationToken;
use azure_data_cosmos::models::ChangeFeedOperationType;
use azure_data_cosmos::options::{ChangeFeedMode, ChangeFeedOptions, ChangeFeedStartFrom, MaxItemCountHint};
use futures::TryStreamExt as _;
use serde_json::{Value, json};

use crate::scene::{Outcome, Scene, create, create_container, ensure, equal, has_status, replace, text, user_part};

pub(crate) async fn the_change_feed_tells_each_changed_item_once(scene: &Scene) -> Outcome {
    /// What has changed since a position, or since the beginning; and the position after it.
    async fn changes(
        container: &ContainerClient,
        since: Option<ContinuationToken>,
    ) -> Outcome<(Vec<Value>, ContinuationToken)> {
        let limit = MaxItemCountHint::Limit(NonZeroU32::new(2).ok_or("two is zero")?);
        let mut options = ChangeFeedOptions::default().with_max_item_count(limit);
        if let Some(token) = since {
            options = options.with_continuation_token(token);
        }
        let start = ChangeFeedStartFrom::Beginning;
        let feed = container.query_change_feed::<Value>(FeedScope::full_container(), start, Some(options));
        let mut pages = feed.await.map_err(text)?;
        let mut seen = Vec::new();
        // The feed has no end: an empty page says that it has caught up.
        while let Some(page) = pages.try_next().await.map_err(text)? {
            if page.items().is_empty() {
                break;
            }
            ensure(page.items().len() <= 2, format!("{} changes in a page of 2", page.items().len()))?;
            seen.extend(page.items().iter().filter_map(|change| change.current()).map(user_part));
            ensure(seen.len() <= 20, "the feed never catches up")?;
        }
        Ok((seen, pages.to_continuation_token().map_err(text)?))
    }

    let container = create_container(&scene.database, "feed", "/pk").await?;
    let key = |id: &str| format!("p-{id}");
    let body = |id: &str, value: i64| json!({ "id": id, "pk": key(id), "value": value });
    for id in ["a", "b", "c", "d", "e"] {
        create(&container, key(id), &body(id, 1)).await?;
    }
    replace(&container, key("a"), &body("a", 2), None).await?;
    has_status(204, &container.delete_item(key("c"), "c", None).await, "a delete")?;
    let (seen, position) = changes(&container, None).await?;
    let expected = vec![body("b", 1), body("d", 1), body("e", 1), body("a", 2)];
    equal(seen, expected, "the latest versions, oldest change first")?;
    equal(changes(&container, Some(position.clone())).await?.0, vec![], "what has changed since")?;
    create(&container, key("f"), &body("f", 1)).await?;
    replace(&container, key("b"), &body("b", 2), None).await?;
    let (seen, _) = changes(&container, Some(position)).await?;
    equal(seen, vec![body("f", 1), body("b", 2)], "what has changed since")
}

pub(crate) async fn all_versions_and_deletes_are_told(scene: &Scene) -> Outcome {
    type Change = (Option<ChangeFeedOperationType>, Option<i64>, Option<i64>);

    /// Every change since a position, or since now: what was done, the value after it, and the value before it.
    async fn changes(
        container: &ContainerClient,
        since: Option<ContinuationToken>,
    ) -> Outcome<(Vec<Change>, ContinuationToken)> {
        let mut options = ChangeFeedOptions::default().with_mode(ChangeFeedMode::AllVersionsAndDeletes);
        if let Some(token) = since {
            options = options.with_continuation_token(token);
        }
        let start = ChangeFeedStartFrom::Now;
        let feed = container.query_change_feed::<Value>(FeedScope::full_container(), start, Some(options));
        let mut pages = feed.await.map_err(text)?;
        let mut seen = Vec::new();
        while let Some(page) = pages.try_next().await.map_err(text)? {
            if page.items().is_empty() {
                break;
            }
            let value = |item: Option<&Value>| item.and_then(|item| item["value"].as_i64());
            seen.extend(
                page.items()
                    .iter()
                    .map(|change| (change.operation_type(), value(change.current()), value(change.previous()))),
            );
            ensure(seen.len() <= 20, "the feed never catches up")?;
        }
        Ok((seen, pages.to_continuation_token().map_err(text)?))
    }

    let container = create_container(&scene.database, "versions", "/pk").await?;
    let body = |value: i64| json!({ "id": "a", "pk": "p", "value": value });
    let (seen, position) = changes(&container, None).await?;
    equal(seen, vec![], "what has changed since now")?;
    create(&container, "p", &body(1)).await?;
    replace(&container, "p", &body(2), None).await?;
    has_status(204, &container.delete_item("p", "a", None).await, "a delete")?;
    let (seen, position) = changes(&container, Some(position)).await?;
    let expected = vec![
        (Some(ChangeFeedOperationType::Create), Some(1), None),
        (Some(ChangeFeedOperationType::Replace), Some(2), Some(1)),
        (Some(ChangeFeedOperationType::Delete), None, Some(2)),
    ];
    equal(seen, expected, "every version and the delete")?;
    equal(changes(&container, Some(position)).await?.0, vec![], "what has changed since")
}
