//! The checks: each is one claim about the server's answers, named by its function.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use azure_data_cosmos::clients::ContainerClient;
use azure_data_cosmos::feed::ContinuationToken;
use azure_data_cosmos::models::{ContainerProperties, PartitionKey, ThroughputProperties, TransactionalBatch};
use azure_data_cosmos::options::{
    BatchDeleteOptions, BatchReplaceOptions, BatchUpsertOptions, ContentResponseOnWrite, CreateContainerOptions,
    ItemWriteOptions, MaxItemCountHint, OperationOptions, Precondition, QueryOptions,
};
use azure_data_cosmos::{FeedScope, Query};
use futures::TryStreamExt as _;
use serde_json::{Value, json};

use crate::scene::{
    Outcome, Scene, connect, create, create_container, ensure, equal, etag, has_status, id, if_match, if_none_match,
    is_stored, read, replace, status, text, unique, user_part,
};

fn document(id: &str, value: i64) -> Value {
    json!({ "id": id, "pk": "p", "value": value, "tags": ["a", "b"], "nested": { "deep": [1, 2.5, null, true] } })
}

/// A well-formed etag that no document ever had.
fn some_etag() -> String {
    format!("\"{}\"", unique())
}

pub(crate) async fn create_answers_201_and_an_etag(scene: &Scene) -> Outcome {
    let body = document("create", 1);
    let etag = create(&scene.container, "p", &body).await?;
    is_stored(&scene.container, "p", &body, &etag).await
}

pub(crate) async fn create_of_an_existing_item_is_409(scene: &Scene) -> Outcome {
    let body = document("exists", 1);
    let etag = create(&scene.container, "p", &body).await?;
    let answer = scene.container.create_item("p", "exists", document("exists", 2), None).await;
    has_status(409, &answer, "a create of an existing item")?;
    is_stored(&scene.container, "p", &body, &etag).await
}

pub(crate) async fn read_with_the_current_etag_is_304(scene: &Scene) -> Outcome {
    let first = create(&scene.container, "p", &document("not-modified", 1)).await?;
    let answer = scene.container.read_item("p", "not-modified", if_none_match(&first)).await;
    has_status(304, &answer, "a read of what the client has")?;
    let unchanged = answer.map_err(text)?;
    equal(etag(&unchanged)?, first.clone(), "the etag of a 304")?;
    ensure(unchanged.into_body().is_empty(), "a 304 carries a document")?;
    let newer = replace(&scene.container, "p", &document("not-modified", 2), None).await?;
    let answer = scene.container.read_item("p", "not-modified", if_none_match(&first)).await;
    has_status(200, &answer, "a read of what has changed")?;
    let changed = answer.map_err(text)?;
    equal(etag(&changed)?, newer, "the etag of a read of what has changed")?;
    let item: Value = changed.into_model().map_err(text)?;
    equal(&item["value"], &json!(2), "the value read")
}

pub(crate) async fn replace_with_the_current_etag_is_200(scene: &Scene) -> Outcome {
    let first = create(&scene.container, "p", &document("replace", 1)).await?;
    let newer = replace(&scene.container, "p", &document("replace", 2), if_match(&first)).await?;
    ensure(newer != first, "a write kept the etag")?;
    is_stored(&scene.container, "p", &document("replace", 2), &newer).await
}

pub(crate) async fn replace_with_a_stale_etag_is_412(scene: &Scene) -> Outcome {
    let first = create(&scene.container, "p", &document("replace-stale", 1)).await?;
    let newer = replace(&scene.container, "p", &document("replace-stale", 2), if_match(&first)).await?;
    let unquoted = newer.trim_matches('"').to_owned();
    for refused in [first, "nonsense".to_owned(), some_etag(), unquoted] {
        let body = document("replace-stale", 3);
        let answer = scene.container.replace_item("p", "replace-stale", body, if_match(&refused)).await;
        has_status(412, &answer, &format!("a replace with If-Match: {refused}"))?;
        is_stored(&scene.container, "p", &document("replace-stale", 2), &newer).await?;
    }
    Ok(())
}

pub(crate) async fn a_write_of_the_same_body_changes_the_etag(scene: &Scene) -> Outcome {
    let body = document("same-body", 1);
    let first = create(&scene.container, "p", &body).await?;
    let second = replace(&scene.container, "p", &body, None).await?;
    let third = etag(&scene.container.upsert_item("p", "same-body", &body, None).await.map_err(text)?)?;
    let etags = BTreeSet::from([&first, &second, &third]);
    equal(etags.len(), 3, "different etags of three writes")?;
    let answer = scene.container.replace_item("p", "same-body", &body, if_match(&first)).await;
    has_status(412, &answer, "a replace with the first etag")?;
    is_stored(&scene.container, "p", &body, &third).await
}

pub(crate) async fn upsert_with_the_current_etag_is_200(scene: &Scene) -> Outcome {
    let first = create(&scene.container, "p", &document("upsert", 1)).await?;
    let answer = scene.container.upsert_item("p", "upsert", document("upsert", 2), if_match(&first)).await;
    has_status(200, &answer, "an upsert that replaces")?;
    let newer = etag(&answer.map_err(text)?)?;
    ensure(newer != first, "a write kept the etag")?;
    is_stored(&scene.container, "p", &document("upsert", 2), &newer).await
}

pub(crate) async fn upsert_with_a_stale_etag_is_412(scene: &Scene) -> Outcome {
    let first = create(&scene.container, "p", &document("upsert-stale", 1)).await?;
    let newer = replace(&scene.container, "p", &document("upsert-stale", 2), None).await?;
    let body = document("upsert-stale", 3);
    let answer = scene.container.upsert_item("p", "upsert-stale", body, if_match(&first)).await;
    has_status(412, &answer, "an upsert with a stale etag")?;
    is_stored(&scene.container, "p", &document("upsert-stale", 2), &newer).await
}

pub(crate) async fn upsert_without_a_condition_is_last_write_wins(scene: &Scene) -> Outcome {
    let mut etags = BTreeSet::new();
    for (value, expected) in [(1, 201), (2, 200)] {
        let body = document("upsert-any", value);
        let answer = scene.container.upsert_item("p", "upsert-any", &body, None).await;
        has_status(expected, &answer, "an upsert")?;
        let etag = etag(&answer.map_err(text)?)?;
        is_stored(&scene.container, "p", &body, &etag).await?;
        etags.insert(etag);
    }
    equal(etags.len(), 2, "different etags of two writes")
}

pub(crate) async fn upsert_of_an_absent_item_ignores_the_etag(scene: &Scene) -> Outcome {
    let body = document("upsert-absent", 1);
    let answer = scene.container.upsert_item("p", "upsert-absent", &body, if_match(&some_etag())).await;
    has_status(201, &answer, "an upsert of an absent item")?;
    is_stored(&scene.container, "p", &body, &etag(&answer.map_err(text)?)?).await
}

pub(crate) async fn delete_with_a_stale_etag_is_412_and_with_the_current_one_204(scene: &Scene) -> Outcome {
    let first = create(&scene.container, "p", &document("delete", 1)).await?;
    let newer = replace(&scene.container, "p", &document("delete", 2), None).await?;
    let answer = scene.container.delete_item("p", "delete", if_match(&first)).await;
    has_status(412, &answer, "a delete with a stale etag")?;
    is_stored(&scene.container, "p", &document("delete", 2), &newer).await?;
    let answer = scene.container.delete_item("p", "delete", if_match(&newer)).await;
    has_status(204, &answer, "a delete with the current etag")?;
    let answer = scene.container.read_item("p", "delete", None).await;
    has_status(404, &answer, "a read of a deleted item")
}

pub(crate) async fn an_etag_does_not_outlive_its_document(scene: &Scene) -> Outcome {
    let body = document("recreate", 1);
    let first = create(&scene.container, "p", &body).await?;
    has_status(204, &scene.container.delete_item("p", "recreate", None).await, "a delete")?;
    let newer = create(&scene.container, "p", &body).await?;
    ensure(newer != first, "a document created again has the etag of the deleted one")?;
    let answer = scene.container.replace_item("p", "recreate", document("recreate", 2), if_match(&first)).await;
    has_status(412, &answer, "a replace with the etag of the deleted document")?;
    let answer = scene.container.delete_item("p", "recreate", if_match(&first)).await;
    has_status(412, &answer, "a delete with the etag of the deleted document")?;
    let answer = scene.container.read_item("p", "recreate", if_none_match(&first)).await;
    has_status(200, &answer, "a read by a client that has the deleted document")?;
    is_stored(&scene.container, "p", &body, &newer).await
}

pub(crate) async fn missing_items_are_404_with_or_without_an_etag(scene: &Scene) -> Outcome {
    let container = &scene.container;
    for options in [None, if_match(&some_etag())] {
        let answer = container.replace_item("p", "missing", document("missing", 1), options.clone()).await;
        has_status(404, &answer, "a replace of a missing item")?;
        let answer = container.delete_item("p", "missing", options).await;
        has_status(404, &answer, "a delete of a missing item")?;
        let answer = container.read_item("p", "missing", None).await;
        has_status(404, &answer, "a read of a missing item")?;
    }
    Ok(())
}

pub(crate) async fn one_etag_admits_one_of_two_writers(scene: &Scene) -> Outcome {
    let mut current = create(&scene.container, "p", &document("duel", 0)).await?;
    for round in 1..=50 {
        let write = |container: ContainerClient, value| {
            let options = if_match(&current);
            tokio::spawn(async move { container.replace_item("p", "duel", document("duel", value), options).await })
        };
        let (first, second) = (write(scene.container.clone(), round), write(scene.rival.clone(), -round));
        let (first, second) = tokio::try_join!(first, second).map_err(|error| error.to_string())?;
        let mut statuses = [status(&first), status(&second)];
        statuses.sort_unstable();
        equal(statuses, [200, 412], &format!("the statuses of round {round}"))?;
        let winner = if first.is_ok() { round } else { -round };
        let (item, newer) = read(&scene.container, "p", "duel").await?;
        equal(&item["value"], &json!(winner), &format!("the winner's value in round {round}"))?;
        ensure(newer != current, format!("round {round} kept the etag"))?;
        current = newer;
    }
    Ok(())
}

pub(crate) async fn racing_increments_lose_no_update(scene: &Scene) -> Outcome {
    /// Adds one until a hundred additions were accepted: the etags of those, and how many were refused.
    async fn increment(container: ContainerClient) -> Outcome<(Vec<String>, u32)> {
        let (mut accepted, mut refused) = (Vec::new(), 0);
        while accepted.len() < 100 {
            let (item, current) = read(&container, "p", "counter").await?;
            let value = item["value"].as_i64().ok_or("the counter is no number")?;
            let answer =
                container.replace_item("p", "counter", document("counter", value + 1), if_match(&current)).await;
            if status(&answer) == 412 {
                refused += 1;
            } else {
                has_status(200, &answer, "an increment")?;
                accepted.push(etag(&answer.map_err(text)?)?);
            }
        }
        Ok((accepted, refused))
    }

    create(&scene.container, "p", &document("counter", 0)).await?;
    let clients = [scene.container.clone(), scene.rival.clone()].map(|client| tokio::spawn(increment(client)));
    let (mut etags, mut refused) = (Vec::new(), 0);
    for client in clients {
        let (accepted, lost) = client.await.map_err(|error| error.to_string())??;
        etags.extend(accepted);
        refused += lost;
    }
    equal(etags.len(), 200, "accepted increments")?;
    equal(etags.iter().collect::<BTreeSet<_>>().len(), 200, "different etags of accepted increments")?;
    let (item, _) = read(&scene.container, "p", "counter").await?;
    equal(&item["value"], &json!(200), &format!("the counter after 200 accepted and {refused} refused writes"))
}

pub(crate) async fn item_ids_may_hold_any_text(scene: &Scene) -> Outcome {
    let long = "k".repeat(255);
    let ids = [
        "Zoë 東京 🚀",
        "two words",
        "100%",
        "a%20b",
        "%2F",
        "a+b&c=d;e,f",
        "quotes ' and \"",
        "~!@$^*()[]{}|<>:.",
        "who?what=1&why=2",
        &long,
    ];
    for name in ids {
        let first = create(&scene.container, "p", &document(name, 1)).await?;
        is_stored(&scene.container, "p", &document(name, 1), &first).await?;
        let answer = scene.container.read_item("p", name, if_none_match(&first)).await;
        has_status(304, &answer, name)?;
        let newer = replace(&scene.container, "p", &document(name, 2), if_match(&first)).await?;
        has_status(412, &scene.container.delete_item("p", name, if_match(&first)).await, name)?;
        has_status(204, &scene.container.delete_item("p", name, if_match(&newer)).await, name)?;
        has_status(404, &scene.container.read_item("p", name, None).await, name)?;
    }
    Ok(())
}

pub(crate) async fn hierarchical_partition_keys(scene: &Scene) -> Outcome {
    let container = create_container(&scene.database, "hierarchical", ("/tenant", "/user")).await?;
    let body = |(tenant, user), value| json!({ "id": "same", "tenant": tenant, "user": user, "value": value });
    let places = [("t1", "u1"), ("t1", "u2"), ("t2", "u1")];
    let mut etags = Vec::new();
    for place in places {
        etags.push(create(&container, place, &body(place, 1)).await?);
    }
    let [own, neighbour, stranger] = places;
    let answer = container.create_item(own, "same", body(own, 1), None).await;
    has_status(409, &answer, "a create of an existing item")?;
    let newer = replace(&container, own, &body(own, 2), if_match(&etags[0])).await?;
    let answer = container.replace_item(own, "same", body(own, 3), if_match(&etags[0])).await;
    has_status(412, &answer, "a replace with a stale etag")?;
    is_stored(&container, own, &body(own, 2), &newer).await?;
    is_stored(&container, neighbour, &body(neighbour, 1), &etags[1]).await?;
    is_stored(&container, stranger, &body(stranger, 1), &etags[2]).await?;
    let found = query(&container, Query::from("SELECT * FROM c"), FeedScope::partition(neighbour)).await?;
    equal(found, vec![body(neighbour, 1)], "a query of one full key")?;
    let mut found = query(&container, Query::from("SELECT * FROM c"), FeedScope::partition("t1")).await?;
    found.sort_by_key(|item| item["user"].to_string());
    equal(found, vec![body(own, 2), body(neighbour, 1)], "a query of a key's first part")?;
    let answer = container.delete_item(neighbour, "same", if_match(&etags[1])).await;
    has_status(204, &answer, "a delete with the current etag")?;
    has_status(404, &container.read_item(neighbour, "same", None).await, "a read of the deleted item")?;
    has_status(200, &container.read_item(stranger, "same", None).await, "a read of its namesake")
}

pub(crate) async fn null_missing_and_text_partition_keys_differ(scene: &Scene) -> Outcome {
    let keyed = |key: Value| move |value: i64| json!({ "id": "keyless", "pk": key.clone(), "value": value });
    type Body = Box<dyn Fn(i64) -> Value + Send + Sync>;
    let places: [(PartitionKey, Body); 6] = [
        (PartitionKey::NULL.into(), Box::new(keyed(Value::Null))),
        (PartitionKey::UNDEFINED.into(), Box::new(|value| json!({ "id": "keyless", "value": value }))),
        ("null".into(), Box::new(keyed(json!("null")))),
        ("".into(), Box::new(keyed(json!("")))),
        (0.into(), Box::new(keyed(json!(0)))),
        (false.into(), Box::new(keyed(json!(false)))),
    ];
    let mut etags = Vec::new();
    for (key, body) in &places {
        etags.push(create(&scene.container, key.clone(), &body(1)).await?);
    }
    for (value, ((key, body), first)) in (2..).zip(places.iter().zip(&etags)) {
        is_stored(&scene.container, key.clone(), &body(1), first).await?;
        let newer = replace(&scene.container, key.clone(), &body(value), if_match(first)).await?;
        let answer = scene.container.delete_item(key.clone(), "keyless", if_match(first)).await;
        has_status(412, &answer, "a delete with a stale etag")?;
        is_stored(&scene.container, key.clone(), &body(value), &newer).await?;
        let answer = scene.container.delete_item(key.clone(), "keyless", if_match(&newer)).await;
        has_status(204, &answer, "a delete with the current etag")?;
        let answer = scene.container.read_item(key.clone(), "keyless", None).await;
        has_status(404, &answer, "a read of the deleted item")?;
    }
    Ok(())
}

pub(crate) async fn pages_hold_every_item_once(scene: &Scene) -> Outcome {
    let container = create_container(&scene.database, "paged", "/pk").await?;
    let names: Vec<String> = (0..25).map(|number| format!("page-{number:02}")).collect();
    for (number, name) in names.iter().enumerate() {
        let key = format!("p{}", number % 3);
        create(&container, key.clone(), &json!({ "id": name, "pk": key })).await?;
    }
    let limit = MaxItemCountHint::Limit(NonZeroU32::new(10).ok_or("ten is zero")?);
    let (mut seen, mut pages) = (Vec::new(), 0);
    let mut continuation: Option<ContinuationToken> = None;
    loop {
        // A fresh iterator for every page: only the continuation carries the position over.
        let mut options = QueryOptions::default().with_max_item_count(limit);
        if let Some(token) = continuation.take() {
            options = options.with_continuation_token(token);
        }
        let found = container.query_items::<Value>("SELECT * FROM c", FeedScope::full_container(), Some(options));
        let mut iterator = found.await.map_err(text)?.into_pages();
        let Some(page) = iterator.try_next().await.map_err(text)? else { break };
        let page = page.into_items();
        ensure(page.len() <= 10, format!("{} items in a page of 10", page.len()))?;
        for item in &page {
            seen.push(id(item)?.to_owned());
        }
        pages += 1;
        ensure(pages <= 26, "the pages never end")?;
        if seen.len() >= names.len() && page.is_empty() {
            break;
        }
        continuation = Some(iterator.to_continuation_token().map_err(text)?);
    }
    seen.sort_unstable();
    equal(seen, names.clone(), "what the pages held")?;
    ensure(pages >= 3, format!("25 items in {pages} pages of 10"))?;
    let mut found = query(&container, Query::from("SELECT * FROM c"), FeedScope::full_container()).await?;
    found.sort_by_key(|item| item["id"].to_string());
    let found: Vec<String> = found.iter().map(|item| id(item).map(str::to_owned)).collect::<Outcome<_>>()?;
    equal(found, names, "what one iterator yields")
}

pub(crate) async fn queries_take_parameters(scene: &Scene) -> Outcome {
    let fruits = [("apple", 3), ("banana", 1), ("cherry, \"dark\"", 8), ("apple", 5)];
    for (number, (name, price)) in fruits.into_iter().enumerate() {
        let key = if number % 2 == 0 { "even" } else { "odd" };
        let item = json!({ "id": format!("fruit-{number}"), "pk": key, "name": name, "price": price });
        create(&scene.container, key, &item).await?;
    }
    let everywhere = FeedScope::full_container;
    let expectations = [
        ("apple", 0, everywhere(), vec![3, 5]),
        ("apple", 4, everywhere(), vec![5]),
        ("cherry, \"dark\"", 0, everywhere(), vec![8]),
        ("apple' OR 1=1", 0, everywhere(), vec![]),
        ("apple", 0, FeedScope::partition("even"), vec![3]),
    ];
    for (name, least, scope, expected) in expectations {
        let question = Query::from("SELECT * FROM c WHERE c.name = @name AND c.price >= @least")
            .with_parameter("@name", name)
            .and_then(|question| question.with_parameter("@least", least))
            .map_err(text)?;
        let found = query(&scene.container, question, scope).await?;
        let mut prices: Vec<i64> = found.iter().filter_map(|item| item["price"].as_i64()).collect();
        prices.sort_unstable();
        equal(prices, expected, &format!("the prices of {name} from {least}"))?;
    }
    match query(&scene.container, Query::from("SELEKT nothing"), FeedScope::partition("even")).await {
        Err(reason) if reason.starts_with("400 ") => Ok(()),
        other => Err(format!("a query that is no SQL: expected 400, got {other:?}")),
    }
}

pub(crate) async fn queries_merge_partition_key_ranges(scene: &Scene) -> Outcome {
    let wide = ContainerProperties::new("wide", "/pk".into());
    let options = CreateContainerOptions::default().with_throughput(ThroughputProperties::manual(18_000));
    scene.database.create_container(wide, Some(options)).await.map_err(text)?;
    let wide = scene.database.container_client("wide", None).await.map_err(text)?;
    for number in 0..30 {
        let key = format!("p{number}");
        create(&wide, key.clone(), &json!({ "id": format!("w{number}"), "pk": key, "number": number })).await?;
    }
    let numbers = async |question: &str| -> Outcome<Vec<i64>> {
        let found = query(&wide, Query::from(question), FeedScope::full_container()).await?;
        Ok(found.iter().filter_map(|item| item["number"].as_i64()).collect())
    };
    let mut all = numbers("SELECT c.number FROM c").await?;
    all.sort_unstable();
    equal(all, (0..30).collect(), "all numbers")?;
    equal(
        numbers("SELECT c.number FROM c WHERE c.number > 26 ORDER BY c.number DESC").await?,
        vec![29, 28, 27],
        "in order",
    )
}

pub(crate) async fn a_batch_is_applied_whole(scene: &Scene) -> Outcome {
    let container = &scene.container;
    let replaced = create(container, "batch", &member("batch-replaced", 1)).await?;
    let deleted = create(container, "batch", &member("batch-deleted", 1)).await?;
    let batch = TransactionalBatch::new("batch")
        .create_item(member("batch-created", 1))
        .and_then(|batch| {
            let options = BatchReplaceOptions::default().with_precondition(Precondition::if_match(replaced));
            batch.replace_item("batch-replaced", member("batch-replaced", 2), Some(options))
        })
        .and_then(|batch| batch.upsert_item(member("batch-upserted", 1), None))
        .map_err(text)?
        .read_item("batch-replaced", None);
    let options = BatchDeleteOptions::default().with_precondition(Precondition::if_match(deleted));
    let batch = batch.delete_item("batch-deleted", Some(options));

    let (status, answers) = execute(container, batch).await?;
    equal(status, 200, "the status of the batch")?;
    let statuses: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
    equal(statuses, vec![201, 200, 201, 200, 204], "the statuses in the batch")?;
    let written = [member("batch-created", 1), member("batch-replaced", 2), member("batch-upserted", 1)];
    for (item, (_, etag)) in written.iter().zip(&answers) {
        let etag = etag.as_deref().ok_or("a write in a batch has no etag")?;
        is_stored(container, "batch", item, etag).await?;
    }
    equal(answers[3].1.as_deref(), answers[1].1.as_deref(), "the etag that the batch reads of its own write")?;
    has_status(404, &container.read_item("batch", "batch-deleted", None).await, "a read of the deleted item")
}

pub(crate) async fn a_failed_batch_writes_nothing(scene: &Scene) -> Outcome {
    type Step = Box<dyn Fn(TransactionalBatch) -> azure_data_cosmos::Result<TransactionalBatch> + Send + Sync>;

    let container = &scene.container;
    let stale = create(container, "batch", &member("batch-kept", 1)).await?;
    let current = replace(container, "batch", &member("batch-kept", 2), None).await?;
    let condition = Precondition::if_match(stale);
    let [on_replace, on_upsert, on_delete] = [condition.clone(), condition.clone(), condition];
    let failing: [(u16, &str, Step); 7] = [
        (
            412,
            "a replace with a stale etag",
            Box::new(move |batch| {
                let options = BatchReplaceOptions::default().with_precondition(on_replace.clone());
                batch.replace_item("batch-kept", member("batch-kept", 9), Some(options))
            }),
        ),
        (
            412,
            "an upsert with a stale etag",
            Box::new(move |batch| {
                let options = BatchUpsertOptions::default().with_precondition(on_upsert.clone());
                batch.upsert_item(member("batch-kept", 9), Some(options))
            }),
        ),
        (
            412,
            "a delete with a stale etag",
            Box::new(move |batch| {
                let options = BatchDeleteOptions::default().with_precondition(on_delete.clone());
                Ok(batch.delete_item("batch-kept", Some(options)))
            }),
        ),
        (409, "a create of an existing item", Box::new(|batch| batch.create_item(member("batch-kept", 9)))),
        (
            404,
            "a replace of a missing item",
            Box::new(|batch| batch.replace_item("batch-absent", member("batch-absent", 1), None)),
        ),
        (404, "a read of a missing item", Box::new(|batch| Ok(batch.read_item("batch-absent", None)))),
        (404, "a delete of a missing item", Box::new(|batch| Ok(batch.delete_item("batch-absent", None)))),
    ];
    for (expected, what, step) in failing {
        let batch = TransactionalBatch::new("batch")
            .create_item(member("batch-never", 1))
            .and_then(step)
            .and_then(|batch| batch.upsert_item(member("batch-kept", 8), None))
            .map_err(text)?;
        let (status, answers) = execute(container, batch).await?;
        equal(status, 207, &format!("the status of a batch with {what}"))?;
        let statuses: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
        equal(statuses, vec![424, expected, 424], &format!("the statuses in a batch with {what}"))?;
        has_status(404, &container.read_item("batch", "batch-never", None).await, "a read of what was not written")?;
        is_stored(container, "batch", &member("batch-kept", 2), &current).await?;
    }
    Ok(())
}

/// The SDK asks for no body after a write unless told to; this is the other way.
pub(crate) async fn a_write_returns_the_document_when_asked(scene: &Scene) -> Outcome {
    let mut operation = OperationOptions::default();
    operation.content_response_on_write = Some(ContentResponseOnWrite::Enabled);
    let options = ItemWriteOptions::default().with_operation_options(operation);
    let body = document("echo", 1);
    let answer = scene.container.create_item("p", "echo", &body, Some(options.clone())).await;
    has_status(201, &answer, "a create")?;
    let item: Value = answer.map_err(text)?.into_model().map_err(text)?;
    equal(&user_part(&item), &body, "the item a create returns")?;
    let answer = scene.container.replace_item("p", "echo", document("echo", 2), Some(options)).await;
    has_status(200, &answer, "a replace")?;
    let answer = answer.map_err(text)?;
    let header = etag(&answer)?;
    let item: Value = answer.into_model().map_err(text)?;
    equal(&user_part(&item), &document("echo", 2), "the item a replace returns")?;
    equal(item["_etag"].as_str(), Some(header.as_str()), "the etag in the body, against the header")
}

pub(crate) async fn a_wrong_key_is_401(scene: &Scene) -> Outcome {
    // The bytes 0x07, sixty-four of them.
    let key = format!("{}Bw==", "BwcH".repeat(21));
    let answer = match connect(&scene.endpoint, &key).await {
        Ok(stranger) => stranger.create_database("never", None).await.map(drop),
        Err(error) => Err(error),
    };
    match answer {
        Ok(()) => Err("a client with a wrong key created a database".to_owned()),
        Err(error) => equal(u16::from(error.status().status_code()), 401, "the status of a call with a wrong key"),
    }
}

/// An item of the partition that the batches write.
fn member(id: &str, value: i64) -> Value {
    json!({ "id": id, "pk": "batch", "value": value })
}

/// Executes a batch: its status, and each operation's status and etag.
async fn execute(container: &ContainerClient, batch: TransactionalBatch) -> Outcome<(u16, Vec<(u16, Option<String>)>)> {
    let answer = container.execute_transactional_batch(batch, None).await.map_err(text)?;
    let status = answer.status().status_code().into();
    let results = answer.into_model().map_err(text)?;
    let operations = results.results().iter();
    Ok((status, operations.map(|result| (result.status_code(), result.etag().map(str::to_owned))).collect()))
}

/// All results of a query, without their system properties.
async fn query(container: &ContainerClient, query: Query, scope: FeedScope) -> Outcome<Vec<Value>> {
    let results = container.query_items::<Value>(query, scope, None).await.map_err(text)?;
    let items: Vec<Value> = results.try_collect().await.map_err(text)?;
    Ok(items.iter().map(user_part).collect())
}
