//! What the durable mark costs: writers in `Durability::Sync`, in turns with the mark and without it, in one store and one
//! process, so that both meet the same machine. The engine has no such switch: this program starts itself under
//! `tests/durability/shim/mark.c`, which leaves out the mark's writes and syncs while it is told to.
//!
//! `cargo bench --bench mark -- [--writers N] [--pairs N] [--turn MILLISECONDS] [--dir DIR]`

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use etagdb::{Options, Precondition, Store};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The shim's switch, a file of one byte. Set in the program that runs under it.
const SWITCH: &str = "MARK_SWITCH";

const BYTES: usize = 1024;
const DOCUMENTS: u64 = 10_000;

struct Settings {
    writers: u64,
    pairs: usize,
    turn: Duration,
    dir: PathBuf,
}

impl Settings {
    fn from_arguments(arguments: impl Iterator<Item = String>) -> Result<Settings> {
        let mut settings =
            Settings { writers: 64, pairs: 200, turn: Duration::from_millis(100), dir: std::env::temp_dir() };
        // Cargo says that it is a benchmark.
        let mut arguments = arguments.filter(|argument| argument != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--writers" => settings.writers = value.parse()?,
                "--pairs" => settings.pairs = value.parse()?,
                "--turn" => settings.turn = Duration::from_millis(value.parse()?),
                "--dir" => settings.dir = value.into(),
                _ => return Err(format!("unknown argument {name}").into()),
            }
        }
        Ok(settings)
    }
}

fn main() -> ExitCode {
    match Settings::from_arguments(std::env::args().skip(1)).and_then(|settings| match std::env::var_os(SWITCH) {
        None => under_the_shim(&settings.dir),
        Some(switch) => measure(&settings, Path::new(&switch)),
    }) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Runs this program again, under the shim.
fn under_the_shim(dir: &Path) -> Result<ExitCode> {
    let dir = tempfile::tempdir_in(dir)?;
    let (shim, switch) = (dir.path().join("mark.so"), dir.path().join("switch"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/durability/shim/mark.c");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let compiled = Command::new(compiler).args(["-O2", "-shared", "-fPIC", "-o"]).arg(&shim).arg(source).status()?;
    if !compiled.success() {
        return Err("mark.c does not compile".into());
    }
    std::fs::write(&switch, [0])?;
    let mut again = Command::new(std::env::current_exe()?);
    let status = again.args(std::env::args_os().skip(1)).env("LD_PRELOAD", &shim).env(SWITCH, &switch).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(settings: &Settings, switch: &Path) -> Result<ExitCode> {
    let Settings { writers, pairs, turn, .. } = *settings;
    let switch = File::options().write(true).open(switch)?;
    let dir = tempfile::tempdir_in(&settings.dir)?;
    let store = Options::default().open(dir.path().join("store"))?;
    let (commits, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut ratios = Vec::with_capacity(pairs);
    let mut rates = [0.0; 2];
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..writers)
            .map(|writer| {
                let (store, commits, over) = (&store, &commits, &over);
                scope.spawn(move || write(store, writer, commits, over))
            })
            .collect();
        let rate = |is_off: bool| -> Result<f64> {
            switch.write_all_at(&[u8::from(is_off)], 0)?;
            let (began, before) = (Instant::now(), commits.load(Ordering::Relaxed));
            std::thread::sleep(turn);
            Ok((commits.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64())
        };
        // Until the writers are at speed.
        let mut measured = rate(false).map(drop);
        for pair in 0..pairs {
            if measured.is_err() {
                break;
            }
            // Who comes first changes, so that neither gains by a machine that gets faster or slower.
            measured = (|| {
                let first = rate(pair % 2 == 1)?;
                let second = rate(pair % 2 == 0)?;
                let (with, without) = if pair % 2 == 0 { (first, second) } else { (second, first) };
                ratios.push(with / without);
                rates = [rates[0] + with, rates[1] + without];
                Ok(())
            })();
        }
        over.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.join().map_err(|_| "a writer panicked")??;
        }
        measured
    })?;
    ratios.sort_by(f64::total_cmp);
    let at = |share: f64| ratios[((ratios.len() - 1) as f64 * share).round() as usize];
    println!(
        "{writers} writers, {pairs} pairs of turns of {} ms: {:.0} commits/s with the durable mark, {:.0} without it",
        turn.as_millis(),
        rates[0] / pairs as f64,
        rates[1] / pairs as f64
    );
    // Between these ranks the median of all turns there could be is found 19 times of 20, whatever their distribution.
    let spread = 0.98 / (ratios.len() as f64).sqrt();
    let cost = |share: f64| 100.0 * (1.0 - at(share.clamp(0.0, 1.0)));
    println!(
        "with / without: median {:.4}: it costs {:.1} % (95 % confidence: {:.1} to {:.1}); the goal is 2 % at most",
        at(0.5),
        cost(0.5),
        cost(0.5 + spread),
        cost(0.5 - spread)
    );
    Ok(ExitCode::SUCCESS)
}

/// Puts documents until it is over.
fn write(store: &Store, writer: u64, commits: &AtomicU64, over: &AtomicBool) -> Result<()> {
    let docs = store.collection("docs")?;
    let body = vec![b'x'; BYTES];
    let mut id = writer;
    while !over.load(Ordering::Relaxed) {
        id = id.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        docs.put(format!("{}", (id >> 33) % DOCUMENTS), &body, Precondition::Any)?;
        commits.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
