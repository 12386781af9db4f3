//! SQLite has one writer. Inside this process writers wait for one another here and are woken, instead of sleeping and
//! retrying against the file's lock, where the luckiest wins and others starve.
//!
//! The lock lets a running thread overtake now and then: strictly first come, first served would cost a thread switch for
//! every commit, and milliseconds each on a busy machine.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::dialect::Kind;

/// The line of this process's writers to one SQLite file; on other databases nobody waits.
#[derive(Debug)]
pub(crate) struct WriteGate {
    line: Option<Mutex<()>>,
    patience: Duration,
}

impl WriteGate {
    /// The gate of a database of this kind; a writer waits at most `patience`.
    pub(crate) fn new(kind: Kind, patience: Duration) -> Self {
        Self { line: (kind == Kind::Sqlite).then(Mutex::default), patience }
    }

    /// Waits for the turn. After the patience the file's own lock decides, as it does between processes: somebody may hold
    /// a transaction open around this one.
    pub(crate) fn enter(&self) -> Option<MutexGuard<'_, ()>> {
        self.line.as_ref().and_then(|line| line.try_lock_for(self.patience))
    }
}
