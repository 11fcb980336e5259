//! The judge that knows nothing but values: `adya`, which does what Jepsen's Elle does. From what transactions saw of
//! lists that are only added to it infers who came before whom (write-write, write-read, read-write, and by time), and
//! looks for cycles: G0, G1, G-single, G2 and their real-time forms. It is told of no etag and no commit sequence.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use adya::{Opts, Valid, Workload};
use serde_json::{Value, json};

use super::history::{History, Op};
use super::said::{Answer, Seen};

fn is_list(id: &str) -> bool {
    id.contains("list")
}

/// What is wrong, if anything is.
pub(crate) fn check(history: &History) -> Result<(), String> {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let commits = history.commits.iter().map(|commit| &commit.id[..]);
    let asked = history.ops.iter().flat_map(|op| op.writes.iter().map(|write| &write.id[..]));
    for id in commits.chain(asked).filter(|id| is_list(id)) {
        let next = numbers.len();
        numbers.entry(id).or_insert(next);
    }
    let mut lines: Vec<(usize, Value)> = Vec::new();
    for (process, op) in history.ops.iter().enumerate() {
        let (kind, steps) = steps(op, &numbers);
        if steps.is_empty() {
            continue;
        }
        // Each by a process of its own: one that got no answer may not ask again.
        let asked: Vec<Value> = steps.iter().map(without_answer).collect();
        lines.push((op.asked, json!({"type": "invoke", "process": process, "value": asked})));
        lines.push((op.answered, json!({"type": kind, "process": process, "value": steps})));
    }
    lines.sort_by_key(|line| line.0);
    let mut text = String::new();
    for (index, (_, mut line)) in lines.into_iter().enumerate() {
        line["index"] = index.into();
        text.push_str(&line.to_string());
        text.push('\n');
    }
    let parsed = adya::History::parse(&text).map_err(|error| format!("not a history: {error}"))?;
    let report = adya::check(&parsed, Workload::ListAppend, &Opts::default());
    // Of a handful of operations nothing may depend on any other.
    if report.valid == Valid::True || report.anomaly_types == ["empty-transaction-graph"] {
        return Ok(());
    }
    let first = report.anomalies.iter().next().and_then(|(_, all)| all.first());
    Err(format!("{:?}: {}", report.anomaly_types, first.map_or("nothing can be said", |first| &first.explanation)))
}

fn without_answer(step: &Value) -> Value {
    if step[0] == "r" { json!(["r", step[1], null]) } else { step.clone() }
}

/// What an operation did to lists, and whether it did.
fn steps(op: &Op, numbers: &BTreeMap<&str, usize>) -> (&'static str, Vec<Value>) {
    let read = |id: &str, body: &[u64]| numbers.get(id).map(|number| json!(["r", number, body]));
    let reads = |seen: &[Seen]| -> Vec<Value> {
        let told = seen.iter().filter(|seen| is_list(&seen.id)).filter_map(|seen| match &seen.version {
            None => read(&seen.id, &[]),
            Some(version) => version.body.as_ref().and_then(|body| read(&seen.id, body)),
        });
        told.collect()
    };
    let adds = op.writes.iter().filter(|write| is_list(&write.id)).map(|write| {
        let value = write.value.expect("lists are not deleted");
        json!(["append", numbers[&write.id[..]], value])
    });
    match &op.answer {
        Answer::Wrote { seen, .. } => ("ok", reads(seen).into_iter().chain(adds).collect()),
        Answer::Saw { seen, all_of } => {
            let mut steps = reads(seen);
            if let Some(prefix) = all_of {
                let known: BTreeSet<&str> = seen.iter().map(|seen| &seen.id[..]).collect();
                let others = numbers
                    .range::<str, _>((Bound::Included(&prefix[..]), Bound::Unbounded))
                    .take_while(|(id, _)| id.starts_with(&prefix[..]));
                steps.extend(others.filter(|(id, _)| !known.contains(*id)).filter_map(|(id, _)| read(id, &[])));
            }
            ("ok", steps)
        }
        Answer::Unknown => ("info", adds.collect()),
        Answer::Nothing | Answer::Refused { .. } => ("fail", adds.collect()),
        Answer::Fed { .. } => ("ok", Vec::new()),
    }
}
