//! `etagdb import`: its flags, and how the parts of an import are put together.

use std::io::{self, Write};
use std::path::{self, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ArgGroup;
use indicatif::HumanCount;
use tokio::runtime::{Builder, Runtime};

use super::Failure;
use super::acknowledgements::AckLog;
use super::destination::Destination;
use super::document::{IdSource, Path};
use super::journal::{Entry, Identity, Journal};
use super::local::Local;
use super::pipeline::{Ended, Pipeline, Report, Rules};
use super::place::ServerArgs;
use super::progress::{Display, Summary};
use super::reader::Form;
use super::remote::Remote;
use super::signals::on_signal;
use super::source::{self, Purpose, Source};
use super::window::{Progress, Window};

/// How often the journal is written.
const JOURNAL_INTERVAL: Duration = Duration::from_millis(250);

/// How many bytes of documents may be on their way at once.
const WINDOW_BYTES: usize = 64 << 20;

/// How many documents may wait for each worker, so that none runs dry.
const DOCUMENTS_PER_WORKER: usize = 32;

const EXAMPLES: &str = "\
Examples:
  One document per line, each with an `id`, into a directory that no server has open:
    etagdb import --data etagdb-data --database shop --container products \\
        --partition-key /category products.ndjson

  A JSON array without ids; the same file gets the same ids, so it can be imported again:
    etagdb import --data etagdb-data --database geo --container cities \\
        --partition-key /country --generate-id cities.json

  Into a running server, from a compressed file, with ids taken from another member:
    zcat events.ndjson.gz | etagdb import --url http://127.0.0.1:8081 --database log \\
        --container events --partition-key /device --id-from /uuid --resume events.progress -

Documents are upserts: one with the same id and partition key is replaced, and of several in the input the last \
stays. The first bad document ends the import, with everything before it stored.

An import that was interrupted, or ended by a bad document, goes on where it stopped when the same command is run \
again; documents that were stored after the last note of progress are written once more. Progress is noted in a file \
beside the input (FILE.*.etagdb-import, removed at the end), or where --resume says. For standard input it is noted \
only with --resume, and the same input has to be given again from its beginning. An input that was corrected or \
grew behind that place goes on there; one that was changed before it starts over.";

/// Load documents from a file into a container.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("destination").required(true).args(["data", "url"]))]
pub(super) struct Args {
    /// Directory of the store, which no server may have open; it is created if it is missing.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    #[command(flatten)]
    server: ServerArgs,

    /// Name of the database; it is created if it is missing.
    #[arg(long, value_name = "NAME")]
    database: String,

    /// Name of the container; it is created if it is missing.
    #[arg(long, value_name = "NAME")]
    container: String,

    /// Path of the container's partition key; give it up to three times for a hierarchical one.
    #[arg(long, value_name = "/PATH", required = true, value_parser = Path::parse)]
    partition_key: Vec<Path>,

    /// Take each document's id from the string or number at this path; `--id-from /id` turns numeric ids into text.
    #[arg(long, value_name = "/PATH", conflicts_with = "generate_id", value_parser = Path::parse)]
    id_from: Option<Path>,

    /// Give a document without an id a UUID made from its place in the input and its content.
    #[arg(long)]
    generate_id: bool,

    /// Pass over bad documents instead of ending at the first, and say how many there were.
    #[arg(long)]
    skip_bad: bool,

    /// Where to keep how far the import is, instead of beside the input.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,

    /// Append a line {"id":..,"pk":[..],"etag":..} to this file for each document as soon as it is acknowledged.
    #[arg(long, value_name = "FILE")]
    ack_log: Option<PathBuf>,

    /// How many documents are on their way at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,

    /// With --url: how long a document is tried again while the server is busy or away.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, conflicts_with = "data")]
    retry_for: u32,

    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,

    /// NDJSON or one JSON array, told apart by its first character; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Imports a file.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let begun = Instant::now();
    let (id_source, purpose) = check(args)?;
    // The input comes first: an import of nothing should create nothing.
    let Source { reader, settled, identity, size, journal, note } =
        source::open(&args.file, args.resume.clone(), &purpose)?;
    let start = reader.position();
    let pipeline = Pipeline::new();
    let runtime = runtime().map_err(|error| format!("cannot start threads: {error}"))?;
    let destination = open_destination(args, &runtime, &pipeline)?;
    let acknowledgements = args.ack_log.as_deref().map(AckLog::open).transpose()?;
    let interrupter = pipeline.interrupter();
    on_signal(runtime.handle(), move |_| interrupter.interrupt())
        .map_err(|error| format!("cannot catch signals: {error}"))?;

    if let Some(note) = note {
        eprintln!("etagdb: {note}");
    }
    if start.documents > 0 {
        eprintln!("etagdb: going on after document {} of an earlier run", start.documents);
    }
    let concurrency = usize::from(args.concurrency);
    let window = Arc::new(Window::new(start, settled, concurrency * DOCUMENTS_PER_WORKER, WINDOW_BYTES));
    let mut keeper = Keeper::new(journal, purpose, identity, reader.form());
    keeper.begin(&window.progress(), args.resume.is_some())?;
    let mut display = Display::new(start.offset, size);
    let rules = Rules { id_source, partition_key: args.partition_key.clone(), skip_bad: args.skip_bad, concurrency };
    let report = pipeline.run(reader, &window, destination, rules, acknowledgements, || {
        let progress = window.progress();
        display.show(&progress);
        keeper.keep(&progress);
    });
    display.end();
    let progress = window.progress();
    let can_go_on = keeper.end(&progress, report.ended.is_none());
    let mut summary = Summary::new(&args.database, &args.container, progress.run, start.documents, begun.elapsed());
    summary.complete = report.ended.is_none();
    conclude(args, summary, report, &progress, can_go_on)
}

/// Checks what clap cannot, and says what this import is.
fn check(args: &Args) -> Result<(IdSource, Purpose), Failure> {
    if args.partition_key.len() > 3 {
        return Err(Failure::Usage("a partition key has at most three paths".into()));
    }
    let id_source = match &args.id_from {
        Some(path) => IdSource::Path(path.clone()),
        None if args.generate_id => IdSource::Generated,
        None => IdSource::Own,
    };
    let place = match (&args.server.url, &args.data) {
        (Some(url), _) => url.to_string(),
        (None, Some(data)) => {
            let data = path::absolute(data).map_err(|error| format!("cannot use {}: {error}", data.display()))?;
            data.display().to_string()
        }
        // clap asks for one of the two.
        (None, None) => return Err(Failure::Usage("--data or --url is missing".into())),
    };
    let destination = format!("{}/{} of {place}", args.database, args.container);
    Ok((id_source.clone(), Purpose { destination, id_source: id_source.to_string() }))
}

/// Signals and HTTP need few threads; the workers have their own.
fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

fn open_destination(args: &Args, runtime: &Runtime, pipeline: &Pipeline) -> Result<Arc<dyn Destination>, Failure> {
    let (database, container) = (args.database.as_str(), args.container.as_str());
    if let Some(data) = &args.data {
        return Ok(Arc::new(Local::open(data, database, container, &args.partition_key)?));
    }
    let Some(server) = args.server.server(Duration::from_secs(u64::from(args.retry_for)))? else {
        return Err(Failure::Usage("--data or --url is missing".into()));
    };
    let names = (database, container);
    let remote = Remote::open(runtime.handle().clone(), server, names, &args.partition_key, pipeline.stopped())?;
    Ok(Arc::new(remote))
}

/// Prints the summary, and makes of the report what the process ends with.
fn conclude(
    args: &Args,
    mut summary: Summary,
    report: Report,
    progress: &Progress,
    can_go_on: bool,
) -> Result<(), Failure> {
    let input = if args.file == path::Path::new("-") { "standard input".into() } else { args.file.to_string_lossy() };
    for bad in &report.bad {
        eprintln!("etagdb: skipped {input}: {bad}");
    }
    let more = summary.skipped.saturating_sub(report.bad.len() as u64);
    if more > 0 {
        eprintln!("etagdb: skipped {more} more");
    }
    summary.bad = report.bad;
    let stored = match progress.settled.stored() {
        1 => "1 document".to_owned(),
        count => format!("{} documents", HumanCount(count)),
    };
    let next = if can_go_on {
        "run the same command again to go on"
    } else {
        "the same command starts from the beginning, which does no harm"
    };
    let message = report.ended.map(|ended| match ended {
        Ended::Interrupted => format!("interrupted (stored before: {stored}); {next}"),
        Ended::Failed(reason) => format!("{reason} (stored before: {stored}); {next}"),
        Ended::Bad(reason) => {
            let skip = if args.skip_bad { "" } else { ", or add `--skip-bad`" };
            format!("{input}: {reason} (stored before: {stored}); correct it and run the same command again{skip}")
        }
    });
    summary.error = message.clone();
    let text = if args.json {
        serde_json::to_string(&summary).map_err(|error| format!("cannot write the summary: {error}"))?
    } else {
        summary.line()
    };
    if args.json || message.is_none() {
        writeln!(io::stdout(), "{text}").map_err(|error| format!("cannot print the summary: {error}"))?;
    }
    message.map_or(Ok(()), |message| Err(Failure::Failed(message)))
}

/// Keeps the journal up to date.
struct Keeper {
    journal: Option<Journal>,
    entry: Option<Entry>,
    purpose: Purpose,
    identity: Option<Identity>,
    form: Form,
    written: Instant,
}

impl Keeper {
    fn new(journal: Option<Journal>, purpose: Purpose, identity: Option<Identity>, form: Form) -> Keeper {
        Keeper { journal, entry: None, purpose, identity, form, written: Instant::now() }
    }

    /// Writes the first entry, to learn early whether that is possible.
    fn begin(&mut self, progress: &Progress, required: bool) -> Result<(), String> {
        match self.write(progress) {
            Err(error) if required => Err(error),
            Err(error) => {
                self.give_up(&error);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Writes an entry if it is time.
    fn keep(&mut self, progress: &Progress) {
        if self.written.elapsed() < JOURNAL_INTERVAL {
            return;
        }
        if let Err(error) = self.write(progress) {
            self.give_up(&error);
        }
    }

    /// Removes the journal of a complete import, or writes the last entry; true if the import can go on from it.
    fn end(&mut self, progress: &Progress, complete: bool) -> bool {
        if complete || progress.position.documents == 0 {
            let removed = self.journal.as_ref().map_or(Ok(()), Journal::remove);
            if let (Err(error), Some(journal)) = (removed, &self.journal) {
                eprintln!("etagdb: cannot remove {}: {error}", journal.path().display());
            }
            return false;
        }
        match self.write(progress) {
            Ok(()) => self.journal.is_some(),
            Err(error) => {
                eprintln!("etagdb: {error}");
                false
            }
        }
    }

    fn write(&mut self, progress: &Progress) -> Result<(), String> {
        let Some(journal) = &self.journal else {
            return Ok(());
        };
        self.written = Instant::now();
        let entry = Entry {
            destination: self.purpose.destination.clone(),
            id_source: self.purpose.id_source.clone(),
            input: self.identity.clone(),
            form: self.form,
            position: progress.position,
            tally: progress.settled,
        };
        if self.entry.as_ref() == Some(&entry) {
            return Ok(());
        }
        journal
            .store(&entry)
            .map_err(|error| format!("cannot write the progress file {}: {error}", journal.path().display()))?;
        self.entry = Some(entry);
        Ok(())
    }

    /// Goes on without a journal: its last entry, if there is one, claims less than is true, and that is harmless.
    fn give_up(&mut self, error: &str) {
        eprintln!("etagdb: {error}; an interrupted import would start over (choose another place with --resume)");
        self.journal = None;
    }
}
