//! `etagdb export`: all documents of a container as they were at one commit.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::ValueEnum;
use indicatif::HumanCount;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::gauge::{Gauge, Unit};
use super::item::{AS_OF, partition_paths};
use super::place::{ContainerArgs, Place, as_of};
use super::text::{LINKS, SYSTEM, without};
use super::{Failure, print, signals};

const EXAMPLES: &str = "\
Examples:
  All documents, one a line, in a file:
    etagdb export --data etagdb-data --database shop --container products products.ndjson

  One JSON array, of a running server, which goes on taking writes:
    etagdb export --url http://127.0.0.1:8081 --database shop --container products products.json

  What was there yesterday at noon, into a pipe, if the container keeps it that long:
    etagdb export --data etagdb-data --database shop --container products \\
        --at 2026-11-01T12:00:00Z | gzip > products.ndjson.gz

Everything is from one snapshot: the newest commit when the export begins, or what --at says. If retention drops some \
of it meanwhile, the export fails. FILE appears, or is replaced, when the export is complete; until then it is written \
beside it. `etagdb import` reads both forms.";

/// Write all documents of a container to a file, as of one commit.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    of: ContainerArgs,

    /// Export the past: a commit sequence, a time or an etag.
    #[arg(long, value_name = "SEQ|TIME|ETAG")]
    at: Option<String>,

    /// How documents are written [default: json for a FILE that ends with .json, else ndjson].
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// Leave `_etag` and `_ts` in the documents.
    #[arg(long)]
    with_etags: bool,

    /// Print the summary as JSON; needs a FILE.
    #[arg(long)]
    json: bool,

    /// Where to; `-` is standard output.
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A document a line.
    Ndjson,
    /// One array.
    Json,
}

/// Where the documents go, and under which name they appear there.
enum Target {
    Standard(BufWriter<io::StdoutLock<'static>>),
    File { out: BufWriter<File>, written: PathBuf, file: PathBuf },
}

/// What to leave out, how to separate, and how many there were.
struct Documents {
    format: Format,
    left_out: &'static [&'static str],
    count: u64,
}

/// Exports.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let begun = Instant::now();
    let is_standard = args.file == Path::new("-");
    if is_standard && args.json {
        return Err(Failure::Usage("--json needs a FILE: the documents themselves go to standard output".into()));
    }
    let place = args.of.place.open()?;
    partition_paths(&place, &args.of)?;
    let is_array = args.file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let format = args.format.unwrap_or(if is_array { Format::Json } else { Format::Ndjson });
    let left_out: &'static [&'static str] = if args.with_etags { &LINKS } else { &SYSTEM };
    let mut documents = Documents { format, left_out, count: 0 };
    let (_runtime, stopped) = signals::stop_flag()?;
    let mut target = Target::open(&args.file)?;
    let exported = all(args, &place, &mut target, &mut documents, &stopped);
    let (at, is_heard) = match exported {
        Ok(done) => done,
        Err(failure) => {
            target.remove();
            return Err(failure);
        }
    };
    target.finish()?;
    if !is_heard {
        return Ok(());
    }
    let seconds = begun.elapsed().as_secs_f64();
    let name = format!("{}/{}", args.of.database, args.of.container);
    let line = format!("exported {} documents of {name} as of {at} in {seconds:.1} s", HumanCount(documents.count));
    if is_standard {
        eprintln!("etagdb: {line}");
        return Ok(());
    }
    print(&match args.json {
        true => json!({
            "database": args.of.database,
            "container": args.of.container,
            "documents": documents.count,
            "at": at,
            "file": args.file.to_string_lossy(),
            "seconds": (seconds * 1000.0).round() / 1000.0,
        })
        .to_string(),
        false => line,
    })
}

/// Writes all documents. Returns the state that they are of, and whether anybody heard the end of it.
fn all(
    args: &Args,
    place: &Place,
    target: &mut Target,
    documents: &mut Documents,
    stopped: &AtomicBool,
) -> Result<(String, bool), Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Page<'a> {
        #[serde(borrow)]
        documents: Vec<&'a RawValue>,
    }
    let segments = args.of.path(&["docs"]);
    let one = ("x-ms-max-item-count", "1");
    let get =
        |headers: &[(&'static str, &str)]| place.get(&segments, headers).map_err(|refusal| place.explain(refusal));
    let at = match &args.at {
        Some(at) => as_of(at),
        None => {
            let newest = get(&[one])?;
            let newest = newest.header("lsn").ok_or("the server does not say which commit is its newest")?;
            newest.to_owned()
        }
    };
    let mut gauge = Gauge::new("export", Unit::Documents, expected(place, &args.of));
    let mut next: Option<String> = None;
    documents.begin(target).map_err(|error| target.failure(&error))?;
    loop {
        let mut headers = vec![(AS_OF, at.as_str()), ("x-ms-max-item-count", "1000")];
        headers.extend(next.as_deref().map(|token| ("x-ms-continuation", token)));
        let answer = get(&headers)?;
        let page: Page<'_> = serde_json::from_slice(&answer.body)
            .map_err(|error| format!("the answer is not what a server of etagdb says: {error}"))?;
        for document in page.documents {
            let text = without(document.get(), documents.left_out)
                .map_err(|error| format!("a document is no JSON object: {error}"))?;
            match documents.push(target, &text) {
                // Whoever reads has seen enough.
                Err(error) if is_unheard(target, &error) => return Ok((at, false)),
                pushed => pushed.map_err(|error| target.failure(&error))?,
            }
        }
        gauge.show(documents.count);
        if stopped.load(Ordering::Relaxed) {
            return Err(Failure::Failed("interrupted: nothing was exported".into()));
        }
        next = answer.header("x-ms-continuation").map(str::to_owned);
        if next.is_none() {
            break;
        }
    }
    // A page of a state that is no longer kept would have been of a later one. What can be read now could be all along.
    get(&[(AS_OF, at.as_str()), one]).map_err(|failure| match failure {
        Failure::Failed(why) => Failure::Failed(format!("the snapshot was dropped during the export: {why}")),
        failure => failure,
    })?;
    match documents.end(target) {
        Err(error) if is_unheard(target, &error) => Ok((at, false)),
        ended => ended.map(|()| (at, true)).map_err(|error| target.failure(&error)),
    }
}

fn is_unheard(target: &Target, error: &io::Error) -> bool {
    matches!(target, Target::Standard(_)) && error.kind() == io::ErrorKind::BrokenPipe
}

/// About how many documents there are now, if the server can tell.
fn expected(place: &Place, of: &ContainerArgs) -> Option<u64> {
    let space: Value = place.value(&["_explorer", "api", "space", &of.database, &of.container]).ok()?;
    space["size"]["documents"].as_u64()
}

impl Documents {
    fn begin(&self, out: &mut Target) -> io::Result<()> {
        match self.format {
            Format::Ndjson => Ok(()),
            Format::Json => out.write(b"["),
        }
    }

    fn push(&mut self, out: &mut Target, text: &str) -> io::Result<()> {
        if self.format == Format::Json {
            out.write(if self.count == 0 { b"\n" } else { b",\n" })?;
        }
        out.write(text.as_bytes())?;
        self.count += 1;
        if self.format == Format::Ndjson { out.write(b"\n") } else { Ok(()) }
    }

    fn end(&self, out: &mut Target) -> io::Result<()> {
        match self.format {
            Format::Ndjson => out.flush(),
            Format::Json => out.write(b"\n]\n").and_then(|()| out.flush()),
        }
    }
}

impl Target {
    fn open(file: &Path) -> Result<Target, Failure> {
        if file == Path::new("-") {
            return Ok(Target::Standard(BufWriter::new(io::stdout().lock())));
        }
        let Some(name) = file.file_name().filter(|_| !file.is_dir()) else {
            return Err(Failure::Usage(format!("{} is no name of a file", file.display())));
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".etagdb-export");
        let written = file.with_file_name(hidden);
        let out = File::create(&written).map_err(|error| format!("cannot write {}: {error}", written.display()))?;
        Ok(Target::File { out: BufWriter::with_capacity(1 << 20, out), written, file: file.to_owned() })
    }

    fn out(&mut self) -> &mut dyn Write {
        match self {
            Target::Standard(out) => out,
            Target::File { out, .. } => out,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out().write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out().flush()
    }

    fn failure(&self, error: &io::Error) -> Failure {
        Failure::Failed(match self {
            Target::Standard(_) => format!("cannot print: {error}"),
            Target::File { written, .. } => format!("cannot write {}: {error}", written.display()),
        })
    }

    /// Gives a file its name, once all of it is on disk.
    fn finish(self) -> Result<(), Failure> {
        let Target::File { out, written, file } = self else { return Ok(()) };
        let synced = out.into_inner().map_err(io::IntoInnerError::into_error).and_then(|out| out.sync_all());
        synced.and_then(|()| fs::rename(&written, &file)).map_err(|error| {
            // What is left of it is of no use.
            let _ = fs::remove_file(&written);
            Failure::Failed(format!("cannot write {}: {error}", file.display()))
        })
    }

    /// Leaves nothing behind.
    fn remove(self) {
        if let Target::File { written, .. } = self {
            // The failure that led here says more than this one could.
            let _ = fs::remove_file(written);
        }
    }
}
