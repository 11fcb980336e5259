//! The HTTP protocol, tested from outside: the server's own rules, the official SDKs, and the README's quick starts.

mod readme;
mod sdk;
mod served;
