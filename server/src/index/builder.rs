//! The thread on which indexes are built and taken away.
//!
//! One for a catalog, asleep while nothing is to do. It is rung for by whoever changes what indexes there are, by queries
//! that have read much in vain, and now and then by writes. It holds a container's indexes weakly, so a container that
//! is dropped needs no farewell.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use super::Indexes;

/// What the thread is told.
enum Message {
    LookAt(Weak<Indexes>),
    Stop,
    /// Answered when everything before it has been done.
    #[cfg(test)]
    Answer(Sender<()>),
}

/// The thread; it ends with this.
#[derive(Debug)]
pub(crate) struct Builder {
    bell: Bell,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How to call it.
#[derive(Debug, Clone)]
pub(crate) struct Bell(Sender<Message>);

impl Bell {
    pub(super) fn ring(&self, indexes: &Arc<Indexes>) {
        self.ring_weakly(&Arc::downgrade(indexes));
    }

    pub(super) fn ring_weakly(&self, indexes: &Weak<Indexes>) {
        // With the thread gone the store is about to close; the next start finds what is to do.
        let _ = self.0.send(Message::LookAt(Weak::clone(indexes)));
    }
}

impl Builder {
    /// Begins the thread.
    ///
    /// # Errors
    /// A system that has no thread to give.
    pub(crate) fn spawn() -> std::io::Result<Builder> {
        let (sender, receiver) = mpsc::channel();
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        let thread =
            std::thread::Builder::new().name("etagdb-indexes".to_owned()).spawn(move || work(&receiver, &stop))?;
        Ok(Builder { bell: Bell(sender), stopped, thread: Some(thread) })
    }

    pub(super) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Waits until all that was rung for is done.
    #[cfg(test)]
    pub(crate) fn finish(&self) {
        let (sender, receiver) = mpsc::channel();
        self.bell.0.send(Message::Answer(sender)).expect("the thread is there");
        receiver.recv().expect("an answer");
    }
}

impl Builder {
    /// Ends the thread. What is at work goes on with the next start.
    pub(crate) fn stop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = self.bell.0.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic has been printed; there is nobody else to tell.
            let _ = thread.join();
        }
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        self.stop();
    }
}

fn work(messages: &Receiver<Message>, stopped: &AtomicBool) {
    for message in messages {
        match message {
            Message::LookAt(indexes) => {
                if let Some(indexes) = indexes.upgrade()
                    && let Err(error) = indexes.look_after(&|| stopped.load(Ordering::SeqCst))
                {
                    tracing::warn!(%error, ?indexes, "an index could not be built or dropped; queries do without");
                }
            }
            Message::Stop => return,
            #[cfg(test)]
            Message::Answer(sender) => {
                let _ = sender.send(());
            }
        }
    }
}
