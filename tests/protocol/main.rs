//! The HTTP protocol, tested from outside: the server's own rules, the official SDKs, and the README's quick starts.

mod addressing;
mod bad_input;
mod batches;
mod catalog;
mod change_feed;
mod chaos;
mod conditions;
mod conflicts;
mod conformance;
mod feeds;
mod fuzz;
mod hostile;
mod idempotency;
mod limits;
mod operations;
mod past;
mod queries;
mod ranges;
mod readme;
mod sdk;
mod served;
mod strict;
mod support;
mod tls;
mod ttl;
mod unique;
