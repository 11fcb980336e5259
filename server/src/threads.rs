//! Threads that may block, a bounded number of them.
//!
//! Owns the bound, and what becomes of work whose client has gone: it keeps its place until it ends, so that clients who
//! come and go cannot make more threads than there may be. What the work is, is its caller's business.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::abandoned;
use crate::status::{ApiError, Kind};

/// A share of the runtime's threads for work that may block.
#[derive(Debug)]
pub(crate) struct Threads(Arc<Semaphore>);

impl Threads {
    /// At most so many are at work at once; what comes beyond waits. One that has just done its work takes a moment to be
    /// free, so there can be a few more.
    pub(crate) fn new(most: usize) -> Threads {
        Threads(Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))))
    }

    /// Runs `work` where it may block. A panic in it is answered with 500.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        let permit = permit.map_err(|_| ApiError::new(Kind::ServiceUnavailable, "the server is stopping"))?;
        // Dropped with this future, when the client goes away.
        let (_interest, link) = abandoned::link();
        // The place is given back by whoever takes the result, or else with it: had the thread given it back itself, another
        // would be made for the next in line before this one is free.
        let run = move || (link.run(work), permit);
        tokio::task::spawn_blocking(run).await.map(|(done, _permit)| done).map_err(|error| {
            tracing::error!(%error, "a request ended by a panic");
            ApiError::new(Kind::InternalServerError, "the request ended by an error of the server's own")
        })
    }
}
