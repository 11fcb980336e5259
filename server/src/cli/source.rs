//! Opens an import's input at the place where an earlier run stopped, if that can be told safely, or else at its beginning.
//!
//! Starting over is always right, because ids are the same on every run; it only takes longer.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::journal::{Entry, Identity, Journal, Tally};
use super::reader::{ReadError, Reader};

/// Bytes read from the input at once.
const BUFFER_BYTES: usize = 256 << 10;

/// What an import is, apart from its input: an earlier run's journal counts only if all of this is the same.
#[derive(Debug)]
pub(super) struct Purpose {
    /// Where the documents go.
    pub(super) destination: String,
    /// Where their ids come from.
    pub(super) id_source: String,
}

/// An open input.
pub(super) struct Source {
    /// Reads from where the import goes on.
    pub(super) reader: Reader<Box<dyn BufRead + Send>>,
    /// What happened to the documents before that place.
    pub(super) settled: Tally,
    /// Which file it is; `None` for standard input and pipes.
    pub(super) identity: Option<Identity>,
    /// Its size in bytes, if that is known.
    pub(super) size: Option<u64>,
    /// Where to write how far the import is; `None` if it cannot be resumed.
    pub(super) journal: Option<Journal>,
    /// What the user should know about how it was opened.
    pub(super) note: Option<String>,
}

/// Opens the file at `path`, or standard input for `-`.
///
/// # Errors
/// One line for the user.
pub(super) fn open(path: &Path, resume: Option<PathBuf>, purpose: &Purpose) -> Result<Source, String> {
    let resume = resume.map(Journal::at);
    if path == Path::new("-") {
        return open_stream(Box::new(BufReader::with_capacity(BUFFER_BYTES, io::stdin())), resume, purpose);
    }
    let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(format!("cannot read {}: it is a directory", path.display()));
    }
    if !metadata.is_file() {
        return open_stream(Box::new(BufReader::with_capacity(BUFFER_BYTES, file)), resume, purpose);
    }
    let journal = resume.unwrap_or_else(|| Journal::beside(path, &purpose.destination));
    open_file(file, &journal, purpose).map_err(|error| match error {
        ReadError::Io(error) => failed(error),
        ReadError::Broken(reason) => reason,
    })
}

fn open_file(mut file: File, journal: &Journal, purpose: &Purpose) -> Result<Source, ReadError> {
    let identity = Identity::of(&mut file)?;
    let size = Some(file.metadata()?.len());
    let (entry, mut note) = earlier_run(journal, purpose).map_err(ReadError::Broken)?;
    let again = file.try_clone()?;
    let source = |reader, settled, note| Source {
        reader,
        settled,
        identity: Some(identity.clone()),
        size,
        journal: Some(journal.clone()),
        note,
    };
    if let Some(entry) = entry {
        if entry.input.as_ref() == Some(&identity) {
            file.seek(SeekFrom::Start(entry.position.offset))?;
            return Ok(source(Reader::resume(buffered(file), entry.form, entry.position), entry.tally, None));
        }
        // The file was touched. If everything up to the place is as it was (a bad document was corrected, or more were
        // appended), the import still goes on there.
        let mut reader = Reader::new(buffered(file))?;
        if pass_over(&mut reader, &entry).unwrap_or(false) {
            return Ok(source(reader, entry.tally, None));
        }
        note = Some("the input has changed since the import was interrupted: starting from its beginning".into());
    }
    file = again;
    file.seek(SeekFrom::Start(0))?;
    Ok(source(Reader::new(buffered(file))?, Tally::default(), note))
}

fn open_stream(input: Box<dyn BufRead + Send>, journal: Option<Journal>, purpose: &Purpose) -> Result<Source, String> {
    let (entry, note) = match &journal {
        Some(journal) => earlier_run(journal, purpose)?,
        None => (None, None),
    };
    let failed = |error| match error {
        ReadError::Io(error) => format!("cannot read the input: {error}"),
        ReadError::Broken(reason) => reason,
    };
    let mut reader = Reader::new(input).map_err(failed)?;
    let mut settled = Tally::default();
    if let (Some(journal), Some(entry)) = (&journal, entry) {
        if !pass_over(&mut reader, &entry).map_err(failed)? {
            return Err(format!(
                "the input does not begin as it did when {0} was written: give the same input, or remove {0} to start over",
                journal.path().display()
            ));
        }
        settled = entry.tally;
    }
    Ok(Source { reader, settled, identity: None, size: None, journal, note })
}

/// Reads what an earlier run left, as far as it concerns this import.
fn earlier_run(journal: &Journal, purpose: &Purpose) -> Result<(Option<Entry>, Option<String>), String> {
    let path = journal.path().display();
    let entry = journal.load().map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => {
            format!("{path} is {error}: name another file with `--resume`, or remove it if an import left it")
        }
        _ => format!("cannot read {path}: {error}"),
    })?;
    match entry {
        Some(entry) if entry.destination != purpose.destination => Err(format!(
            "{path} belongs to an import into {}: name another file with `--resume`, or remove it",
            entry.destination
        )),
        Some(entry) if entry.id_source != purpose.id_source => Ok((
            None,
            Some("ids come from elsewhere than in the interrupted import: starting from the beginning".into()),
        )),
        entry => Ok((entry, None)),
    }
}

/// Reads up to the place where an earlier run stopped; false if the documents before it are not the same ones.
fn pass_over<R: BufRead>(reader: &mut Reader<R>, entry: &Entry) -> Result<bool, ReadError> {
    if reader.form() != entry.form {
        return Ok(false);
    }
    while reader.position().documents < entry.position.documents {
        if reader.next()?.is_none() {
            return Ok(false);
        }
    }
    Ok(reader.position().digest == entry.position.digest)
}

fn buffered(file: File) -> Box<dyn BufRead + Send> {
    Box::new(BufReader::with_capacity(BUFFER_BYTES, file))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::reader::Position;
    use super::*;

    fn purpose() -> Purpose {
        Purpose { destination: "here".into(), id_source: "id".into() }
    }

    /// Reads `documents` of the file and leaves the journal that an interrupted import would leave.
    fn interrupt(path: &Path, documents: u64) {
        let mut source = open(path, None, &purpose()).unwrap();
        while source.reader.position().documents < documents {
            source.reader.next().unwrap().unwrap();
        }
        let entry = Entry {
            destination: purpose().destination,
            id_source: purpose().id_source,
            input: source.identity,
            form: source.reader.form(),
            position: source.reader.position(),
            tally: Tally { created: documents, ..Tally::default() },
        };
        source.journal.unwrap().store(&entry).unwrap();
    }

    fn rest(source: Source) -> Vec<(u64, String)> {
        let mut reader = source.reader;
        let mut rest = Vec::new();
        while let Some(record) = reader.next().unwrap() {
            let number = record.number();
            rest.push((number, String::from_utf8(record.text.unwrap()).unwrap()));
        }
        rest
    }

    #[test]
    fn an_unchanged_file_goes_on_where_it_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("input.json");
        for input in ["{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n", "[{\"a\":1},\n{\"a\":2},{\"a\":3}]"] {
            fs::write(&path, input).unwrap();
            interrupt(&path, 2);
            let source = open(&path, None, &purpose()).unwrap();
            assert_eq!(source.settled.created, 2);
            source.journal.as_ref().unwrap().remove().unwrap();
            assert_eq!(rest(source), [(3, "{\"a\":3}".to_owned())]);
        }
    }

    #[test]
    fn a_file_corrected_after_the_place_goes_on_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("input.ndjson");
        fs::write(&path, "{\"a\":1}\n{\"a\":2}\n{\"a\":bad}\n").unwrap();
        interrupt(&path, 2);
        fs::write(&path, "{\"a\":1}\n{\"a\":2}\n{\"a\":\"good\"}\n").unwrap();
        let source = open(&path, None, &purpose()).unwrap();
        assert!(source.note.is_none());
        assert_eq!(rest(source), [(3, "{\"a\":\"good\"}".to_owned())]);
    }

    #[test]
    fn a_file_changed_before_the_place_starts_over_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("input.ndjson");
        for changed in ["{\"a\":9}\n{\"a\":2}\n{\"a\":3}\n", "{\"a\":1}\n", "[{\"a\":1},{\"a\":2}]", ""] {
            fs::write(&path, "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n").unwrap();
            interrupt(&path, 2);
            fs::write(&path, changed).unwrap();
            let source = open(&path, None, &purpose()).unwrap();
            assert!(source.note.as_ref().is_some_and(|note| note.contains("has changed")), "{changed:?}");
            assert_eq!(source.settled, Tally::default());
            assert_eq!(source.reader.position().documents, 0);
            source.journal.unwrap().remove().unwrap();
        }
    }

    #[test]
    fn a_stream_is_passed_over_up_to_the_place_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::at(dir.path().join("resume"));
        let open = |input: &'static str| open_stream(Box::new(input.as_bytes()), Some(journal.clone()), &purpose());
        let mut source = open("{\"a\":1}\n{\"a\":2}\n").unwrap();
        source.reader.next().unwrap();
        let entry = Entry {
            destination: "here".into(),
            id_source: "id".into(),
            input: None,
            form: source.reader.form(),
            position: source.reader.position(),
            tally: Tally { created: 1, ..Tally::default() },
        };
        journal.store(&entry).unwrap();
        assert_eq!(rest(open("{\"a\":1}\n{\"a\":2}\n").unwrap()), [(2, "{\"a\":2}".to_owned())]);
        let error = open("{\"b\":1}\n{\"a\":2}\n").err().unwrap();
        assert!(error.contains("does not begin as it did"), "{error}");
    }

    #[test]
    fn a_journal_of_another_import_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("input.ndjson");
        fs::write(&path, "{\"a\":1}\n{\"a\":2}\n").unwrap();
        interrupt(&path, 1);
        let other_ids = Purpose { id_source: "generate-id".into(), ..purpose() };
        let source = open(&path, None, &other_ids).unwrap();
        assert!(source.note.is_some());
        assert_eq!(source.reader.position(), Position::START);
        let elsewhere = Purpose { destination: "elsewhere".into(), ..purpose() };
        let journal = source.journal.unwrap().path().to_owned();
        let error = open(&path, Some(journal), &elsewhere).err().unwrap();
        assert!(error.contains("belongs to an import into here"), "{error}");
    }
}
