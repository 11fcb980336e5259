//! What threads share and wait with: locks, atomics, threads, and the seeds of hashes. Owns nothing. It is the one place
//! that says where these come from, so that the tests can compile the files of the engine over others, and then decide
//! themselves which thread goes on at each of them.

pub(crate) use std::hash::RandomState;
pub(crate) use std::sync::atomic;
pub(crate) use std::{hint, thread, thread_local};

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
