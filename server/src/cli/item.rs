//! One document of a container: the flags that name it, and its versions.

use http::StatusCode;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Failure;
use super::place::{Answer, Ask, ContainerArgs, Place};
use super::remote::Refusal;

/// What a request says the partition key by.
pub(super) const PARTITION_KEY: &str = "x-ms-documentdb-partitionkey";

/// What a request asks for the past by.
pub(super) const AS_OF: &str = "x-etagdb-as-of";

/// The flags that name a document.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) of: ContainerArgs,

    /// The document's partition key: text, or JSON for what is no text, such as 7 or '"7"'; once for each path of a
    /// hierarchical one. Without it the document is looked for by its id, which finds none that was deleted.
    #[arg(long = "partition", value_name = "VALUE")]
    partition: Vec<String>,

    /// The document's id.
    #[arg(value_name = "ID")]
    pub(super) id: String,
}

/// A document, and the store it is in.
pub(super) struct Item<'a> {
    pub(super) place: Place,
    pub(super) args: &'a Args,
    /// The partition key as a header has it.
    key: String,
}

/// A version of a document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Version {
    /// Its etag, in quotes.
    #[serde(rename = "_etag")]
    quoted: String,
    #[serde(rename = "_lsn")]
    pub(super) commit: u64,
    pub(super) time_ms: u64,
    pub(super) body_bytes: u64,
    /// Whether it is the trace of a deletion.
    pub(super) deleted: bool,
    #[serde(rename = "previousLsn")]
    pub(super) previous: Option<u64>,
}

/// What happened to a document in one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Event {
    Created,
    Replaced,
    Deleted,
    /// Created or replaced: the version before it is no longer kept.
    Written,
}

impl Version {
    /// The etag, without quotes.
    pub(super) fn etag(&self) -> &str {
        self.quoted.trim_matches('"')
    }
}

/// What the write of each version did to the document; `versions` are newest first.
pub(super) fn events(versions: &[Version]) -> impl Iterator<Item = (&Version, Event)> {
    versions.iter().enumerate().map(|(number, version)| {
        let event = match (version.deleted, versions.get(number + 1), version.previous) {
            (true, ..) => Event::Deleted,
            (false, Some(before), _) if before.deleted => Event::Created,
            (false, Some(_), _) => Event::Replaced,
            (false, None, None) => Event::Created,
            (false, None, Some(_)) => Event::Written,
        };
        (version, event)
    })
}

impl Event {
    pub(super) fn word(self) -> &'static str {
        match self {
            Event::Created => "created",
            Event::Replaced => "replaced",
            Event::Deleted => "deleted",
            Event::Written => "written",
        }
    }
}

/// The JSON value that an argument stands for: its text, unless it is JSON itself.
fn component(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

impl Args {
    /// Opens the store, and finds out the document's partition key, as of `at` if that is given.
    pub(super) fn open(&self, at: Option<&str>) -> Result<Item<'_>, Failure> {
        let place = self.of.place.open()?;
        let key = self.partition_key(&place, at)?;
        Ok(Item { place, args: self, key })
    }

    fn partition_key(&self, place: &Place, at: Option<&str>) -> Result<String, Failure> {
        let paths = partition_paths(place, &self.of)?;
        if !self.partition.is_empty() {
            if self.partition.len() != paths.len() {
                let paths = paths.join(", ");
                let given = self.partition.len();
                return Err(Failure::Usage(format!("the partition key is of {paths}, and --partition gives {given}")));
            }
            return Ok(self.partition.iter().map(|text| component(text)).collect::<Value>().to_string());
        }
        if paths == ["/id"] {
            return Ok(json!([self.id]).to_string());
        }
        let mut keys = self.keys_of_id(place, &paths, at)?;
        match (keys.pop(), keys.len()) {
            (Some(key), 0) => Ok(key.to_string()),
            (None, _) => Err(Failure::Failed(format!(
                "there is no document {:?} in {}/{}; one that was deleted is found by --partition",
                self.id, self.of.database, self.of.container
            ))),
            (Some(key), more) => Err(Failure::Usage(format!(
                "{} documents have the id {:?}: say which one by --partition, such as that of {key}",
                more + 1,
                self.id
            ))),
        }
    }

    /// The partition keys of the documents with this id.
    fn keys_of_id(&self, place: &Place, paths: &[String], at: Option<&str>) -> Result<Vec<Value>, Failure> {
        let query = json!({
            "query": "SELECT * FROM c WHERE c.id = @id",
            "parameters": [{ "name": "@id", "value": self.id }],
        });
        let mut keys = Vec::new();
        for page in place.query(&self.of, &query, at)? {
            for document in page? {
                let of_path = |path: &String| document.pointer(path).cloned().unwrap_or_else(|| json!({}));
                keys.push(paths.iter().map(of_path).collect());
            }
        }
        Ok(keys)
    }
}

/// The paths of a container's partition key; says so if there is no such container.
pub(super) fn partition_paths(place: &Place, of: &ContainerArgs) -> Result<Vec<String>, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Container {
        partition_key: Definition,
    }
    #[derive(Deserialize)]
    struct Definition {
        paths: Vec<String>,
    }
    let found = place.get(&of.path(&[]), &[]).map_err(|refusal| match refusal {
        Refusal::Status { status: StatusCode::NOT_FOUND, .. } => {
            Failure::Failed(format!("there is no container {:?} in a database {:?}", of.container, of.database))
        }
        refusal => place.explain(refusal),
    })?;
    Ok(place.read::<Container>(&found)?.partition_key.paths)
}

impl Item<'_> {
    /// Reads the document, now or as of a state. `None`: it is not there, and why.
    pub(super) fn read(&self, at: Option<&str>) -> Result<Result<Answer, String>, Failure> {
        let mut headers = vec![(PARTITION_KEY, self.key.as_str())];
        headers.extend(at.map(|at| (AS_OF, at)));
        match self.place.get(&self.path(), &headers) {
            Ok(answer) => Ok(Ok(answer)),
            Err(Refusal::Status { status: StatusCode::NOT_FOUND, message }) => Ok(Err(message)),
            Err(refusal) => Err(self.place.explain(refusal)),
        }
    }

    /// Its versions as far as they are kept, newest first. Empty if there never was such a document.
    pub(super) fn versions(&self) -> Result<Vec<Version>, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Page {
            versions: Vec<Version>,
        }
        let mut versions = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut headers = vec![
                (PARTITION_KEY, self.key.as_str()),
                ("x-etagdb-versions", "true"),
                ("x-ms-max-item-count", "1000"),
            ];
            headers.extend(next.as_deref().map(|token| ("x-ms-continuation", token)));
            let answer = match self.place.get(&self.path(), &headers) {
                Ok(answer) => answer,
                Err(Refusal::Status { status: StatusCode::NOT_FOUND, .. }) if next.is_none() => return Ok(versions),
                Err(refusal) => return Err(self.place.explain(refusal)),
            };
            versions.extend(self.place.read::<Page>(&answer)?.versions);
            next = answer.header("x-ms-continuation").map(str::to_owned);
            if next.is_none() {
                return Ok(versions);
            }
        }
    }

    /// Its name for people.
    pub(super) fn name(&self) -> String {
        format!("{:?} in partition {} of {}/{}", self.args.id, self.key, self.args.of.database, self.args.of.container)
    }

    fn path(&self) -> Vec<&str> {
        self.args.of.path(&["docs", &self.args.id])
    }
}

/// The results of a query, page by page.
pub(super) struct Pages<'a> {
    place: &'a Place,
    of: &'a ContainerArgs,
    body: Vec<u8>,
    at: Option<&'a str>,
    next: Option<String>,
    is_done: bool,
}

impl Place {
    /// Begins a query over a container, as of a state if one is given.
    pub(super) fn query<'a>(
        &'a self,
        of: &'a ContainerArgs,
        query: &Value,
        at: Option<&'a str>,
    ) -> Result<Pages<'a>, Failure> {
        partition_paths(self, of)?;
        Ok(Pages { place: self, of, body: query.to_string().into_bytes(), at, next: None, is_done: false })
    }
}

impl Pages<'_> {
    fn page(&mut self) -> Result<Vec<Value>, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Page {
            documents: Vec<Value>,
        }
        let mut headers = vec![
            ("content-type", "application/query+json"),
            ("x-ms-documentdb-isquery", "True"),
            ("x-ms-documentdb-query-enablecrosspartition", "True"),
            // A server of this project merges what its partition key ranges answer; another one merges what it can.
            ("x-etagdb-merge", "true"),
            ("x-ms-max-item-count", "1000"),
        ];
        headers.extend(self.at.map(|at| (AS_OF, at)));
        headers.extend(self.next.as_deref().map(|token| ("x-ms-continuation", token)));
        let segments = self.of.path(&["docs"]);
        let ask = Ask { method: Method::POST, segments: &segments, headers: &headers, body: self.body.clone().into() };
        let answer = self.place.ask(&ask).map_err(|refusal| self.place.explain(refusal))?;
        self.next = answer.header("x-ms-continuation").map(str::to_owned);
        self.is_done = self.next.is_none();
        Ok(self.place.read::<Page>(&answer)?.documents)
    }
}

impl Iterator for Pages<'_> {
    type Item = Result<Vec<Value>, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let page = self.page();
        self.is_done |= page.is_err();
        Some(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_key_is_text_unless_it_is_json() {
        for (text, value) in [
            ("DE", json!("DE")),
            ("7", json!(7)),
            ("\"7\"", json!("7")),
            ("null", Value::Null),
            ("[1]", json!("[1]")),
            ("", json!("")),
        ] {
            assert_eq!(component(text), value, "{text}");
        }
    }

    #[test]
    fn each_write_is_named_by_what_was_there_before() {
        let version = |commit, deleted, previous| Version {
            quoted: format!("\"e{commit}\""),
            commit,
            time_ms: 0,
            body_bytes: 1,
            deleted,
            previous,
        };
        let versions = |first| {
            [
                version(9, false, Some(7)),
                version(7, false, Some(5)),
                version(5, true, Some(3)),
                version(3, false, first),
            ]
        };
        let words =
            |versions: &[Version]| events(versions).map(|(_, event)| event.word()).collect::<Vec<_>>().join(" ");
        assert_eq!(words(&versions(None)), "replaced created deleted created");
        assert_eq!(words(&versions(Some(2))), "replaced created deleted written");
        assert_eq!(versions(None)[0].etag(), "e9");
    }
}
