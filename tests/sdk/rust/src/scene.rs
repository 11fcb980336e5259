//! What every check stands on: two clients of one database, and short forms of the SDK's calls that turn answers into
//! comparable values. No expectation about the server lives here.

use std::fmt::Debug;
use std::time::{SystemTime, UNIX_EPOCH};

use azure_data_cosmos::clients::{ContainerClient, DatabaseClient};
use azure_data_cosmos::models::{ContainerProperties, ItemResponse, PartitionKey};
use azure_data_cosmos::options::{ItemReadOptions, ItemWriteOptions, Precondition};
use azure_data_cosmos::{AccountEndpoint, AccountReference, CosmosClient, CosmosError, RoutingStrategy};
use serde_json::Value;

/// A check's end: nothing, or why it failed.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// The database of this run, its container on `/pk`, and the same container as a second client sees it.
pub(crate) struct Scene {
    pub(crate) endpoint: String,
    pub(crate) database: DatabaseClient,
    pub(crate) container: ContainerClient,
    pub(crate) rival: ContainerClient,
}

impl Scene {
    /// Connects two clients and creates a database that only this run knows.
    pub(crate) async fn open(endpoint: &str, key: &str) -> Outcome<Self> {
        let name = format!("sdk-rust-{}", unique());
        let client = connect(endpoint, key).await.map_err(text)?;
        client.create_database(&name, None).await.map_err(text)?;
        let database = client.database_client(name.as_str());
        let container = create_container(&database, "items", "/pk").await?;
        let second = connect(endpoint, key).await.map_err(text)?;
        let rival = second.database_client(name.as_str()).container_client("items", None).await.map_err(text)?;
        Ok(Self { endpoint: endpoint.to_owned(), database, container, rival })
    }

    /// Deletes the database of this run.
    pub(crate) async fn close(self) -> Outcome {
        self.database.delete(None).await.map(drop).map_err(text)
    }
}

/// A client with the SDK's own defaults.
pub(crate) async fn connect(endpoint: &str, key: &str) -> Result<CosmosClient, CosmosError> {
    let endpoint: AccountEndpoint = endpoint.parse()?;
    let account = AccountReference::with_authentication_key(endpoint, key.to_owned());
    CosmosClient::builder().build(account, RoutingStrategy::PreferredRegions(vec!["Local".into()])).await
}

/// Creates a container and returns a client of it.
pub(crate) async fn create_container(
    database: &DatabaseClient,
    name: &'static str,
    key: impl Into<azure_data_cosmos::models::PartitionKeyDefinition>,
) -> Outcome<ContainerClient> {
    let properties = ContainerProperties::new(name, key.into());
    database.create_container(properties, None).await.map_err(text)?;
    database.container_client(name, None).await.map_err(text)
}

/// An SDK error as one line.
pub(crate) fn text(error: CosmosError) -> String {
    format!("{} {error}", u16::from(error.status().status_code()))
}

/// The status of an answer, whether the SDK calls it a success or an error.
pub(crate) fn status(answer: &Result<ItemResponse, CosmosError>) -> u16 {
    let status = match answer {
        Ok(response) => response.status(),
        Err(error) => error.status(),
    };
    status.status_code().into()
}

/// Fails unless the answer has the status.
pub(crate) fn has_status(expected: u16, answer: &Result<ItemResponse, CosmosError>, what: &str) -> Outcome {
    match status(answer) {
        actual if actual == expected => Ok(()),
        actual => Err(match answer {
            Ok(_) => format!("status of {what}: expected {expected}, got {actual}"),
            Err(error) => format!("status of {what}: expected {expected}, got {actual}: {error}"),
        }),
    }
}

/// Fails unless the two values are equal.
pub(crate) fn equal<T: PartialEq + Debug>(actual: T, expected: T, what: &str) -> Outcome {
    if actual == expected {
        return Ok(());
    }
    Err(format!("{what}: expected {expected:?}, got {actual:?}"))
}

/// Fails unless the claim holds.
pub(crate) fn ensure(claim: bool, otherwise: impl Into<String>) -> Outcome {
    if claim { Ok(()) } else { Err(otherwise.into()) }
}

/// The etag header of an answer.
pub(crate) fn etag(answer: &ItemResponse) -> Outcome<String> {
    let etag = answer.headers().etag().ok_or("the answer has no etag header")?;
    Ok(etag.to_string())
}

/// Write options that ask for the version with this etag.
pub(crate) fn if_match(etag: &str) -> Option<ItemWriteOptions> {
    Some(ItemWriteOptions::default().with_precondition(Precondition::if_match(etag.to_owned())))
}

/// Read options that ask for anything but the version with this etag.
pub(crate) fn if_none_match(etag: &str) -> Option<ItemReadOptions> {
    Some(ItemReadOptions::default().with_precondition(Precondition::if_none_match(etag.to_owned())))
}

/// The members of an item that belong to its user: without the ones whose names begin with an underscore.
pub(crate) fn user_part(item: &Value) -> Value {
    let members = item.as_object().into_iter().flatten();
    members
        .filter(|(name, _)| !name.starts_with('_'))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The id of an item.
pub(crate) fn id(item: &Value) -> Outcome<&str> {
    item["id"].as_str().ok_or_else(|| format!("an item without an id: {item}"))
}

/// Reads an item: its document and the etag that header and body agree on.
pub(crate) async fn read(
    container: &ContainerClient,
    key: impl Into<PartitionKey>,
    id: &str,
) -> Outcome<(Value, String)> {
    let answer = container.read_item(key, id, None).await;
    has_status(200, &answer, &format!("a read of {id}"))?;
    let answer = answer.map_err(text)?;
    let header = etag(&answer)?;
    let item: Value = answer.into_model().map_err(text)?;
    equal(item["_etag"].as_str(), Some(header.as_str()), "the etag in the body, against the header")?;
    Ok((item, header))
}

/// Fails unless the stored item is exactly `expected`, under exactly `etag`.
pub(crate) async fn is_stored(
    container: &ContainerClient,
    key: impl Into<PartitionKey>,
    expected: &Value,
    etag: &str,
) -> Outcome {
    let (item, stored_etag) = read(container, key, id(expected)?).await?;
    equal(&user_part(&item), expected, "the stored item")?;
    equal(stored_etag.as_str(), etag, "the etag of the stored item")
}

/// Creates an item and returns its etag.
pub(crate) async fn create(container: &ContainerClient, key: impl Into<PartitionKey>, item: &Value) -> Outcome<String> {
    let answer = container.create_item(key, id(item)?, item, None).await;
    has_status(201, &answer, &format!("a create of {item}"))?;
    let etag = etag(&answer.map_err(text)?)?;
    let quoted = etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"');
    ensure(quoted, format!("an etag carries its quotes: {etag}"))?;
    Ok(etag)
}

/// Replaces an item and returns its new etag.
pub(crate) async fn replace(
    container: &ContainerClient,
    key: impl Into<PartitionKey>,
    item: &Value,
    options: Option<ItemWriteOptions>,
) -> Outcome<String> {
    let answer = container.replace_item(key, id(item)?, item, options).await;
    has_status(200, &answer, &format!("a replace of {item}"))?;
    etag(&answer.map_err(text)?)
}

/// A number that differs between runs and between calls: the time is enough, as every run is one process.
pub(crate) fn unique() -> String {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{}", since_epoch.as_nanos(), std::process::id())
}
