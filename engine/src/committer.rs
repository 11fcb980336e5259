//! The store's own threads: where everybody who waits does so as a future, there is nobody to call, and these lead and land
//! instead. Owns when they run; what they do then is the queue's and the lander's.

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

/// The store's own threads, one that leads and one that lands; stopped and waited for when dropped, after what is in the
/// queue has landed.
pub(crate) struct Committer {
    core: Arc<Core>,
    threads: Vec<JoinHandle<()>>,
}

impl Committer {
    pub(crate) fn start(core: &Arc<Core>) -> Result<Committer> {
        let mut committer = Committer { core: Arc::clone(core), threads: Vec::new() };
        let worker = Arc::clone(core);
        committer.spawn("etagdb-committer", move || {
            while worker.queue.summons.answer() {
                worker.lead(None);
            }
        })?;
        let worker = Arc::clone(core);
        committer.spawn("etagdb-lander", move || {
            while worker.landings.summons.answer() {
                worker.land(worker.landings.lander(), None, &mut None);
            }
        })?;
        Ok(committer)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
        self.threads.push(thread::Builder::new().name(name.into()).spawn(work).map_err(Error::io)?);
        Ok(())
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // In this order: the first leaves work to the second.
        for (summons, thread) in
            [&self.core.queue.summons, &self.core.landings.summons].iter().zip(self.threads.drain(..))
        {
            summons.stop();
            // It has nothing to say: those it worked for were answered.
            let _ = thread.join();
        }
    }
}
