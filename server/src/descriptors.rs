//! File descriptors: how many connections the process may have without taking those that the store needs.
//!
//! Owns the share. A store that cannot open a file for want of a descriptor takes no more writes until it is reopened,
//! so whoever can open connections could end all writing; the limit of connections is lowered before that can happen.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Kept for the store's files (it holds 512 open), its log, and what the process has besides.
const KEPT: u64 = 640;

/// Asks for as many descriptors as `wanted` connections need, and returns how many connections there may be.
pub(crate) fn connections_max(wanted: usize) -> usize {
    let needed = KEPT.saturating_add(wanted as u64);
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        let mut raised = limit;
        raised.current = Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed)));
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    let share = share(limit.current, wanted);
    if share < wanted {
        tracing::warn!(
            connections = share,
            wanted,
            descriptors = limit.current,
            "fewer connections than asked for, to leave the store its files: raise the limit of open files (ulimit -n)"
        );
    }
    share
}

/// What connections may take of a limit: what is left by the rest, or a quarter where that is nearly nothing.
fn share(limit: Option<u64>, wanted: usize) -> usize {
    let Some(limit) = limit else { return wanted };
    let left = limit.saturating_sub(KEPT).max(limit / 4).max(1);
    usize::try_from(left).map_or(wanted, |left| left.min(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_keeps_its_share() {
        for (limit, wanted, expected) in [
            (None, 4096, 4096),
            (Some(1_048_576), 4096, 4096),
            (Some(4096 + KEPT), 4096, 4096),
            (Some(1024), 4096, 384),
            (Some(700), 4096, 175),
            (Some(0), 4096, 1),
            (Some(1024), 10, 10),
        ] {
            assert_eq!(share(limit, wanted), expected, "{limit:?}");
        }
    }
}
