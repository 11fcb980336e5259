//! What the engine's `sync.rs` names, over a scheduler. Owns the shape of these types (parking_lot's, without poisoning);
//! who goes on is shuttle's to say. Nothing here may differ from run to run: hashes have fixed seeds.

use std::fmt;
use std::hash::{BuildHasher, DefaultHasher};
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use shuttle::rand::Rng;

pub(crate) use shuttle::sync::atomic;
pub(crate) use shuttle::thread;

/// Hashes with the same seed each time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RandomState(());

impl BuildHasher for RandomState {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        DefaultHasher::new()
    }
}

/// A panic ends a schedule, so no lock is ever found poisoned but while threads unwind.
fn unpoisoned<T>(result: Result<T, std::sync::PoisonError<T>>) -> T {
    result.unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The lock itself is made when it is first taken: a store has thousands, and a schedule takes few of them.
#[derive(Default)]
pub(crate) struct Mutex<T> {
    lock: OnceLock<Box<shuttle::sync::Mutex<()>>>,
    /// Taken by the holder of the lock alone.
    value: std::sync::Mutex<T>,
}

pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// `None`, as the next one, only while a condition variable has it. Goes first.
    value: Option<std::sync::MutexGuard<'a, T>>,
    lock: Option<shuttle::sync::MutexGuard<'a, ()>>,
}

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Mutex<T> {
        Mutex { lock: OnceLock::new(), value: std::sync::Mutex::new(value) }
    }

    fn scheduled(&self) -> &shuttle::sync::Mutex<()> {
        self.lock.get_or_init(Box::default)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let lock = unpoisoned(self.scheduled().lock());
        MutexGuard { mutex: self, value: Some(unpoisoned(self.value.lock())), lock: Some(lock) }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let lock = self.scheduled().try_lock().ok()?;
        Some(MutexGuard { mutex: self, value: Some(unpoisoned(self.value.lock())), lock: Some(lock) })
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.scheduled().try_lock().is_err()
    }

    /// Gives up at once: a time that is over before anything happens.
    pub(crate) fn try_lock_for(&self, _: Duration) -> Option<MutexGuard<'_, T>> {
        thread::yield_now();
        self.try_lock()
    }
}

/// Measures what the engine draws conclusions from: no time at all, or a long one, as the scheduler's random numbers have
/// it.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch;

impl Stopwatch {
    pub(crate) fn start() -> Stopwatch {
        Stopwatch
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_millis(u64::from(shuttle::rand::thread_rng().gen_bool(0.5)))
    }
}

/// Few enough that a wake-up that is lost is missed.
pub(crate) fn looks(most: usize) -> usize {
    most.min(shuttle::rand::thread_rng().gen_range(0..3))
}

impl<T> MutexGuard<'_, T> {
    pub(crate) fn unlock_fair(guard: Self) {
        drop(guard);
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_deref().expect("held")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_deref_mut().expect("held")
    }
}

pub(crate) struct TimedOut(bool);

impl TimedOut {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

/// A timed wait may end at any moment, with or without a call.
#[derive(Debug, Default)]
pub(crate) struct Condvar(shuttle::sync::Condvar);

impl Condvar {
    pub(crate) const fn new() -> Condvar {
        Condvar(shuttle::sync::Condvar::new())
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        drop(guard.value.take());
        let lock = guard.lock.take().expect("held");
        guard.lock = Some(unpoisoned(self.0.wait(lock)));
        guard.value = Some(unpoisoned(guard.mutex.value.lock()));
    }

    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> TimedOut {
        drop((guard.value.take(), guard.lock.take()));
        thread::yield_now();
        *guard = guard.mutex.lock();
        TimedOut(true)
    }

    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _: Instant) -> TimedOut {
        self.wait_for(guard, Duration::ZERO)
    }
}

#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) const fn new(value: T) -> RwLock<T> {
        RwLock(shuttle::sync::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> shuttle::sync::RwLockReadGuard<'_, T> {
        unpoisoned(self.0.read())
    }

    pub(crate) fn write(&self) -> shuttle::sync::RwLockWriteGuard<'_, T> {
        unpoisoned(self.0.write())
    }
}

/// A cell of each of the scheduler's threads, all of which the operating system takes for one.
pub(crate) struct Local<T: 'static>(pub(crate) &'static shuttle::thread::LocalKey<std::cell::Cell<T>>);

impl<T: Copy + 'static> Local<T> {
    pub(crate) fn get(&self) -> T {
        self.0.with(std::cell::Cell::get)
    }

    pub(crate) fn set(&self, value: T) {
        self.0.with(|cell| cell.set(value));
    }
}

macro_rules! local {
    ($(#[$attribute:meta])* $visible:vis static $name:ident: Cell<$type:ty> = const { $init:expr };) => {
        $(#[$attribute])*
        $visible static $name: crate::sync::Local<$type> = {
            shuttle::thread_local! { static KEY: Cell<$type> = const { $init } }
            crate::sync::Local(&KEY)
        };
    };
}
pub(crate) use local as thread_local;
