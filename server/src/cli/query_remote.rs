//! A query over a container of a running server, page by page.
//!
//! A server of this project merges what its partition key ranges answer when it is asked to; another one merges what it
//! can, and says so where it cannot.

use std::time::Duration;

use reqwest::{Client, Method, Url};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::remote::{Server, answer, unanswered};

/// The server itself gives up a page after a minute.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// What a query is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) text: &'a str,
    pub(super) parameters: &'a [(String, Value)],
    /// A commit sequence, a time or an etag, to read the past.
    pub(super) at: Option<&'a str>,
}

/// The results of a query, as lists of JSON values.
pub(super) struct RemotePages {
    runtime: Runtime,
    client: Client,
    server: Server,
    items: Url,
    link: String,
    body: String,
    at: Option<String>,
    /// Where the next page goes on: nowhere before the first one, and `None` after the last.
    next: Option<String>,
}

impl RemotePages {
    /// Begins a query over a container.
    ///
    /// # Errors
    /// One line for the user.
    pub(super) fn begin(
        server: Server,
        database: &str,
        container: &str,
        question: Question<'_>,
    ) -> Result<RemotePages, String> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("cannot start an HTTP client: {error}"))?;
        let client = server.client(ANSWER_TIMEOUT)?;
        let (items, link) = server.items(database, container);
        let parameters: Vec<Value> =
            question.parameters.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        let body = json!({ "query": question.text, "parameters": parameters }).to_string();
        let at = question.at.map(str::to_owned);
        Ok(RemotePages { runtime, client, server, items, link, body, at, next: Some(String::new()) })
    }

    async fn page(&self, after: &str) -> Result<(Vec<Value>, Option<String>), String> {
        let mut request = self
            .server
            .request(&self.client, Method::POST, self.items.clone(), ("docs", &self.link))
            .header("content-type", "application/query+json")
            .header("x-ms-documentdb-isquery", "True")
            .header("x-ms-documentdb-query-enablecrosspartition", "True")
            .header("x-etagdb-merge", "true")
            .header("x-ms-max-item-count", "1000")
            .body(self.body.clone());
        if !after.is_empty() {
            request = request.header("x-ms-continuation", after);
        }
        if let Some(at) = &self.at {
            request = request.header("x-etagdb-as-of", at);
        }
        let response = answer(request).await.map_err(|refusal| self.server.explain(refusal))?;
        let next = response.headers().get("x-ms-continuation").and_then(|token| token.to_str().ok());
        let next = next.map(str::to_owned);
        let body = response.bytes().await.map_err(|error| self.server.explain(unanswered(&error)))?;
        let mut page: Value = serde_json::from_slice(&body)
            .map_err(|error| format!("{} does not answer as a Cosmos DB server does: {error}", self.server.url))?;
        match page["Documents"].take() {
            Value::Array(results) => Ok((results, next)),
            _ => Err(format!("{} does not answer as a Cosmos DB server does: no Documents", self.server.url)),
        }
    }
}

impl Iterator for RemotePages {
    type Item = Result<Vec<Value>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let after = self.next.take()?;
        let page = self.runtime.block_on(self.page(&after));
        Some(page.map(|(results, next)| {
            self.next = next;
            results
        }))
    }
}
