//! Unique keys: values that no two items of one partition key may share.
//!
//! Owns what a container's `uniqueKeyPolicy` may say, and the guards that keep it: the collection `unique/<container
//! rid>`, where each unique value of each item has a document that names the item. Guards are written in the same batch
//! as the item, judged by the store like the item itself, and live as long as it does; so there is no moment, crash or
//! race at which the two disagree.
//!
//! ```text
//! id:   storage key of the item up to its id | u8 number of the unique key | SHA-256 of the values
//! body: storage key of the item
//! ```
//!
//! Which guards a write needs depends on the item it meets: a replacement gives up the values of the version before. So
//! the operations are gone through once beforehand ([`UniqueKeys::plan`]), and the store refuses the batch if an item is
//! not the one that was met then; it is then planned anew. Writers of one partition key take turns, or they would do that
//! all the time.
//!
//! A missing value counts as null, as it does at the service: one item of a partition key may be without it.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use etagdb::{Collection, CommitSeq, Etag};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::catalog::Container;
use crate::document::Body;
use crate::item_key;
use crate::operations::{self, Operation, Verdict};
use crate::partition_key::{self, Path};
use crate::run::Mode;
use crate::status::{ApiError, Kind};
use crate::wire::Version;

/// Most unique keys of a container, and most paths of one of them.
const KEYS_MAX: usize = 10;
const PATHS_MAX: usize = 16;
/// Writers of different partition keys rarely share one of so many turns.
const TURNS: usize = 64;

/// The unique keys of a container, and their guards.
#[derive(Debug)]
pub(crate) struct UniqueKeys {
    keys: Vec<Vec<Path>>,
    pub(crate) guards: Collection,
    /// Held from planning a write to its commit.
    turns: Vec<Mutex<()>>,
}

/// What an operation will do to guards, if it meets the item it is planned for.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// The version that the operation was planned for; `None` for no item.
    pub(crate) expected: Option<Etag>,
    /// What the operation is refused with, because another item has one of the values.
    pub(crate) taken: Option<ApiError>,
    /// Guards to be given up, and to be held from now on.
    pub(crate) release: Vec<Vec<u8>>,
    pub(crate) hold: Vec<Vec<u8>>,
    /// The storage keys of the item before and after.
    pub(crate) before: Vec<u8>,
    pub(crate) after: Vec<u8>,
}

/// Reads a container's `uniqueKeyPolicy`: the paths of each key.
pub(crate) fn parse(policy: Option<&Value>) -> Result<Vec<Vec<Path>>, ApiError> {
    let invalid =
        |why: &dyn std::fmt::Display| ApiError::bad_request(format!("The 'uniqueKeyPolicy' is invalid: {why}."));
    let Some(policy) = policy else { return Ok(Vec::new()) };
    let keys = match &policy["uniqueKeys"] {
        Value::Null => return Ok(Vec::new()),
        Value::Array(keys) => keys,
        _ => return Err(invalid(&"'uniqueKeys' must be a list")),
    };
    if keys.len() > KEYS_MAX {
        return Err(invalid(&format!("it has {} unique keys, and there can be at most {KEYS_MAX}", keys.len())));
    }
    let key = |key: &Value| {
        let paths = key["paths"].as_array().filter(|paths| (1..=PATHS_MAX).contains(&paths.len()));
        let paths = paths.ok_or_else(|| invalid(&format!("a unique key must have 1 to {PATHS_MAX} 'paths'")))?;
        paths
            .iter()
            .map(|path| {
                let path = path.as_str().ok_or_else(|| invalid(&"a path must be a string"))?;
                Path::parse(path.to_owned()).map_err(|error| invalid(&error))
            })
            .collect()
    };
    keys.iter().map(key).collect()
}

/// The refusal of a value that another item has, which it names and shows like any conflict. An item of the same batch is
/// not there to be shown.
fn conflict(holder: Option<&Version>) -> ApiError {
    let message = "Unique index constraint violation: another item of this partition key has the same unique value.";
    let conflict = ApiError::new(Kind::Conflict, message).etag(holder.map(|holder| holder.etag));
    match holder {
        Some(holder) => conflict.showing(holder),
        None => conflict,
    }
}

impl UniqueKeys {
    pub(crate) fn new(keys: Vec<Vec<Path>>, guards: Collection) -> UniqueKeys {
        UniqueKeys { keys, guards, turns: (0..TURNS).map(|_| Mutex::default()).collect() }
    }

    /// The turns of every partition key that the operations write to, in the order in which they are to be taken.
    pub(crate) fn turns(&self, operations: &[Result<Operation, ApiError>]) -> impl Iterator<Item = &Mutex<()>> + Send {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let turn = |key: &[u8]| usize::try_from(hasher.hash_one(item_key::partition_of_key(key)) % TURNS as u64).ok();
        let keys = operations.iter().flatten().flat_map(Operation::keys);
        let mut turns: Vec<usize> = keys.filter_map(turn).collect();
        // In one order, so that no two writers wait for each other.
        turns.sort_unstable();
        turns.dedup();
        turns.into_iter().filter_map(|turn| self.turns.get(turn))
    }

    /// Goes through the operations as they would be carried out now.
    pub(crate) fn plan(
        &self,
        container: &Container,
        operations: &[Result<Operation, ApiError>],
        mode: Mode,
    ) -> Result<Vec<Plan>, ApiError> {
        let mut state = State { unique: self, container, items: HashMap::new(), owners: HashMap::new() };
        let mut plans = Vec::with_capacity(operations.len());
        for operation in operations {
            let (plan, is_refused) = match operation {
                Ok(operation) => state.plan(operation)?,
                Err(_) => (Plan::default(), true),
            };
            plans.push(plan);
            if is_refused && mode != Mode::EachAlone {
                break;
            }
        }
        // What comes after a refusal is not carried out.
        plans.resize_with(operations.len(), Plan::default);
        Ok(plans)
    }

    /// The guards of an item.
    fn guards_of(&self, key: &[u8], body: &[u8]) -> Result<Vec<Vec<u8>>, ApiError> {
        let unreadable = |error: &dyn std::fmt::Display| {
            ApiError::new(Kind::InternalServerError, format!("an item's unique values cannot be read: {error}"))
        };
        let body = Body::parse(body).map_err(|error| unreadable(&error))?;
        let guard = |(number, paths): (usize, &Vec<Path>)| {
            let mut hash = Sha256::new();
            for path in paths {
                let value = match partition_key::find(&body, path.segments()) {
                    Some(value) => serde_json::from_str(value.get()).map_err(|error| unreadable(&error))?,
                    None => Value::Null,
                };
                write_value(&value, &mut hash);
            }
            let number = u8::try_from(number).map_err(|error| unreadable(&error))?;
            Ok([item_key::partition_of_key(key), &[number], hash.finalize().as_slice()].concat())
        };
        self.keys.iter().enumerate().map(guard).collect()
    }
}

/// Writes a value so that equal values, and no others, are the same bytes.
fn write_value(value: &Value, hash: &mut Sha256) {
    let text = match value {
        Value::Null => return hash.update([0]),
        Value::Bool(value) => return hash.update([1, u8::from(*value)]),
        Value::Number(number) => {
            hash.update([2]);
            // Numbers are doubles to the service; adding zero turns minus zero into zero.
            return hash.update((number.as_f64().unwrap_or(f64::NAN) + 0.0).to_be_bytes());
        }
        Value::String(text) => {
            hash.update([3]);
            text.clone()
        }
        Value::Array(_) | Value::Object(_) => {
            hash.update([4]);
            value.to_string()
        }
    };
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text);
}

/// What the operations so far would have made of the container.
struct State<'a> {
    unique: &'a UniqueKeys,
    container: &'a Container,
    items: HashMap<Vec<u8>, Option<Version>>,
    /// By guard, the item that holds it.
    owners: HashMap<Vec<u8>, Option<Vec<u8>>>,
}

impl State<'_> {
    /// Plans one operation. Says too whether it would be refused.
    fn plan(&mut self, operation: &Operation) -> Result<(Plan, bool), ApiError> {
        let current = self.item(&operation.key)?;
        let after = operation.keys().last().unwrap_or(&operation.key).to_vec();
        let plan = Plan {
            expected: current.as_ref().map(|version| version.etag),
            before: operation.key.clone(),
            after,
            ..Plan::default()
        };
        let body = match operations::judge(operation.action.clone(), operation.created, current.as_ref()) {
            Ok(Verdict::Put(_, body)) => Some(body),
            Ok(Verdict::Delete) => None,
            Ok(Verdict::Read | Verdict::Held) => return Ok((plan, false)),
            Ok(Verdict::NotModified) | Err(_) => return Ok((plan, true)),
        };
        // A replacement under another id that is taken.
        if plan.after != plan.before && self.item(&plan.after)?.is_some() {
            return Ok((plan, true));
        }
        let hold = body.as_ref().map(|body| self.unique.guards_of(&plan.after, &body.bytes)).transpose()?;
        let hold = hold.unwrap_or_default();
        for guard in &hold {
            if let Some(owner) = self.owner(guard)?.filter(|owner| *owner != plan.before && *owner != plan.after) {
                let taken = conflict(self.item(&owner)?.as_ref());
                return Ok((Plan { taken: Some(taken), ..plan }, true));
            }
        }
        let mut release = match &current {
            Some(version) => self.unique.guards_of(&plan.before, &version.body)?,
            None => Vec::new(),
        };
        release.retain(|guard| !hold.contains(guard));
        for guard in &release {
            self.owners.insert(guard.clone(), None);
        }
        for guard in &hold {
            self.owners.insert(guard.clone(), Some(plan.after.clone()));
        }
        self.items.insert(plan.before.clone(), None);
        let written = |bytes: Vec<u8>| Version {
            body: bytes.into(),
            etag: Etag::NEVER,
            seq: CommitSeq::default(),
            created: CommitSeq::default(),
            time_ms: 0,
        };
        self.items.insert(plan.after.clone(), body.map(|body| written(body.bytes)));
        Ok((Plan { release, hold, ..plan }, false))
    }

    fn item(&mut self, key: &[u8]) -> Result<Option<Version>, ApiError> {
        if let Some(known) = self.items.get(key) {
            return Ok(known.clone());
        }
        let version = self.container.items.get(key)?.as_ref().map(Version::of);
        self.items.insert(key.to_vec(), version.clone());
        Ok(version)
    }

    fn owner(&mut self, guard: &[u8]) -> Result<Option<Vec<u8>>, ApiError> {
        if let Some(known) = self.owners.get(guard) {
            return Ok(known.clone());
        }
        Ok(self.unique.guards.get(guard)?.map(|document| document.body.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_policy_is_a_list_of_lists_of_paths() {
        let paths = |policy: Value| parse(Some(&policy)).map(|keys| keys.iter().map(Vec::len).collect::<Vec<_>>()).ok();
        assert_eq!(paths(json!({})), Some(vec![]));
        assert_eq!(paths(json!({"uniqueKeys": []})), Some(vec![]));
        assert_eq!(paths(json!({"uniqueKeys": [{"paths": ["/a"]}, {"paths": ["/b/c", "/d"]}]})), Some(vec![1, 2]));
        for wrong in [
            json!({"uniqueKeys": 1}),
            json!({"uniqueKeys": [{}]}),
            json!({"uniqueKeys": [{"paths": []}]}),
            json!({"uniqueKeys": [{"paths": ["a"]}]}),
            json!({"uniqueKeys": [{"paths": [1]}]}),
            json!({"uniqueKeys": [{"paths": vec!["/a"; 17]}]}),
            json!({"uniqueKeys": vec![json!({"paths": ["/a"]}); 11]}),
        ] {
            assert_eq!(paths(wrong.clone()), None, "{wrong}");
        }
    }

    #[test]
    fn equal_values_and_no_others_have_the_same_bytes() {
        let bytes = |values: &[Value]| {
            let mut hash = Sha256::new();
            values.iter().for_each(|value| write_value(value, &mut hash));
            hash.finalize()
        };
        for (a, b, same) in [
            (vec![json!(1)], vec![json!(1.0)], true),
            (vec![json!(0)], vec![json!(-0.0)], true),
            (vec![json!(1)], vec![json!("1")], false),
            (vec![json!(null)], vec![json!(false)], false),
            (vec![json!("a"), json!("bc")], vec![json!("ab"), json!("c")], false),
            (vec![json!([1])], vec![json!("[1]")], false),
            (vec![json!([1])], vec![json!([1])], true),
        ] {
            assert_eq!(bytes(&a) == bytes(&b), same, "{a:?} {b:?}");
        }
    }
}
