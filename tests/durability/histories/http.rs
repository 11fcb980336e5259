//! Clients of the server.
