//! `etagdb query`: its flags, and how results are printed.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgGroup;
use etagdb::Options;
use etagdb_server::{LocalReader, Signer};
use reqwest::Url;
use serde_json::Value;

use super::local::explain;
use super::query_remote::{Question, RemotePages};
use super::remote::{self, Server};
use super::{Failure, account_key, store_failure};

/// A cell of a table shows no more characters than this.
const CELL_CHARACTERS_MAX: usize = 48;

const EXAMPLES: &str = "\
Examples:
  The ten largest, as a table:
    etagdb query --data etagdb-data --database geo --container cities \\
        \"SELECT TOP 10 c.name, c.population FROM c ORDER BY c.population DESC\"

  Everything of one country, one JSON value a line, with a parameter:
    etagdb query --data etagdb-data --database geo --container cities --json \\
        --param '@country=\"DE\"' \"SELECT * FROM c WHERE c.country = @country\"

  What it was at an earlier time:
    etagdb query --data etagdb-data --database geo --container cities \\
        --at 2026-11-01T00:00:00Z \"SELECT VALUE COUNT(1) FROM c\"

  Of a running server:
    etagdb query --url http://127.0.0.1:8081 --database geo --container cities \\
        \"SELECT c.country, COUNT(1) AS cities FROM c GROUP BY c.country\"";

/// Run a query over a container.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("source").required(true).args(["data", "url"]))]
pub(super) struct Args {
    /// Directory of the store, which no server may have open.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address of a running server, such as http://127.0.0.1:8081.
    #[arg(long, value_name = "URL", value_parser = remote::parse_url)]
    url: Option<Url>,
    /// Account key of the server in base64, or the environment variable ETAGDB_KEY; without one the emulator's.
    #[arg(long, value_name = "BASE64", conflicts_with = "data")]
    key: Option<String>,
    /// Trust only this authority, a certificate in PEM: for `serve --tls self-signed` the file that its ready line names.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    ca: Option<PathBuf>,
    /// Name of the database.
    #[arg(long, value_name = "NAME")]
    database: String,
    /// Name of the container.
    #[arg(long, value_name = "NAME")]
    container: String,
    /// A parameter and its value in JSON, such as `@min=3`; may be given several times.
    #[arg(long = "param", value_name = "@NAME=JSON")]
    parameters: Vec<String>,
    /// Read the past: a commit sequence, a time or an etag.
    #[arg(long, value_name = "SEQ|TIME|ETAG")]
    at: Option<String>,
    /// Print one JSON value a line instead of a table.
    #[arg(long)]
    json: bool,
    /// The query, in Cosmos SQL.
    #[arg(value_name = "SQL")]
    text: String,
}

/// Runs the query and prints its results.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let parameters = args.parameters.iter().map(|given| parameter(given)).collect::<Result<Vec<_>, _>>()?;
    let question = Question { text: &args.text, parameters: &parameters, at: args.at.as_deref() };
    match (&args.data, &args.url) {
        (Some(data), _) => {
            let store = Options::default().create_if_missing(false).open(data).map_err(|error| {
                store_failure(data, &error, "if that is a server, ask it with --url; or else stop it first")
            })?;
            let failed = |error| Failure::Failed(explain(&error));
            let reader = LocalReader::open(store, &args.database, &args.container).map_err(failed)?;
            let pages = reader.query(question.text, question.parameters, question.at).map_err(failed)?;
            print(args, pages.map(|page| page.map_err(failed)))
        }
        (None, Some(url)) => {
            let key = account_key(args.key.clone())?;
            let signer = Signer::new(key.as_deref()).map_err(|error| Failure::Usage(error.to_string()))?;
            let authorities = args.ca.as_deref().map(remote::read_authorities).transpose()?.unwrap_or_default();
            let server = Server { url: url.clone(), signer, authorities, retry_for: Duration::ZERO };
            let pages = RemotePages::begin(server, &args.database, &args.container, question)?;
            print(args, pages.map(|page| page.map_err(Failure::Failed)))
        }
        (None, None) => Err(Failure::Usage("--data or --url is missing".into())),
    }
}

fn print(args: &Args, pages: impl Iterator<Item = Result<Vec<Value>, Failure>>) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut columns = None;
    for page in pages {
        let page = page?;
        let printed = if args.json { lines(&mut out, &page) } else { table(&mut out, &page, &mut columns) };
        match printed {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            printed => printed.map_err(|error| Failure::Failed(format!("cannot print: {error}")))?,
        }
    }
    match out.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("cannot print: {error}")))
        }
        _ => Ok(()),
    }
}

fn parameter(given: &str) -> Result<(String, Value), Failure> {
    let wrong = |why: String| Failure::Usage(format!("--param {given:?}: {why}"));
    let (name, value) = given.split_once('=').ok_or_else(|| wrong("it is @NAME=JSON".to_owned()))?;
    if !name.starts_with('@') {
        return Err(wrong("a parameter's name begins with @".to_owned()));
    }
    let value = serde_json::from_str(value).map_err(|error| wrong(format!("the value is not JSON: {error}")))?;
    Ok((name.to_owned(), value))
}

fn lines(out: &mut impl Write, page: &[Value]) -> io::Result<()> {
    page.iter().try_for_each(|value| writeln!(out, "{value}"))
}

/// The columns of a table: the members of the first page's results, and how wide they are there.
struct Columns(Vec<(String, usize)>);

/// Prints a page below the ones before it. The head is printed once; later pages keep its columns.
fn table(out: &mut impl Write, page: &[Value], columns: &mut Option<Columns>) -> io::Result<()> {
    if columns.is_none() {
        let made = Columns::of(page);
        if !page.is_empty() {
            made.row(out, str::to_owned)?;
            made.row(out, |name| "-".repeat(made.width(name)))?;
        }
        *columns = Some(made);
    }
    let Some(columns) = columns else { return Ok(()) };
    for value in page {
        columns.row(out, |name| cell(value, name))?;
    }
    Ok(())
}

impl Columns {
    fn of(page: &[Value]) -> Columns {
        let mut columns: Vec<(String, usize)> = Vec::new();
        let mut widen = |name: &str, width: usize| match columns.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = (*known).max(width),
            None => columns.push((name.to_owned(), width.max(name.chars().count()))),
        };
        for value in page {
            match value {
                Value::Object(members) => {
                    for name in members.keys() {
                        widen(name, cell(value, name).chars().count());
                    }
                }
                _ => widen("value", cell(value, "value").chars().count()),
            }
        }
        Columns(columns)
    }

    fn width(&self, name: &str) -> usize {
        self.0.iter().find(|(known, _)| known == name).map_or(0, |(_, width)| *width)
    }

    fn row(&self, out: &mut impl Write, cell: impl Fn(&str) -> String) -> io::Result<()> {
        let cells: Vec<String> = self.0.iter().map(|(name, width)| format!("{:width$}", cell(name))).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())
    }
}

/// A member of a result, or a result that is no object, on one line.
fn cell(value: &Value, name: &str) -> String {
    let value = match value {
        Value::Object(members) => members.get(name),
        value => Some(value).filter(|_| name == "value"),
    };
    let text = match value {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    let mut shown: String =
        text.chars().take(CELL_CHARACTERS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(CELL_CHARACTERS_MAX).is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_has_a_column_for_each_member_of_the_first_page() {
        let mut out = Vec::new();
        let mut columns = None;
        let first = [json!({"name": "Ana\nBo", "n": 1}), json!({"name": "Cy", "tags": ["x"]}), json!(7)];
        table(&mut out, &first, &mut columns).expect("printed");
        table(&mut out, &[json!({"n": 20, "late": true})], &mut columns).expect("printed");
        let expected = "\
name    n  tags   value
------  -  -----  -----
Ana Bo  1
Cy         [\"x\"]
                  7
        20
";
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn a_cell_is_short_and_on_one_line() {
        assert_eq!(cell(&json!({"a": "x".repeat(60)}), "a").chars().count(), CELL_CHARACTERS_MAX);
        assert_eq!(cell(&json!({"a": null}), "a"), "null");
        assert_eq!(cell(&json!({}), "a"), "");
    }

    #[test]
    fn parameters_are_names_and_json() {
        assert_eq!(parameter("@a=[1, 2]").ok(), Some(("@a".to_owned(), json!([1, 2]))));
        for wrong in ["@a", "a=1", "@a=x", "@a="] {
            assert!(matches!(parameter(wrong), Err(Failure::Usage(_))), "{wrong}");
        }
    }
}
