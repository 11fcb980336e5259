//! An audit by time travel: who was paid what, when; what changed in a month; and a record that was deleted, brought
//! back from its history.
//!
//! Run with `cargo run --release --example audit`.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etagdb::{Clock, Collection, Document, Options, Precondition, ScanRange, Snapshot};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A calendar that this program turns by hand, so that a year fits into a second.
#[derive(Clone, Default)]
struct Calendar(Arc<AtomicU64>);

impl Calendar {
    fn turn_to(&self, day: u32) {
        self.0.store(u64::from(day), Ordering::SeqCst);
    }
}

impl Clock for Calendar {
    fn now(&self) -> SystemTime {
        noon(self.0.load(Ordering::SeqCst) as u32)
    }
}

fn noon(day: u32) -> SystemTime {
    UNIX_EPOCH + DAY * day + DAY / 2
}

fn day_of(time_ms: u64) -> u64 {
    time_ms / DAY.as_millis() as u64
}

fn text(document: &Document) -> String {
    String::from_utf8_lossy(&document.body).into_owned()
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let calendar = Calendar::default();
    let store = Options::default().clock(calendar.clone()).open(dir.path().join("payroll"))?;
    let salaries = store.collection("salaries")?;

    // A year of ordinary life.
    calendar.turn_to(1);
    let mut hired = store.batch();
    for (name, salary) in [("ana", "4000"), ("berta", "4200"), ("carl", "3900")] {
        hired.put(&salaries, name, salary, Precondition::Absent);
    }
    hired.commit()?;
    calendar.turn_to(90);
    salaries.put("ana", "4500", Precondition::Present)?;
    calendar.turn_to(181);
    let contested = salaries.put("berta", "9999", Precondition::Present)?;
    calendar.turn_to(182);
    salaries.put("berta", "4300", contested.etag)?;
    salaries.put("dora", "4100", Precondition::Absent)?;
    calendar.turn_to(270);
    salaries.delete("carl", Precondition::Present)?;
    calendar.turn_to(365);

    println!("What was berta paid?");
    for version in salaries.history("berta")? {
        let version = version?;
        let document = salaries.get_as_of("berta", version.etag)?.ok_or("the version has a body")?;
        println!("  since day {:>3}: {}  (etag {})", day_of(version.time_ms), text(&document), version.etag);
    }

    println!("And on day 181, when the payroll ran?");
    let paid = salaries.get_as_of("berta", noon(181))?.ok_or("berta was there")?;
    println!("  {}, under the very etag that the payroll noted: {}", text(&paid), paid.etag == contested.etag);

    println!("What changed between day 180 and day 300?");
    let (before, after) = (store.snapshot_at(noon(180))?, store.snapshot_at(noon(300))?);
    for line in differences(&salaries, &before, &after)? {
        println!("  {line}");
    }

    println!("The payroll of day 100, to the cent:");
    let then = store.snapshot_at(noon(100))?;
    let sum: u32 = all(&salaries, &then)?.values().filter_map(|document| text(document).parse::<u32>().ok()).sum();
    println!("  {} people, {sum} in all, as of commit {}", all(&salaries, &then)?.len(), then.seq());

    println!("Carl comes back, on his old terms:");
    let last = salaries.history("carl")?.find(|version| version.as_ref().is_ok_and(|version| !version.tombstone));
    let last = last.ok_or("carl was there once")??;
    let terms = salaries.get_as_of("carl", last.etag)?.ok_or("the version has a body")?;
    let back = salaries.put("carl", &terms.body, Precondition::Absent)?;
    println!("  {} again, from day {} on; his history:", text(&terms), day_of(back.time_ms));
    for version in salaries.history("carl")? {
        let version = version?;
        let what = if version.tombstone { "left".to_owned() } else { format!("{} bytes", version.body_bytes) };
        println!("    commit {:>2}, day {:>3}: {what}", version.seq.get(), day_of(version.time_ms));
    }
    Ok(())
}

fn all(salaries: &Collection, at: &Snapshot) -> etagdb::Result<BTreeMap<String, Document>> {
    let name = |id: &[u8]| String::from_utf8_lossy(id).into_owned();
    at.scan(salaries, &ScanRange::all())?.map(|entry| entry.map(|(id, document)| (name(&id), document))).collect()
}

/// What differs between two states, told by etags: equal etags are the same version.
fn differences(salaries: &Collection, before: &Snapshot, after: &Snapshot) -> etagdb::Result<Vec<String>> {
    let (before, after) = (all(salaries, before)?, all(salaries, after)?);
    let mut lines = Vec::new();
    for (name, old) in &before {
        match after.get(name) {
            Some(new) if new.etag == old.etag => {}
            Some(new) => lines.push(format!("{name}: {} became {}", text(old), text(new))),
            None => lines.push(format!("{name}: left, with {}", text(old))),
        }
    }
    let joined = after.iter().filter(|(name, _)| !before.contains_key(*name));
    lines.extend(joined.map(|(name, new)| format!("{name}: joined, for {}", text(new))));
    Ok(lines)
}
