//! Moves documents from the reader to the destination: one thread reads and prepares, several store, and the caller's
//! thread watches.
//!
//! All documents with one id go to one worker, in the input's order, so that the last of several with one id is what
//! remains. A document counts as done only after its acknowledgement, and after its line in the acknowledgement log.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::io::BufRead;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::acknowledgements::AckLog;
use super::destination::{Destination, UpsertError};
use super::document::{Document, IdSource, Path, prepare};
use super::reader::{DOCUMENT_BYTES_MAX, Place, ReadError, Reader, Record};
use super::window::{Outcome, Window};

/// How many bad documents are described.
const EXAMPLES_MAX: usize = 5;

/// How often the caller is called back.
const TICK: Duration = Duration::from_millis(100);

/// What to do with documents.
#[derive(Debug)]
pub(super) struct Rules {
    /// Where ids come from.
    pub(super) id_source: IdSource,
    /// The container's partition key.
    pub(super) partition_key: Vec<Path>,
    /// Whether bad documents are passed over.
    pub(super) skip_bad: bool,
    /// How many documents are sent at once.
    pub(super) concurrency: usize,
}

/// Why an import ended before the end of its input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Somebody asked for it.
    Interrupted,
    /// A bad document, or an input that breaks off.
    Bad(String),
    /// Anything else.
    Failed(String),
}

/// How an import ended.
#[derive(Debug)]
pub(super) struct Report {
    /// `None` if every document was read, and stored or passed over.
    pub(super) ended: Option<Ended>,
    /// The first few bad documents that were passed over.
    pub(super) bad: Vec<String>,
}

/// Everything that reaches the watching thread.
enum Event {
    Interrupt,
    Fail(String),
    ReaderDone(Result<(), Ended>),
    WorkerDone,
}

/// Ends a running import from elsewhere, such as a signal handler.
#[derive(Clone)]
pub(super) struct Interrupter(Sender<Event>);

impl Interrupter {
    /// Stores no further documents; those on their way are waited for.
    pub(super) fn interrupt(&self) {
        // If nobody listens any more the import has ended already.
        let _ = self.0.send(Event::Interrupt);
    }
}

/// An import that can be interrupted even before it runs.
pub(super) struct Pipeline {
    events: Receiver<Event>,
    to_events: Sender<Event>,
    stop: watch::Sender<bool>,
}

/// What reader and workers share.
struct Shared {
    window: Arc<Window>,
    rules: Rules,
    bad: Mutex<BTreeMap<u64, String>>,
}

/// What only the workers have. The reader may outlive the import, and must not hold a store open.
struct Sink {
    destination: Arc<dyn Destination>,
    acknowledgements: Option<AckLog>,
}

/// A document on its way to a worker.
struct Job {
    number: u64,
    place: Place,
    document: Document,
}

impl Pipeline {
    /// Prepares an import.
    pub(super) fn new() -> Pipeline {
        let (to_events, events) = mpsc::channel();
        Pipeline { events, to_events, stop: watch::Sender::new(false) }
    }

    /// Ends the import from elsewhere.
    pub(super) fn interrupter(&self) -> Interrupter {
        Interrupter(self.to_events.clone())
    }

    /// Turns true when what is on its way should no longer be tried again.
    pub(super) fn stopped(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Runs to the end, calling `tick` several times a second and once at last.
    pub(super) fn run(
        self,
        reader: Reader<Box<dyn BufRead + Send>>,
        window: &Arc<Window>,
        destination: Arc<dyn Destination>,
        rules: Rules,
        acknowledgements: Option<AckLog>,
        mut tick: impl FnMut(),
    ) -> Report {
        let Pipeline { events, to_events, stop } = self;
        let workers = rules.concurrency;
        let skip_bad = rules.skip_bad;
        let window = Arc::clone(window);
        let shared = Arc::new(Shared { window: Arc::clone(&window), rules, bad: Mutex::default() });
        let sink = Arc::new(Sink { destination, acknowledgements });
        let mut queues = Vec::new();
        let mut threads = Vec::new();
        for _ in 0..workers {
            let (queue, jobs) = mpsc::channel();
            let (shared, sink, events) = (Arc::clone(&shared), Arc::clone(&sink), to_events.clone());
            queues.push(queue);
            threads.push(thread::spawn(move || {
                let _done = WorkerGuard(events.clone());
                shared.work(&jobs, &sink, &events);
            }));
        }
        // The reader may sit in a read that never returns, so nobody waits for its thread, only for its word.
        let (reading, to_workers) = (Arc::clone(&shared), queues.clone());
        thread::spawn(move || {
            let mut done =
                ReaderGuard { events: to_events, result: Err(Ended::Failed("the reader ended unexpectedly".into())) };
            done.result = reading.read(reader, &to_workers);
        });

        let mut ended = None;
        let mut working = workers;
        let mut reading = true;
        while working > 0 {
            let event = match events.recv_timeout(TICK) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    tick();
                    continue;
                }
            };
            let end = match event {
                Event::WorkerDone => {
                    working -= 1;
                    continue;
                }
                Event::ReaderDone(Ok(())) => None,
                Event::ReaderDone(Err(end)) => Some(end),
                Event::Interrupt | Event::Fail(_) => {
                    window.stop_before(0);
                    stop.send_replace(true);
                    Some(if let Event::Fail(reason) = event { Ended::Failed(reason) } else { Ended::Interrupted })
                }
            };
            // The first reason is the cause, later ones are its consequences.
            ended = ended.or(end);
            if std::mem::take(&mut reading) {
                for queue in &queues {
                    // A worker that is gone needs no telling.
                    let _ = queue.send(None);
                }
            }
        }
        for thread in threads {
            if thread.join().is_err() && ended.is_none() {
                ended = Some(Ended::Failed("a worker ended unexpectedly".into()));
            }
        }
        tick();
        let bad: Vec<String> = std::mem::take(&mut *shared.bad.lock()).into_values().collect();
        match (ended, bad.first()) {
            (None | Some(Ended::Bad(_)), Some(first)) if !skip_bad => {
                Report { ended: Some(Ended::Bad(first.clone())), bad: Vec::new() }
            }
            (ended, _) => Report { ended, bad: if skip_bad { bad } else { Vec::new() } },
        }
    }
}

impl Shared {
    /// Reads and prepares documents until there are no more or no more are wanted.
    fn read(&self, mut reader: Reader<Box<dyn BufRead + Send>>, queues: &[Sender<Option<Job>>]) -> Result<(), Ended> {
        let form = reader.form();
        loop {
            let mut record = match reader.next() {
                Ok(Some(record)) => record,
                Ok(None) => return Ok(()),
                Err(ReadError::Broken(reason)) => return Err(Ended::Bad(reason)),
                Err(ReadError::Io(error)) => return Err(Ended::Failed(format!("cannot read the input: {error}"))),
            };
            let number = record.number();
            match self.prepare(&mut record, &|record, line, column| record.place(form, line, column)) {
                Ok(document) => {
                    if !self.window.admit(record.end, document.text.len()) {
                        return Ok(());
                    }
                    let queue = worker_of(&document.id, queues.len());
                    let job = Job { number, place: record.place(form, 1, 1), document };
                    if queues.get(queue).is_none_or(|queue| queue.send(Some(job)).is_err()) {
                        return Ok(());
                    }
                }
                Err(reason) => {
                    if !self.window.admit(record.end, 0) {
                        return Ok(());
                    }
                    if !self.bad(number, &reason) {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn prepare(&self, record: &mut Record, place: &dyn Fn(&Record, usize, usize) -> Place) -> Result<Document, String> {
        let Some(text) = record.text.take() else {
            return Err(format!(
                "{}: the document is longer than {} MiB",
                place(record, 1, 1),
                DOCUMENT_BYTES_MAX >> 20
            ));
        };
        prepare(record.number(), text, &self.rules.id_source, &self.rules.partition_key)
            .map_err(|bad| format!("{}: {}", place(record, bad.line, bad.column), bad.reason))
    }

    /// Stores documents until told to end.
    fn work(&self, jobs: &Receiver<Option<Job>>, sink: &Sink, events: &Sender<Event>) {
        while let Ok(Some(Job { number, place, document })) = jobs.recv() {
            if !self.window.wants(number) {
                continue;
            }
            let stored = match sink.destination.upsert(&document) {
                Ok(stored) => stored,
                Err(UpsertError::Stopped) => continue,
                Err(UpsertError::Refused(reason)) => {
                    self.bad(number, &format!("{place}: {reason}"));
                    continue;
                }
                Err(UpsertError::Failed(reason)) => {
                    // Without a listener the import has ended already, here and below.
                    let _ = events.send(Event::Fail(reason));
                    continue;
                }
            };
            if let Some(Err(error)) = sink.acknowledgements.as_ref().map(|log| log.append(&document, &stored.etag)) {
                let _ = events.send(Event::Fail(error));
                continue;
            }
            self.window.settle(number, if stored.created { Outcome::Created } else { Outcome::Replaced });
        }
    }

    /// Notes a bad document; false if the import ends before it.
    fn bad(&self, number: u64, reason: &str) -> bool {
        let mut bad = self.bad.lock();
        // Cosmos's messages are sentences, and this one goes on.
        bad.insert(number, reason.trim_end_matches('.').to_owned());
        if bad.len() > EXAMPLES_MAX {
            bad.pop_last();
        }
        drop(bad);
        if self.rules.skip_bad {
            self.window.settle(number, Outcome::Skipped);
        } else {
            self.window.stop_before(number);
        }
        self.rules.skip_bad
    }
}

/// Tells the watching thread that a worker is gone, even if it panicked.
struct WorkerGuard(Sender<Event>);

impl Drop for WorkerGuard {
    fn drop(&mut self) {
        let _ = self.0.send(Event::WorkerDone);
    }
}

/// Tells the watching thread that the reader is gone, even if it panicked.
struct ReaderGuard {
    events: Sender<Event>,
    result: Result<(), Ended>,
}

impl Drop for ReaderGuard {
    fn drop(&mut self) {
        let _ = self.events.send(Event::ReaderDone(std::mem::replace(&mut self.result, Ok(()))));
    }
}

fn worker_of(id: &str, workers: usize) -> usize {
    let mut hash = DefaultHasher::new();
    hash.write(id.as_bytes());
    (hash.finish() % workers as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::super::destination::Stored;
    use super::super::journal::Tally;
    use super::super::reader::Position;
    use super::*;

    /// A destination that does what a function says for each id.
    struct Fake<F>(F);

    impl<F: Fn(&str) -> Result<(), UpsertError> + Send + Sync> Destination for Fake<F> {
        fn upsert(&self, document: &Document) -> Result<Stored, UpsertError> {
            (self.0)(&document.id).map(|()| Stored { created: true, etag: "\"1\"".into() })
        }
    }

    fn refused(reason: &str) -> Result<(), UpsertError> {
        Err(UpsertError::Refused(reason.into()))
    }

    /// Imports documents with these ids; returns the report and how many are settled in the input's order.
    fn import(
        pipeline: Pipeline,
        ids: &[&str],
        skip_bad: bool,
        upsert: impl Fn(&str) -> Result<(), UpsertError> + Send + Sync + 'static,
    ) -> (Report, u64) {
        let input: String = ids.iter().map(|id| format!("{{\"id\":\"{id}\"}}\n")).collect();
        let input: Box<dyn BufRead + Send> = Box::new(std::io::Cursor::new(input));
        let window = Arc::new(Window::new(Position::START, Tally::default(), 100, 1000));
        let rules = Rules { id_source: IdSource::Own, partition_key: Vec::new(), skip_bad, concurrency: 8 };
        let Ok(reader) = Reader::new(input) else { panic!("the input is broken") };
        let report = pipeline.run(reader, &window, Arc::new(Fake(upsert)), rules, None, || {});
        (report, window.progress().position.documents)
    }

    /// Two ids that go to different workers.
    fn apart() -> (&'static str, &'static str) {
        let ids = ["b", "c", "d", "e", "f"];
        let second = ids[1..].iter().find(|id| worker_of(id, 8) != worker_of("b", 8));
        ("b", second.copied().unwrap_or_default())
    }

    #[test]
    fn the_first_bad_document_is_named_though_a_later_one_is_refused_earlier() {
        let (first, later) = apart();
        let both = Barrier::new(2);
        let (report, settled) = import(Pipeline::new(), &["a", first, later], false, move |id| {
            if id == "a" {
                return Ok(());
            }
            // The first is under way when the later one is refused.
            both.wait();
            refused(if id == first { "first" } else { "later" })
        });
        assert_eq!(report.ended, Some(Ended::Bad("line 2, column 1: first".into())));
        assert_eq!(settled, 1);
    }

    #[test]
    fn bad_documents_are_passed_over_and_the_first_few_described() {
        let (report, settled) = import(Pipeline::new(), &["x"; 9], true, |_| refused("no."));
        assert_eq!(report.ended, None);
        assert_eq!(report.bad.len(), EXAMPLES_MAX);
        assert_eq!(report.bad[0], "line 1, column 1: no");
        assert_eq!(settled, 9);
    }

    #[test]
    fn a_failure_ends_the_import() {
        let (report, settled) =
            import(Pipeline::new(), &["a", "a", "a"], true, |_| Err(UpsertError::Failed("the disk is full".into())));
        assert_eq!(report.ended, Some(Ended::Failed("the disk is full".into())));
        assert_eq!(settled, 0);
    }

    #[test]
    fn an_interruption_is_passed_on_to_what_is_tried_again() {
        let pipeline = Pipeline::new();
        let (stopped, interrupter) = (pipeline.stopped(), pipeline.interrupter());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let runtime = Mutex::new(runtime);
        let (report, settled) = import(pipeline, &["a"], false, move |_| {
            interrupter.interrupt();
            // As a destination does that waits for a server to come back.
            let mut stopped = stopped.clone();
            let seen = runtime.lock().block_on(stopped.wait_for(|stopped| *stopped)).is_ok();
            assert!(seen);
            Err(UpsertError::Stopped)
        });
        assert_eq!((report.ended, settled), (Some(Ended::Interrupted), 0));
    }

    #[test]
    fn a_worker_that_panics_is_a_failure_and_not_a_hang() {
        let (report, _) = import(Pipeline::new(), &["a"], false, |_| panic!("on purpose"));
        assert_eq!(report.ended, Some(Ended::Failed("a worker ended unexpectedly".into())));
    }
}
