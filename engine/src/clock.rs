//! The only file that reads the time. Commit times never run backwards, whatever the wall clock does.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where a store takes the wall-clock time of its commits from.
///
/// The default is the system's clock. Tests pass their own through [`Options::clock`](crate::Options::clock). A clock
/// that is set back does no harm: the engine never stamps a commit with an earlier time than the one before it.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> SystemTime;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Milliseconds since the Unix epoch, never less than `floor_ms`. A clock before 1970 counts as 1970.
pub(crate) fn now_ms(clock: &Arc<dyn Clock>, floor_ms: u64) -> u64 {
    to_ms(clock.now()).max(floor_ms)
}

/// Milliseconds since the Unix epoch; 0 for a time before it.
pub(crate) fn to_ms(time: SystemTime) -> u64 {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// When a wait that begins now and may take `timeout` ends; `None` for one that never does. Measured on a clock that
/// nobody sets, whatever [`Clock`] the store has.
pub(crate) fn deadline(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}
