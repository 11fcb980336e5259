//! The store's own threads. One brings what is in the log to RocksDB; and where everybody who waits does so as a future, there
//! is nobody to call, and two lead and land instead. Owns when they run; what they do then is the backlog's, the queue's and
//! the lander's.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::store::Core;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Condvar, Mutex};

/// How a thread of the store's own is called.
#[derive(Default)]
pub(crate) struct Summons {
    calls: Mutex<Calls>,
    called: Condvar,
}

#[derive(Default)]
struct Calls {
    work: bool,
    stop: bool,
}

impl Summons {
    pub(crate) fn call(&self) {
        self.calls.lock().work = true;
        self.called.notify_one();
    }

    fn stop(&self) {
        self.calls.lock().stop = true;
        self.called.notify_one();
    }

    /// Waits to be called; false when it is time to stop.
    pub(crate) fn answer(&self) -> bool {
        let mut calls = self.calls.lock();
        loop {
            if std::mem::take(&mut calls.work) {
                return true;
            }
            if calls.stop {
                return false;
            }
            self.called.wait(&mut calls);
        }
    }
}

/// A thread of the store's own, which works whenever it is called. Stopped and waited for when dropped, after it has answered
/// the last call.
pub(crate) struct Worker {
    core: Arc<Core>,
    summons: fn(&Core) -> &Summons,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(core: &Arc<Core>, name: &str, summons: fn(&Core) -> &Summons, work: fn(&Core)) -> Result<Worker> {
        let worker = Arc::clone(core);
        let run = move || {
            while summons(&worker).answer() {
                work(&worker);
            }
        };
        let thread = thread::Builder::new().name(name.into()).spawn(run).map_err(Error::io)?;
        Ok(Worker { core: Arc::clone(core), summons, thread: Some(thread) })
    }

    /// Leads the queue where nobody who waits can be called to.
    fn leader(core: &Arc<Core>) -> Result<Worker> {
        Worker::start(core, "etagdb-leader", |core| &core.queue.summons, |core| drop(core.lead(None)))
    }

    /// Lands what is in the log, likewise.
    fn lander(core: &Arc<Core>) -> Result<Worker> {
        let land = |core: &Core| core.land(core.landings.lander(), None, &mut None);
        Worker::start(core, "etagdb-lander", |core| &core.landings.summons, land)
    }

    /// Brings what is in the log to RocksDB.
    pub(crate) fn applier(core: &Arc<Core>) -> Result<Worker> {
        Worker::start(core, "etagdb-applier", |core| &core.rocks.backlog.summons, Core::apply_backlog)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        (self.summons)(&self.core).stop();
        if let Some(thread) = self.thread.take() {
            // It has nothing to say: those it worked for were answered, and what failed is in the health.
            let _ = thread.join();
        }
    }
}

/// The threads that commit for those who wait as futures. Dropped in this order: the first leaves work to the second.
pub(crate) struct Committer {
    _leader: Worker,
    _lander: Worker,
}

impl Committer {
    pub(crate) fn start(core: &Arc<Core>) -> Result<Committer> {
        Ok(Committer { _leader: Worker::leader(core)?, _lander: Worker::lander(core)? })
    }
}

impl Core {
    /// Brings the batches to RocksDB that wait for it.
    fn apply_backlog(&self) {
        loop {
            match self.rocks.apply_oldest() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    // Those who wrote them have their answers; the next ones are told.
                    let _ = self.health.after_failed_write(error);
                    break;
                }
            }
        }
    }
}
