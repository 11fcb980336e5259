//! etagdb over HTTP, so exactly that the official, unmodified Azure Cosmos DB SDKs work against it.
//!
//! The server is thin: it parses a request, asks the store, and writes the answer. It holds no document state of its
//! own; what it keeps in memory is the list of databases and containers, which is written before it is published.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let store = etagdb::Store::open("data")?;
//! let server = etagdb_server::Server::bind(store, etagdb_server::Config::default()).await?;
//! println!("listening on http://{}/", server.local_addr());
//! server.run(std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! What this crate is not: it runs no stored procedures, triggers or user-defined functions, and has no users and
//! permissions.

mod abandoned;
mod as_of;
mod auth;
mod batch;
mod batch_request;
mod binary_json;
mod catalog;
mod changes;
mod chaos;
mod checkpoint;
mod config;
mod connection;
mod contents;
mod continuation;
mod descriptors;
mod document;
mod epk;
mod explorer;
mod feed;
mod figures;
mod framing;
#[cfg(test)]
mod fuzz;
mod headers;
mod health;
mod http;
mod idempotency;
mod index;
mod item_key;
mod item_order;
mod items;
mod key_ranges;
mod local;
mod local_server;
mod metadata;
mod metrics;
mod offers;
mod operations;
mod partition_key;
mod patch;
mod payload;
mod query;
mod query_route;
mod query_run;
mod reply;
mod rid;
mod routes;
mod run;
mod service;
mod signer;
mod status;
mod strict;
mod threads;
mod tls;
mod ttl;
mod unique;
mod wire;
mod writes;

pub use crate::http::Server;
pub use chaos::{Chaos, ParseChaosError};
pub use config::{Config, ServeError};
pub use index::{IndexReport, verify_indexes};
pub use local::{ImportError, LocalContainer, Upserted};
pub use local_server::LocalServer;
pub use signer::Signer;
pub use tls::Tls;
