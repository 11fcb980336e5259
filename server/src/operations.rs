//! Operations on items: what each does to the current version, or why it may not.
//!
//! Owns the rules of optimistic concurrency, in one function, [`judge`], that single requests, transactional batches and
//! bulk requests all pass through. Every write is judged inside the store's own step (`run.rs`), never after a read of
//! ours.
//!
//! The order in which an operation is refused: partition key (400), existence (404, or 409 for a create), etag (412),
//! patch condition (412), the patch itself (400), size (413).

use std::sync::Arc;

use etagdb::{CommitSeq, DocumentTtl, Etag};
use http::StatusCode;

use crate::headers::Condition;
use crate::status::{ApiError, Kind};
use crate::strict::{Conditions, Evaluated};
use crate::wire::Version;

/// A body to be stored, and how long the item is to live with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct NewBody {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ttl: DocumentTtl,
}

/// What is to be done with an item.
#[derive(Clone)]
pub(crate) enum Action {
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
        apply: Apply,
    },
    /// Any of the others, under the conditions of RFC 9110 instead of its own.
    Strict {
        conditions: Conditions,
        action: Box<Action>,
    },
}

impl Action {
    /// The same under these conditions instead of its own.
    pub(crate) fn strictly(mut self, conditions: Conditions) -> Action {
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

    fn body_bytes(&self) -> usize {
        match self {
            Action::Create { body } | Action::Upsert { body, .. } | Action::Replace { body, .. } => body.bytes.len(),
            Action::Strict { action, .. } => action.body_bytes(),
            Action::Read { .. } | Action::Delete { .. } | Action::Check { .. } | Action::Patch { .. } => 0,
        }
    }

    /// Where a replacement's new storage key is.
    pub(crate) fn moved_to(&mut self) -> Option<&mut Option<Vec<u8>>> {
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

pub(crate) type Apply = Arc<dyn Fn(&Version) -> Result<NewBody, ApiError> + Send + Sync>;

/// One operation, addressed.
#[derive(Clone)]
pub(crate) struct Operation {
    /// The item's storage key.
    pub(crate) key: Vec<u8>,
    /// Set when the item was addressed by its rid: the item made by this commit, and no later one under the same id.
    pub(crate) created: Option<CommitSeq>,
    pub(crate) action: Action,
}

impl Operation {
    /// Bytes of the body that it brings along.
    pub(crate) fn body_bytes(&self) -> usize {
        self.action.body_bytes()
    }

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
    action: Action,
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
pub(crate) fn read(operation: Operation, version: Option<Version>) -> Outcome {
    match (judge(operation.action, operation.created, version.as_ref()), version) {
        (Ok(Verdict::NotModified), Some(version)) => Outcome::NotModified(version.etag, version.seq),
        (Ok(_), Some(version)) => Outcome::Item(StatusCode::OK, version),
        (Ok(_), None) => {
            Outcome::Refused(ApiError::new(Kind::InternalServerError, "an item that is not there was read"))
        }
        (Err(error), _) => Outcome::Refused(error),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const CURRENT: &str = "01234567-89ab-cdef-0000-000000000029";

    fn version(created: u64) -> Version {
        let (seq, created) = (CommitSeq::new(9), CommitSeq::new(created));
        Version { body: Bytes::from_static(b"{}"), etag: CURRENT.parse().unwrap(), seq, created, time_ms: 0 }
    }

    /// The verdicts on an absent and on a present item, as statuses, for four conditions.
    fn statuses(action: impl Fn(Condition) -> Action) -> [[u16; 4]; 2] {
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
        let patch = statuses(|if_match| Action::Patch { if_match, apply: Arc::new(|_| Ok(NewBody::default())) });
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
