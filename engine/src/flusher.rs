//! Bounds how long a `Buffered` write may stay off the disk. Owns one thread; decides nothing else.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::health::Health;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Condvar, Mutex};

/// Syncs the log at a steady interval until it is dropped.
pub(crate) struct Flusher {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    /// `sync` syncs the log, unless there is nothing to sync.
    pub(crate) fn start(
        sync: impl Fn() -> Result<()> + Send + 'static,
        health: &Arc<Health>,
        interval: Duration,
    ) -> Result<Flusher> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let (health, stopped) = (Arc::clone(health), Arc::clone(&stop));
        let run = move || {
            let (stopped, called) = &*stopped;
            let mut stopped = stopped.lock();
            while !*stopped {
                called.wait_for(&mut stopped, interval);
                if health.check().is_ok()
                    && let Err(error) = sync()
                {
                    let _ = health.after_failed_sync(error);
                }
            }
        };
        let thread = thread::Builder::new().name("etagdb-flusher".into()).spawn(run).map_err(Error::io)?;
        Ok(Flusher { stop, thread: Some(thread) })
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        let (stopped, called) = &*self.stop;
        *stopped.lock() = true;
        called.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has nothing to say: a failed sync is remembered in the health.
            let _ = thread.join();
        }
    }
}
