//! Operations on items: what each does to the current version, and running many of them as one atomic step.
//!
//! Owns the rules of optimistic concurrency, in one function, [`judge`], that single requests, transactional batches and
//! bulk requests all pass through. Every write is judged inside the store's own step (`WriteBatch::update`), never after
//! a read of ours.
//!
//! The order in which an operation is refused: partition key (400), existence (404, or 409 for a create), etag (412),
//! patch condition (412), the patch itself (400), size (413).

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use etagdb::{
    Abort, Change, Collection, CommitSeq, Document, DocumentTtl, Error, Etag, PutOptions, Store, WriteBatch, Written,
};
use http::StatusCode;

use crate::catalog::Container;
use crate::headers::Condition;
use crate::idempotency::{Guard, Notes, Record};
use crate::status::{ApiError, Kind};
use crate::strict::{Conditions, Evaluated};
use crate::unique::{self, Plan};
use crate::wire::Version;

/// How often a write of a container with unique keys is planned. Writers take turns, so that only an item's expiry, or the
/// moment after a guard's, can be in the way of a plan.
const ATTEMPTS_MAX: usize = 100;

/// A body to be stored, and how long the item is to live with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct NewBody {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ttl: DocumentTtl,
}

/// What is to be done with an item.
#[derive(Clone)]
pub(crate) enum Action<'a> {
    Create {
        body: NewBody,
    },
    Upsert {
        body: NewBody,
        if_match: Condition,
    },
    /// `moved_to` is the storage key of the new id, when the body's id is not the one addressed.
    Replace {
        body: NewBody,
        if_match: Condition,
        moved_to: Option<Vec<u8>>,
    },
    Read {
        if_none_match: Condition,
    },
    Delete {
        if_match: Condition,
    },
    /// Asks for nothing but that the conditions hold; an absent item meets the second and not the first.
    Check {
        if_match: Condition,
        if_none_match: Condition,
    },
    /// `apply` makes the new body of the version it is shown, or says why not.
    Patch {
        if_match: Condition,
        apply: Apply<'a>,
    },
    /// Any of the others, under the conditions of RFC 9110 instead of its own.
    Strict {
        conditions: Conditions,
        action: Box<Action<'a>>,
    },
}

impl<'a> Action<'a> {
    /// The same under these conditions instead of its own.
    pub(crate) fn strictly(mut self, conditions: Conditions) -> Action<'a> {
        if matches!(self, Action::Check { .. }) {
            return self;
        }
        match &mut self {
            Action::Upsert { if_match: own, .. }
            | Action::Replace { if_match: own, .. }
            | Action::Delete { if_match: own }
            | Action::Patch { if_match: own, .. }
            | Action::Read { if_none_match: own } => *own = Condition::None,
            Action::Create { .. } | Action::Check { .. } | Action::Strict { .. } => {}
        }
        Action::Strict { conditions, action: Box::new(self) }
    }

    /// The storage key of a replacement that has another than the item it replaces.
    fn new_key(&self) -> Option<&[u8]> {
        match self {
            Action::Replace { moved_to, .. } => moved_to.as_deref(),
            Action::Strict { action, .. } => action.new_key(),
            _ => None,
        }
    }

    /// Where a replacement's new storage key is.
    fn moved_to(&mut self) -> Option<&mut Option<Vec<u8>>> {
        match self {
            Action::Replace { moved_to, .. } => Some(moved_to),
            Action::Strict { action, .. } => action.moved_to(),
            _ => None,
        }
    }

    /// Says what comes of the conditions, if any, before the action itself is judged.
    ///
    /// What would be refused without conditions is refused the same with them (section 13.2.1).
    fn evaluate(&self, current: Option<&Version>) -> Evaluated {
        let Action::Strict { conditions, action } = self else { return Evaluated::Proceed };
        match (&**action, current) {
            (Action::Create { .. }, Some(_)) => Evaluated::Proceed,
            (Action::Create { .. } | Action::Upsert { .. }, None) => conditions.evaluate(None, false),
            (_, None) => Evaluated::Proceed,
            (action, Some(_)) => conditions.evaluate(current, matches!(action, Action::Read { .. })),
        }
    }
}

pub(crate) type Apply<'a> = Rc<dyn Fn(&Version) -> Result<NewBody, ApiError> + 'a>;

/// One operation, addressed.
#[derive(Clone)]
pub(crate) struct Operation<'a> {
    /// The item's storage key.
    pub(crate) key: Vec<u8>,
    /// Set when the item was addressed by its rid: the item made by this commit, and no later one under the same id.
    pub(crate) created: Option<CommitSeq>,
    pub(crate) action: Action<'a>,
}

impl Operation<'_> {
    /// The storage keys that it may write: the item's own, and the one it is to have afterwards, if that is another.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.key.as_slice()).chain(self.action.new_key())
    }
}

/// How one operation ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// 200 or 201, with the version read or written.
    Item(StatusCode, Version),
    /// 204: deleted, or a check whose conditions hold.
    Deleted,
    /// 304: the version read is the one the client has.
    NotModified(Etag, CommitSeq),
    Refused(ApiError),
    /// 424: not tried, or undone, because another operation of the batch was refused.
    Dependent,
}

/// What running operations came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) outcomes: Vec<Outcome>,
    /// First and last commit of the whole, if anything was written.
    pub(crate) commits: Option<(CommitSeq, CommitSeq)>,
    /// Whether it was done before, and this is only what it came to then.
    pub(crate) recalled: bool,
}

/// What a refused operation means for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing of the whole happens.
    AllOrNothing,
    /// The others happen.
    EachAlone,
    /// Those before it happen, those after it do not.
    UntilRefused,
}

/// What an allowed operation does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Put(StatusCode, NewBody),
    Delete,
    /// A check found its conditions met.
    Held,
    Read,
    NotModified,
}

/// Judges one operation against the version it finds: the whole table of optimistic concurrency.
pub(crate) fn judge(
    action: Action<'_>,
    created: Option<CommitSeq>,
    current: Option<&Version>,
) -> Result<Verdict, ApiError> {
    let current = current.filter(|found| created.is_none_or(|created| found.created == created));
    let hold = |condition: Condition, current: &Version| match condition {
        Condition::None => Ok(()),
        condition if condition.names(current.etag) => Ok(()),
        _ => Err(ApiError::precondition(Some(current.etag)).showing(current)),
    };
    match (action.evaluate(current), current) {
        (Evaluated::Proceed, _) => {}
        (Evaluated::NotModified, _) => return Ok(Verdict::NotModified),
        (Evaluated::Failed, Some(current)) => {
            return Err(ApiError::precondition(Some(current.etag)).showing(current));
        }
        (Evaluated::Failed, None) => return Err(ApiError::precondition(None)),
    }
    match (action, current) {
        (Action::Strict { action, .. }, current) => judge(*action, created, current),
        (Action::Create { body } | Action::Upsert { body, .. }, None) => Ok(Verdict::Put(StatusCode::CREATED, body)),
        (Action::Create { .. }, Some(current)) => Err(ApiError::conflict(Some(current.etag)).showing(current)),
        (Action::Check { if_match, if_none_match }, current) => {
            let holds = match current {
                Some(current) => hold(if_match, current).is_ok() && !if_none_match.names(current.etag),
                None => if_match == Condition::None,
            };
            match current {
                _ if holds => Ok(Verdict::Held),
                Some(current) => Err(ApiError::precondition(Some(current.etag)).showing(current)),
                None => Err(ApiError::precondition(None)),
            }
        }
        (_, None) => Err(ApiError::not_found("Entity with the specified id does not exist in the system.")),
        (Action::Upsert { body, if_match } | Action::Replace { body, if_match, .. }, Some(current)) => {
            hold(if_match, current)?;
            Ok(Verdict::Put(StatusCode::OK, body))
        }
        (Action::Delete { if_match }, Some(current)) => {
            hold(if_match, current)?;
            Ok(Verdict::Delete)
        }
        (Action::Read { if_none_match }, Some(current)) => {
            Ok(if if_none_match.names(current.etag) { Verdict::NotModified } else { Verdict::Read })
        }
        (Action::Patch { if_match, apply }, Some(current)) => {
            hold(if_match, current)?;
            Ok(Verdict::Put(StatusCode::OK, apply(current)?))
        }
    }
}

/// Judges a read of the version that was found, without a batch around it.
pub(crate) fn read(operation: Operation<'_>, version: Option<Version>) -> Outcome {
    match (judge(operation.action, operation.created, version.as_ref()), version) {
        (Ok(Verdict::NotModified), Some(version)) => Outcome::NotModified(version.etag, version.seq),
        (Ok(_), Some(version)) => Outcome::Item(StatusCode::OK, version),
        (Ok(_), None) => {
            Outcome::Refused(ApiError::new(Kind::InternalServerError, "an item that is not there was read"))
        }
        (Err(error), _) => Outcome::Refused(error),
    }
}

/// Runs operations in order as one step of the store. An operation that was refused before (its partition key
/// contradicts the request's, say) takes its turn like any other, so the first refusal in order is the one reported.
///
/// # Errors
///
/// Only what stops all of them: a failing disk, a container that is gone, a guard whose key was used for something else.
pub(crate) fn run(
    store: &Store,
    container: &Container,
    operations: Vec<Result<Operation<'_>, ApiError>>,
    mode: Mode,
    guard: Option<&Guard<'_>>,
) -> Result<Ran, ApiError> {
    let lost = || ApiError::new(Kind::InternalServerError, "an item kept changing while it was written");
    let Some(unique) = &container.unique else {
        let plans = operations.iter().map(|_| None).collect();
        return attempt(store, container, operations, plans, mode, guard)?.ok_or_else(lost);
    };
    let _turns = unique.take_turns(&operations);
    for _ in 0..ATTEMPTS_MAX {
        let plans = unique.plan(container, &operations, mode)?.into_iter().map(Some).collect();
        if let Some(ran) = attempt(store, container, operations.clone(), plans, mode, guard)? {
            return Ok(ran);
        }
    }
    Err(lost())
}

/// Runs operations once. `None`, with nothing written, if an item is not the one that its plan was made for.
fn attempt(
    store: &Store,
    container: &Container,
    operations: Vec<Result<Operation<'_>, ApiError>>,
    plans: Vec<Option<Plan>>,
    mode: Mode,
    guard: Option<&Guard<'_>>,
) -> Result<Option<Ran>, ApiError> {
    let done_before = RefCell::new(None);
    let progress = RefCell::new(Progress {
        slots: operations.iter().map(|_| Slot::Waiting).collect(),
        refused: false,
        last_write: HashMap::new(),
        notes: guard.map(|_| Notes::default()),
        is_outdated: false,
        mode,
    });
    let mut batch = store.batch();
    if let Some(guard) = guard {
        guard.look(&mut batch, &done_before);
    }
    for (index, (operation, plan)) in operations.into_iter().zip(plans).enumerate() {
        add(&mut batch, container, index, operation, plan, &progress);
    }
    if let Some(guard) = guard {
        guard.remember(&mut batch, |distances| {
            let progress = progress.borrow();
            Record::of(&progress.slots, progress.notes.as_ref()?, distances)
        });
    }
    let committed = batch.commit();
    if let (Some(document), Some(guard)) = (done_before.into_inner(), guard) {
        return guard.recall(&document).map(Some);
    }
    let progress = progress.into_inner();
    match committed {
        Ok(written) => Ok(Some(finish(progress, &written))),
        Err(Error::Aborted { .. }) if progress.is_outdated => Ok(None),
        Err(Error::Aborted { .. }) => {
            let outcomes = progress.slots.into_iter().map(|slot| match slot {
                Slot::Refused(error) => Outcome::Refused(error),
                Slot::NotModified(etag, seq) if progress.mode == Mode::AllOrNothing => Outcome::NotModified(etag, seq),
                _ => Outcome::Dependent,
            });
            Ok(Some(Ran { outcomes: outcomes.collect(), commits: None, recalled: false }))
        }
        Err(error) => Err(error.into()),
    }
}

/// What the closures of one run share.
struct Progress {
    slots: Vec<Slot>,
    refused: bool,
    /// Which of the store's operations wrote a key last, for reads that follow it in the same run.
    last_write: HashMap<Vec<u8>, usize>,
    /// What the store's operations wrote, for a run that is to be remembered.
    notes: Option<Notes>,
    /// Whether an item or a guard was not as it was planned for.
    is_outdated: bool,
    mode: Mode,
}

/// How far one operation is. `at` counts the store's operations, of which a move takes three.
#[derive(Debug)]
pub(crate) enum Slot {
    Waiting,
    /// A replacement under another id, allowed by the old one and waiting for the new one.
    Moving(NewBody),
    Wrote {
        status: StatusCode,
        body: Bytes,
        ttl: DocumentTtl,
        at: usize,
    },
    ReadStored(Version),
    ReadWritten {
        body: Bytes,
        at: usize,
    },
    NotModified(Etag, CommitSeq),
    Deleted,
    Refused(ApiError),
    Dependent,
}

impl Progress {
    /// Tells whether an earlier refusal ends the run without undoing it.
    fn skips(&self) -> bool {
        self.refused && self.mode == Mode::UntilRefused
    }

    fn skip(&mut self, index: usize) -> Result<Change, Abort> {
        self.slots[index] = Slot::Dependent;
        Ok(Change::Keep)
    }

    /// Records a refusal, and tells the store what it means.
    fn refuse(&mut self, index: usize, slot: Slot) -> Result<Change, Abort> {
        self.slots[index] = slot;
        self.refused = true;
        if self.mode == Mode::AllOrNothing { Err(Abort) } else { Ok(Change::Keep) }
    }

    /// Ends the attempt: what was planned is not what is there.
    fn outdated(&mut self) -> Result<Change, Abort> {
        self.is_outdated = true;
        Err(Abort)
    }

    fn wrote(&mut self, index: usize, key: Vec<u8>, status: StatusCode, body: NewBody, at: usize) -> Change {
        self.slots[index] = Slot::Wrote { status, body: Bytes::from(body.bytes.clone()), ttl: body.ttl, at };
        self.last_write.insert(key, at);
        Change::PutWith(body.bytes, PutOptions::default().document_ttl(body.ttl))
    }
}

/// Adds one of the store's operations. All writes of a run go through here, so that none is missing from its notes.
fn step<'a>(
    batch: &mut WriteBatch<'a>,
    collection: &Collection,
    key: &[u8],
    progress: &'a RefCell<Progress>,
    change: impl FnOnce(Option<&Document>) -> Result<Change, Abort> + 'a,
) {
    let at = batch.len();
    let own_key = progress.borrow().notes.is_some().then(|| key.to_vec());
    batch.update(collection, key, move |document| {
        let change = change(document)?;
        if let (Some(key), Some(notes)) = (own_key, &mut progress.borrow_mut().notes) {
            notes.note(at, &key, document, &change);
        }
        Ok(change)
    });
}

/// Adds the store's operations for one of ours.
fn add<'a>(
    batch: &mut WriteBatch<'a>,
    container: &'a Container,
    index: usize,
    operation: Result<Operation<'a>, ApiError>,
    plan: Option<Plan>,
    progress: &'a RefCell<Progress>,
) {
    let at = batch.len();
    let Operation { key, created, mut action } = match operation {
        Ok(operation) => operation,
        Err(error) => {
            // It touches no item; the key is one that no item has.
            step(batch, &container.items, &[0], progress, move |_| {
                let mut progress = progress.borrow_mut();
                if progress.skips() { progress.skip(index) } else { progress.refuse(index, Slot::Refused(error)) }
            });
            return;
        }
    };
    let moved_to = action.moved_to().and_then(Option::take);
    let (own_key, moves) = (key.clone(), moved_to.is_some());
    let planned = plan.as_ref().map(|plan| (plan.expected, plan.is_taken));
    step(batch, &container.items, &key, progress, move |document| {
        let mut progress = progress.borrow_mut();
        if progress.skips() {
            return progress.skip(index);
        }
        let current = document.map(Version::of);
        if planned.is_some_and(|(expected, _)| expected != current.as_ref().map(|version| version.etag)) {
            return progress.outdated();
        }
        match (judge(action, created, current.as_ref()), current) {
            (Ok(Verdict::Put(..)), _) if planned.is_some_and(|(_, is_taken)| is_taken) => {
                progress.refuse(index, Slot::Refused(unique::conflict()))
            }
            (Ok(Verdict::Put(_, body)), _) if moves => {
                progress.slots[index] = Slot::Moving(body);
                Ok(Change::Keep)
            }
            (Ok(Verdict::Put(status, body)), _) => Ok(progress.wrote(index, own_key, status, body, at)),
            (Ok(Verdict::Held), _) => {
                progress.slots[index] = Slot::Deleted;
                Ok(Change::Keep)
            }
            (Ok(Verdict::Delete), _) => {
                progress.slots[index] = Slot::Deleted;
                Ok(Change::Delete)
            }
            (Ok(Verdict::Read), Some(version)) => {
                progress.slots[index] = match progress.last_write.get(&own_key) {
                    Some(at) if version.etag == Etag::NEVER => Slot::ReadWritten { body: version.body, at: *at },
                    _ => Slot::ReadStored(version),
                };
                Ok(Change::Keep)
            }
            (Ok(Verdict::NotModified), Some(version)) => {
                progress.refuse(index, Slot::NotModified(version.etag, version.seq))
            }
            (Ok(Verdict::Read | Verdict::NotModified), None) => {
                progress.refuse(index, Slot::Refused(ApiError::not_found("The item is not there.")))
            }
            (Err(error), _) => progress.refuse(index, Slot::Refused(error.about(own_key))),
        }
    });
    if let Some(new_key) = moved_to {
        // The new id is written before the old one is deleted, so that a refusal here leaves the old one alone.
        let at = batch.len();
        let target = new_key.clone();
        step(batch, &container.items, &target, progress, move |document| {
            let mut progress = progress.borrow_mut();
            let slot = std::mem::replace(&mut progress.slots[index], Slot::Waiting);
            let Slot::Moving(body) = slot else {
                progress.slots[index] = slot;
                return Ok(Change::Keep);
            };
            match document {
                Some(taken) => {
                    let taken = ApiError::conflict(Some(taken.etag)).showing(&Version::of(taken));
                    progress.refuse(index, Slot::Refused(taken))
                }
                None => Ok(progress.wrote(index, new_key, StatusCode::OK, body, at)),
            }
        });
        step(batch, &container.items, &key, progress, move |_| {
            let progress = progress.borrow();
            Ok(if matches!(progress.slots[index], Slot::Wrote { .. }) { Change::Delete } else { Change::Keep })
        });
    }
    if let (Some(plan), Some(unique)) = (plan, &container.unique) {
        add_guards(batch, &unique.guards, index, plan, progress);
    }
}

/// Adds what an operation does to the guards of unique keys, once it has written or deleted its item.
fn add_guards<'a>(
    batch: &mut WriteBatch<'a>,
    guards: &Collection,
    index: usize,
    plan: Plan,
    progress: &'a RefCell<Progress>,
) {
    let Plan { before, after, release, hold, .. } = plan;
    let owners = Rc::new((before, after));
    for guard in release {
        let owners = Rc::clone(&owners);
        step(batch, guards, &guard, progress, move |document| {
            let is_done = matches!(progress.borrow().slots[index], Slot::Wrote { .. } | Slot::Deleted);
            let is_own = document.is_some_and(|document| document.body == owners.0);
            Ok(if is_done && is_own { Change::Delete } else { Change::Keep })
        });
    }
    for guard in hold {
        let owners = Rc::clone(&owners);
        step(batch, guards, &guard, progress, move |document| {
            let mut progress = progress.borrow_mut();
            let Slot::Wrote { ttl, .. } = progress.slots[index] else { return Ok(Change::Keep) };
            match document {
                Some(taken) if taken.body != owners.0 && taken.body != owners.1 => progress.outdated(),
                // A guard lives as long as its item, so it is written with every version.
                _ => Ok(Change::PutWith(owners.1.clone(), PutOptions::default().document_ttl(ttl))),
            }
        });
    }
}

/// Gives every slot the version it got at the commit.
fn finish(progress: Progress, written: &[Option<Written>]) -> Ran {
    let outcomes = outcomes(progress.slots, |body, at| match written.get(at) {
        Some(Some(written)) => Some(Version::written(body, written)),
        _ => None,
    });
    let mut commits = written.iter().flatten().map(|written| written.seq);
    let first = commits.next();
    let last = commits.next_back().or(first);
    Ran { outcomes, commits: first.zip(last), recalled: false }
}

/// How the operations ended. `version` knows what the store's operation at a position wrote.
pub(crate) fn outcomes(slots: Vec<Slot>, version: impl Fn(Bytes, usize) -> Option<Version>) -> Vec<Outcome> {
    let lost =
        || Outcome::Refused(ApiError::new(Kind::InternalServerError, "the store reported no version for a write"));
    let outcome = |slot| match slot {
        Slot::Wrote { status, body, at, .. } => {
            version(body, at).map_or_else(lost, |version| Outcome::Item(status, version))
        }
        Slot::ReadWritten { body, at } => {
            version(body, at).map_or_else(lost, |version| Outcome::Item(StatusCode::OK, version))
        }
        Slot::ReadStored(version) => Outcome::Item(StatusCode::OK, version),
        Slot::NotModified(etag, seq) => Outcome::NotModified(etag, seq),
        Slot::Deleted => Outcome::Deleted,
        Slot::Refused(error) => Outcome::Refused(error),
        Slot::Waiting | Slot::Moving(_) | Slot::Dependent => Outcome::Dependent,
    };
    slots.into_iter().map(outcome).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURRENT: &str = "01234567-89ab-cdef-0000-000000000029";

    fn version(created: u64) -> Version {
        let (seq, created) = (CommitSeq::new(9), CommitSeq::new(created));
        Version { body: Bytes::from_static(b"{}"), etag: CURRENT.parse().unwrap(), seq, created, time_ms: 0 }
    }

    /// The verdicts on an absent and on a present item, as statuses, for four conditions.
    fn statuses(action: impl Fn(Condition) -> Action<'static>) -> [[u16; 4]; 2] {
        let conditions = [
            Condition::None,
            Condition::Any,
            Condition::parse(format!("\"{CURRENT}\"").as_bytes()),
            Condition::parse(CURRENT.as_bytes()),
        ];
        [None, Some(version(7))].map(|current| {
            conditions.map(|condition| match judge(action(condition), None, current.as_ref()) {
                Ok(Verdict::Put(status, _)) => status.as_u16(),
                Ok(Verdict::Delete | Verdict::Held) => 204,
                Ok(Verdict::Read) => 200,
                Ok(Verdict::NotModified) => 304,
                Err(error) => error.kind.status().as_u16(),
            })
        })
    }

    /// Columns: no condition, `*`, the current etag, the current etag without its quotes.
    #[test]
    fn the_table_of_optimistic_concurrency() {
        let create = statuses(|_| Action::Create { body: NewBody::default() });
        assert_eq!(create, [[201; 4], [409; 4]]);
        let upsert = statuses(|if_match| Action::Upsert { body: NewBody::default(), if_match });
        assert_eq!(upsert, [[201; 4], [200, 200, 200, 412]]);
        let replace = statuses(|if_match| Action::Replace { body: NewBody::default(), if_match, moved_to: None });
        assert_eq!(replace, [[404; 4], [200, 200, 200, 412]]);
        let delete = statuses(|if_match| Action::Delete { if_match });
        assert_eq!(delete, [[404; 4], [204, 204, 204, 412]]);
        let check = statuses(|if_match| Action::Check { if_match, if_none_match: Condition::None });
        assert_eq!(check, [[204, 412, 412, 412], [204, 204, 204, 412]]);
        let check_not = statuses(|if_none_match| Action::Check { if_match: Condition::None, if_none_match });
        assert_eq!(check_not, [[204; 4], [204, 412, 412, 204]]);
        let read = statuses(|if_none_match| Action::Read { if_none_match });
        assert_eq!(read, [[404; 4], [200, 304, 304, 200]]);
        let patch = statuses(|if_match| Action::Patch { if_match, apply: Rc::new(|_| Ok(NewBody::default())) });
        assert_eq!(patch, [[404; 4], [200, 200, 200, 412]]);
    }

    #[test]
    fn an_item_made_again_is_not_the_one_its_old_rid_names() {
        let read = || Action::Read { if_none_match: Condition::None };
        let old = Some(CommitSeq::new(7));
        assert_eq!(judge(read(), old, Some(&version(8))).unwrap_err().kind, Kind::NotFound);
        assert_eq!(judge(read(), old, Some(&version(7))).unwrap(), Verdict::Read);
    }
}
