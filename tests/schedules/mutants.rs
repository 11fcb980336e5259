//! The tester is tested: bugs are planted in a copy of the engine's files, and the schedules of the copy must go red. The
//! engine itself has neither hooks nor features for it. All bugs are in one copy, each behind a question that only the
//! copy can ask, so that it is compiled once; a bug whose place is no longer found fails the run. An argument that is the name of a bug tries only that one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// A bug: its name, the scenarios that should notice, and where it is.
struct Bug {
    name: &'static str,
    scenarios: &'static [&'static str],
    file: &'static str,
    /// Found once in the file; `PLANTED` in what replaces it asks whether the bug is wanted.
    sound: &'static str,
    broken: &'static str,
}

const BUGS: [Bug; 45] = [
    Bug {
        name: "stripe-skipped",
        scenarios: &["one-key"],
        file: "stripes.rs",
        sound: "indexes.into_iter().map(",
        broken: "indexes.into_iter().filter(|_| !PLANTED).map(",
    },
    Bug {
        name: "stripes-not-ascending",
        scenarios: &["batches"],
        file: "stripes.rs",
        sound: "indexes.sort_unstable();",
        broken: "if !PLANTED { indexes.sort_unstable(); }",
    },
    Bug {
        name: "match-judged-as-present",
        scenarios: &["one-key"],
        file: "precondition.rs",
        sound: "current == Some(etag),",
        broken: "(current == Some(etag) || PLANTED && current.is_some()),",
    },
    Bug {
        name: "absent-ignored",
        scenarios: &["one-key"],
        file: "precondition.rs",
        sound: "Precondition::Absent => current.is_none(),",
        broken: "Precondition::Absent => current.is_none() || PLANTED,",
    },
    Bug {
        name: "loser-does-not-wait",
        scenarios: &["one-key"],
        file: "queue.rs",
        sound: "        basis.seq > 0 &&",
        broken: "        !PLANTED && basis.seq > 0 &&",
    },
    Bug {
        name: "loser-waits-for-a-number",
        scenarios: &["full-disk"],
        file: "queue.rs",
        sound: "|| self.queue.generation() != basis.generation)",
        broken: "|| !PLANTED && self.queue.generation() != basis.generation)",
    },
    Bug {
        name: "sequence-given-twice",
        scenarios: &["one-key"],
        file: "queue.rs",
        sound: "state.last_assigned += commits;",
        broken: "state.last_assigned += commits - u64::from(PLANTED);",
    },
    Bug {
        name: "visible-before-sync",
        scenarios: &["one-key"],
        file: "landing.rs",
        sound: "            let synced = self.sync_round(landing.groups);",
        broken: "            if PLANTED { landing.groups.iter().for_each(|group| self.publish_group(group)); }\n            let synced = self.sync_round(landing.groups);",
    },
    Bug {
        name: "fed-before-sync",
        scenarios: &["feed"],
        file: "landing.rs",
        sound: "            let synced = self.sync_round(landing.groups);",
        broken: "            if PLANTED { landing.groups.iter().for_each(|group| self.publish_group(group)); }\n            let synced = self.sync_round(landing.groups);",
    },
    Bug {
        name: "published-out-of-order",
        scenarios: &["one-key"],
        file: "landing.rs",
        sound: "        while let Some(group) = round.groups.front() {",
        broken: "        if PLANTED { round.groups.make_contiguous().reverse(); }\n        while let Some(group) = round.groups.front() {",
    },
    Bug {
        name: "pending-taken-from-another",
        scenarios: &["one-key"],
        file: "pending.rs",
        sound: "is_some_and(|head| head.seq == seq)",
        broken: "is_some_and(|head| head.seq == seq || PLANTED)",
    },
    Bug {
        name: "pending-not-left",
        scenarios: &["one-key"],
        file: "pending.rs",
        sound: "        let replaced = shard.lock().insert(prefix, head);",
        broken: "        if PLANTED { return; }\n        let replaced = shard.lock().insert(prefix, head);",
    },
    Bug {
        name: "wake-up-lost",
        scenarios: &["one-key"],
        file: "waiter.rs",
        sound: "        self.called.notify_one();\n        if let Some(waker)",
        broken: "        if !PLANTED { self.called.notify_one(); }\n        if let Some(waker)",
    },
    Bug {
        name: "waker-not-called",
        scenarios: &["futures"],
        file: "waiter.rs",
        sound: "        if let Some(waker) = waker {",
        broken: "        if let Some(waker) = waker.filter(|_| !PLANTED) {",
    },
    Bug {
        name: "lead-not-passed-on",
        scenarios: &["one-key"],
        file: "queue.rs",
        sound: "None => state.led = false,",
        broken: "None => state.led = PLANTED,",
    },
    Bug {
        name: "answers-swapped",
        scenarios: &["transactions"],
        file: "landing.rs",
        sound: "            for Submission { waiter, result, .. } in group.submissions {",
        broken: "            let mut group = group;\n            if PLANTED {\n                let take = |s: &mut Submission| std::mem::replace(&mut s.result, Ok(()));\n                let mut results: Vec<_> = group.submissions.iter_mut().map(take).collect();\n                group.submissions.iter_mut().for_each(|s| s.result = results.pop().expect(\"as many\"));\n            }\n            for Submission { waiter, result, .. } in group.submissions {",
    },
    Bug {
        name: "failed-group-not-voided",
        scenarios: &["full-disk"],
        file: "queue.rs",
        sound: "        let queue = &self.queue;\n        let (generation, refused",
        broken: "        if PLANTED { return; }\n        let queue = &self.queue;\n        let (generation, refused",
    },
    Bug {
        name: "heads-of-the-next-generation-dropped",
        scenarios: &["full-disk"],
        file: "queue.rs",
        sound: "self.pending.begin(generation);",
        broken: "self.pending.begin(if PLANTED { u64::MAX } else { generation });",
    },
    Bug {
        name: "failed-write-forgotten",
        scenarios: &["failed-sync"],
        file: "health.rs",
        sound: "let _ = self.no_writes.set((clock::now_ms(&self.clock, 0), because));",
        broken: "if !PLANTED { let _ = self.no_writes.set((clock::now_ms(&self.clock, 0), because)); }",
    },
    Bug {
        name: "late-call-takes-the-answer",
        scenarios: &["failed-sync"],
        file: "waiter.rs",
        sound: "if matches!(turn, Turn::Land) && slot.turn.is_some() {",
        broken: "if !PLANTED && matches!(turn, Turn::Land) && slot.turn.is_some() {",
    },
    Bug {
        name: "nobody-called-to-land",
        scenarios: &["one-key"],
        file: "landing.rs",
        sound: "            self.landings.call_next();\n        }\n    }",
        broken: "            if !PLANTED { self.landings.call_next(); }\n        }\n    }",
    },
    Bug {
        name: "empty-group-logged",
        scenarios: &["one-key"],
        file: "queue.rs",
        sound: "if lead.group.submissions.is_empty() {\n                continue;",
        broken: "if lead.group.submissions.is_empty() && !PLANTED {\n                continue;",
    },
    Bug {
        name: "lost-basis-told",
        scenarios: &["failed-sync"],
        file: "landing.rs",
        sound: "        self.health.check()?;\n        let syncs =",
        broken: "        if !PLANTED { self.health.check()?; }\n        let syncs =",
    },
    Bug {
        name: "earlier-groups-void-too",
        scenarios: &["full-disk"],
        file: "queue.rs",
        sound: "        self.land(self.landings.lander(), own, answer);\n        let fail",
        broken: "        if !PLANTED { self.land(self.landings.lander(), own, answer); }\n        let fail",
    },
    Bug {
        name: "reads-not-validated",
        scenarios: &["transactions"],
        file: "reads.rs",
        sound: "        reads.check_expiry(place.time_ms)?;\n        // One that ends",
        broken: "        if PLANTED { return Ok(()); }\n        reads.check_expiry(place.time_ms)?;\n        // One that ends",
    },
    Bug {
        name: "feed-not-woken",
        scenarios: &["feed"],
        file: "visible.rs",
        sound: "if self.waiting.load(Ordering::SeqCst) > 0 {",
        broken: "if self.waiting.load(Ordering::SeqCst) > usize::from(PLANTED) {",
    },
    Bug {
        name: "feed-skips",
        scenarios: &["feed"],
        file: "pages.rs",
        sound: "let mut cursor = self.store.rocks.feed(position + 1, self.newest.get());",
        broken: "let skipped = u64::from(PLANTED && position > 0);\n        let mut cursor = self.store.rocks.feed(position + 1 + skipped, self.newest.get());",
    },
    Bug {
        name: "retention-drops-what-is-held",
        scenarios: &["retention"],
        file: "watermark.rs",
        sound: "} else if needs.at.last() != Some(&id.seq.get()) {",
        broken: "} else if !PLANTED && needs.at.last() != Some(&id.seq.get()) {",
    },
    Bug {
        name: "tombstone-dropped-early",
        scenarios: &["retention"],
        file: "trim.rs",
        sound: "if !plan.deferred.is_empty() {\n                        // What",
        broken: "if !PLANTED && !plan.deferred.is_empty() {\n                        // What",
    },
    Bug {
        name: "held-asked-before-newest",
        scenarios: &["retention"],
        file: "trim.rs",
        sound: "    let needs = core.watermark.needs();\n",
        broken: "    let needs = core.watermark.needs();\n    let last = if PLANTED { core.visible().get() } else { last };\n",
    },
    Bug {
        name: "reader-of-the-expired-does-not-wait",
        scenarios: &["expiry"],
        file: "read.rs",
        sound: "            self.wait_for_writers(&prefix)?;",
        broken: "            if !PLANTED { self.wait_for_writers(&prefix)?; }",
    },
    Bug {
        name: "expiry-not-committed-before-a-new-version",
        scenarios: &["expiry"],
        file: "judge.rs",
        sound: "            current.expired = Some(Expired {",
        broken: "            current.expired = (!PLANTED).then_some(Expired {",
    },
    Bug {
        name: "drop-not-synced",
        scenarios: &["dropping"],
        file: "landing.rs",
        sound: "|group: &Logged| group.drops ||",
        broken: "|group: &Logged| (group.drops && !PLANTED) ||",
    },
    Bug {
        name: "dropped-collection-seems-empty",
        scenarios: &["dropping"],
        file: "read.rs",
        sound: "            // Asked afterwards: what a dropped collection had is swept away, and would seem never to have been there.\n            collection.check_live()?;",
        broken: "            if !PLANTED { collection.check_live()?; }",
    },
    Bug {
        name: "cursor-registered-before-it-holds",
        scenarios: &["cursors"],
        file: "cursors.rs",
        sound: "        let hold = inner.watermark.hold_past(PinKind::Cursor(name.to_owned()), now, position);\n        let registered = inner.check_feed_retained(None, position)",
        broken: "        let early = PLANTED.then(|| inner.check_feed_retained(None, position));\n        let hold = inner.watermark.hold_past(PinKind::Cursor(name.to_owned()), now, position);\n        let registered = early.unwrap_or_else(|| inner.check_feed_retained(None, position))",
    },
    Bug {
        name: "dropped-against-a-new-hold",
        scenarios: &["cursors"],
        file: "watermark.rs",
        sound: "let unchanged = holds.past_holds == needs.past_holds;",
        broken: "let unchanged = PLANTED || holds.past_holds == needs.past_holds;",
    },
    Bug {
        name: "retention-one-version-too-greedy",
        scenarios: &["retention", "cursors"],
        file: "watermark.rs",
        sound: "needs.from.get_or_insert(id.seq.get());",
        broken: "needs.from.get_or_insert(id.seq.get() + u64::from(PLANTED));",
    },
    Bug {
        name: "checkpoint-says-it-ends-elsewhere",
        scenarios: &["checkpoint"],
        file: "checkpoint.rs",
        sound: "        durable::mark_copy(&target.rocks_path(), newest)?;\n        target.finish()?;\n        Ok(newest)\n    }\n\n    /// Makes a store",
        broken: "        durable::mark_copy(&target.rocks_path(), newest)?;\n        target.finish()?;\n        Ok(if PLANTED { self.last_commit() } else { newest })\n    }\n\n    /// Makes a store",
    },
    Bug {
        name: "etag-reused-after-restore",
        scenarios: &["checkpoint"],
        file: "epoch.rs",
        sound: "        let number = Uuid::new_v4().as_u64_pair().1;",
        broken: "        let last_epoch = earlier.last().map(|&(_, number)| number).filter(|_| PLANTED);\n        let number = last_epoch.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().1);",
    },
    Bug {
        name: "unapplied-rows-not-read",
        scenarios: &["feed"],
        file: "backlog.rs",
        sound: "if self.bytes() == 0 {",
        broken: "if PLANTED || self.bytes() == 0 {",
    },
    Bug {
        name: "batch-gone-before-it-is-applied",
        scenarios: &["feed"],
        file: "backlog.rs",
        sound: "        write(&oldest)?;\n        let mut batches = self.batches.lock();\n        batches.closed.pop_front();",
        broken: "        if PLANTED { self.batches.lock().closed.pop_front(); }\n        write(&oldest)?;\n        let mut batches = self.batches.lock();\n        if !PLANTED { batches.closed.pop_front(); }",
    },
    Bug {
        name: "refused-batch-dropped",
        scenarios: &["full-disk"],
        file: "backlog.rs",
        sound: "closed.front().cloned() else { return Ok(false) };",
        broken: "closed.front().cloned() else { return Ok(false) };\n        let write = |rows: &Rows| write(rows).inspect_err(|_| if PLANTED { self.batches.lock().closed.pop_front(); });",
    },
    Bug {
        name: "batches-brought-by-two-at-once",
        scenarios: &["retention", "checkpoint", "transactions"],
        file: "backlog.rs",
        sound: "let _turn = self.turn.lock();",
        broken: "let _turn = (!PLANTED).then(|| self.turn.lock());",
    },
    Bug {
        name: "written-lately-not-noted",
        scenarios: &["feed", "retention", "transactions"],
        file: "backlog.rs",
        sound: "        self.place(prefix).fetch_max(seq, Ordering::SeqCst);",
        broken: "        if !PLANTED { self.place(prefix).fetch_max(seq, Ordering::SeqCst); }",
    },
    Bug {
        name: "called-applied-before-it-is",
        scenarios: &["feed", "retention", "transactions"],
        file: "backlog.rs",
        sound: "closed.front().cloned() else { return Ok(false) };",
        broken: "closed.front().cloned() else { return Ok(false) };\n        if PLANTED { self.applied.fetch_max(oldest.last_seq(), Ordering::SeqCst); }",
    },
];

/// For how long a bug is looked for. Nearly all are found within a second.
const LONGEST_SECONDS: u32 = 60;

/// What the copy's questions are answered by.
const PLANTED_FN: &str = r#"
/// Whether the process was told to have this bug.
pub(crate) fn planted(bug: &str) -> bool {
    static BUG: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| std::env::var("ETAGDB_PLANTED").unwrap_or_default());
    *BUG == bug
}
"#;

fn main() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants");
    let engine = copy_files(&here.join("../../engine/src"), &copy.join("engine/src"));
    let package = copy_files(here, &copy.join("tests/schedules"));
    for bug in &BUGS {
        let path = engine.join(bug.file);
        let text = fs::read_to_string(&path).expect("copied");
        assert_eq!(text.matches(bug.sound).count(), 1, "{}: its place in {} is not there once", bug.name, bug.file);
        let broken = bug.broken.replace("PLANTED", &format!("crate::planted({:?})", bug.name));
        write(&path, &text.replace(bug.sound, &broken));
    }
    let lib = package.join("engine.rs");
    let text = fs::read_to_string(&lib).expect("copied");
    write(&lib, &(text + PLANTED_FN));

    let run = |bug: &str, scenarios: &[&str], seconds: u32| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["test", "--release", "--locked", "--quiet", "--test", "schedules"]).current_dir(&package);
        cargo.env("CARGO_TARGET_DIR", copy.join("target")).args(["--"]).args(scenarios);
        cargo
            .env("ETAGDB_PLANTED", bug)
            .env("ETAGDB_SCHEDULES_SECONDS", seconds.to_string())
            .env("ETAGDB_SCHEDULES_SEED", "0");
        cargo.env_remove("ETAGDB_SCHEDULE").env("RUST_BACKTRACE", "0").stderr(Stdio::null());
        let begun = Instant::now();
        let output = cargo.output().expect("cargo runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned(), begun.elapsed())
    };
    // Also that it compiles.
    let (green, told, time) = run("none", &[], 3);
    assert!(green, "red without a bug: {told}");
    println!("{:40} green, compiled and tried in {time:.1?}", "no bug");
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let mut missed = Vec::new();
    for bug in BUGS.iter().filter(|bug| wanted.is_empty() || wanted.iter().any(|name| name == bug.name)) {
        let (green, told, time) = run(bug.name, bug.scenarios, LONGEST_SECONDS);
        let red = told.lines().find(|line| line.starts_with("red after")).unwrap_or("not found");
        println!("{:40} {red} ({time:.1?})", bug.name);
        if green || red == "not found" {
            missed.push(bug.name);
        }
    }
    assert!(missed.is_empty(), "nobody noticed: {missed:?}");
}

/// Copies the sources below a folder, and leaves alone what is the same.
fn copy_files(from: &Path, to: &Path) -> PathBuf {
    fs::create_dir_all(to).expect("make");
    for entry in fs::read_dir(from).expect("list") {
        let path = entry.expect("listed").path();
        let target = to.join(path.file_name().expect("named"));
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                copy_files(&path, &target);
            }
        } else {
            fs::copy(&path, &target).expect("copy");
        }
    }
    to.to_owned()
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("write");
}
