//! The model of retention: which versions must stay, and which must be gone once maintenance has run.

use crate::mistakes::Mistake;
use crate::oracle::{Oracle, Version};

/// Who needs what.
#[derive(Debug, Clone, Default)]
pub(crate) struct Needs {
    /// The sequences that snapshots and transactions read at.
    pub(crate) at: Vec<u64>,
    /// The lowest sequence that a registered cursor stands at.
    pub(crate) from: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Stays,
    Goes,
    /// What is kept by count is judged when a later write of the document has come of age, and may be kept until then.
    Either,
}

impl Oracle {
    /// What becomes of a version when maintenance runs now.
    pub(crate) fn fate(&self, version: &Version, needs: &Needs) -> Fate {
        let bin = &self.bins[version.collection];
        let Some(age_ms) = bin.keep.age_ms else { return Fate::Stays };
        let is_due = |by: &Version| {
            let late = u64::from(self.errs(Mistake::KeepsTooLong));
            let passed = needs.from.is_none_or(|from| by.seq <= from || self.errs(Mistake::ForgetsCursors));
            by.time_ms + age_ms + late <= self.now_ms() && passed
        };
        let chain = self.chain(version.collection, version.id);
        let after: Vec<&&Version> = chain.iter().filter(|other| other.seq > version.seq).collect();
        let Some(superseded) = after.first() else {
            let may_go = !version.is_document() && is_due(version) && !self.is_newest_of_age(version, is_due);
            return if may_go { self.fate_of_newest(version, &chain, needs) } else { Fate::Stays };
        };
        let is_read = needs.at.iter().any(|&at| version.seq <= at && at < superseded.seq);
        let is_read = is_read && !self.errs(Mistake::ForgetsSnapshots);
        let exists = chain.last().is_some_and(|newest| newest.is_document());
        let keep = bin.keep.versions as usize;
        // The first version after it is the newest of those that supersede it, so there are as many superseded ones.
        let is_counted = exists && after.len() <= keep;
        let old: Vec<&&&Version> = after.iter().filter(|other| is_due(other)).collect();
        let between = old.iter().filter(|other| !other.gone).count();
        let is_passed = keep == 0 || (exists && between > keep) || (!exists && old.len() == after.len());
        let may_go = is_due(superseded) && !is_read && !is_counted;
        // Where what superseded it is gone, nobody knows when that was. It counts as superseded by the next one, so
        // whoever reads up to that may need it, and that must be old enough and not beyond a cursor.
        let next = after.iter().find(|other| !other.gone);
        let next_seq = next.map_or(self.last, |next| next.seq);
        let seems_read = needs.at.iter().any(|&at| version.seq <= at && at < next_seq);
        let is_passed = is_passed && (!seems_read || self.errs(Mistake::ForgetsSnapshots));
        let is_passed = is_passed && next.is_none_or(|next| is_due(next));
        if version.is_document() {
            return match (may_go, is_passed) {
                (false, _) => Fate::Stays,
                (true, true) => Fate::Goes,
                (true, false) => Fate::Either,
            };
        }
        // With nothing older left, a tombstone says no more than its absence does: it may go when it is old itself. And
        // it may stay as long as there is something that it hides.
        let hidden = self.fate_of_older(version, &chain, needs);
        if self.is_newest_of_age(version, is_due) {
            return Fate::Stays;
        }
        match () {
            // While somebody reads the past, it may stay until he is done.
            () if may_go && is_passed && hidden == Fate::Goes && needs.at.is_empty() => Fate::Goes,
            () if may_go || (is_due(version) && hidden != Fate::Stays && !is_counted) => Fate::Either,
            () => Fate::Stays,
        }
    }

    /// What becomes of all that is older than a version.
    fn fate_of_older(&self, version: &Version, chain: &[&Version], needs: &Needs) -> Fate {
        let older = chain.iter().filter(|other| other.seq < version.seq && !other.gone);
        older.map(|older| self.fate(older, needs)).fold(Fate::Goes, |all, fate| match (all, fate) {
            (Fate::Stays, _) | (_, Fate::Stays) => Fate::Stays,
            (Fate::Either, _) | (_, Fate::Either) => Fate::Either,
            (Fate::Goes, Fate::Goes) => Fate::Goes,
        })
    }

    /// Whether no later commit of collections that keep as long is old enough: it is what a reader of the past finds.
    fn is_newest_of_age(&self, version: &Version, is_due: impl Fn(&Version) -> bool) -> bool {
        let age_ms = self.bins[version.collection].keep.age_ms;
        let is_kept_as_long = |other: &Version| {
            let bin = &self.bins[other.collection];
            bin.live && bin.keep.age_ms == age_ms
        };
        // One whose sequence is a guess was dropped as soon as it was there, so it was not the newest.
        let is_later = |other: &Version| other.seq > version.seq || version.or_from.is_some();
        !self.log.iter().any(|other| is_later(other) && is_kept_as_long(other) && is_due(other))
    }

    fn fate_of_newest(&self, version: &Version, chain: &[&Version], needs: &Needs) -> Fate {
        match self.fate_of_older(version, chain, needs) {
            Fate::Goes if !needs.at.is_empty() => Fate::Either,
            fate => fate,
        }
    }

    /// What a version's having gone does to the horizon of its collection: it is at least this.
    pub(crate) fn horizon_after(&self, version: &Version) -> u64 {
        let chain = self.chain(version.collection, version.id);
        let least = |version: &Version| version.or_from.unwrap_or(version.seq);
        let superseded = chain.iter().find(|other| other.seq > version.seq);
        let is_last_of_all = chain.iter().all(|other| other.seq >= version.seq || other.gone);
        match superseded {
            // With nothing older left, a tombstone says no more than its absence does.
            _ if !version.is_document() && is_last_of_all => least(version) + 1,
            None => least(version) + 1,
            Some(superseded) => least(superseded),
        }
    }
}
