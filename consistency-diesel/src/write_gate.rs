//! SQLite has one writer. Inside this process writers wait for one another here and are woken, instead of sleeping and
//! retrying against the file's lock, where the luckiest wins and others starve.
//!
//! A running writer may overtake those who sleep, but only for a moment: strictly first come, first served would cost a thread
//! switch for every commit, and milliseconds each on a busy machine.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::dialect::Kind;

/// How long after a sleeper's turn newcomers may still go first.
const OVERTAKING: Duration = Duration::from_millis(1);

/// The line of this process's writers to one SQLite file; on other databases nobody waits.
#[derive(Debug)]
pub struct WriteGate {
    line: Option<Mutex<Line>>,
    freed: Condvar,
    freed_async: Notify,
    patience: Duration,
}

#[derive(Debug)]
struct Line {
    taken: bool,
    sleepers: usize,
    overtaking_until: Instant,
}

/// The turn of one writer, until it is dropped.
#[derive(Debug)]
pub struct Turn<'g>(&'g WriteGate);

impl WriteGate {
    /// The gate of a database of this kind; a writer waits at most `patience`.
    pub(crate) fn new(kind: Kind, patience: Duration) -> Self {
        let line = Line { taken: false, sleepers: 0, overtaking_until: Instant::now() };
        Self {
            line: (kind == Kind::Sqlite).then(|| Mutex::new(line)),
            freed: Condvar::new(),
            freed_async: Notify::new(),
            patience,
        }
    }

    /// Waits for the turn. After the patience the file's own lock decides, as it does between processes: somebody may hold
    /// a transaction open around this one.
    pub(crate) fn enter(&self) -> Option<Turn<'_>> {
        let mut line = self.line.as_ref()?.lock();
        if line.may_enter() {
            return Some(self.take(line));
        }
        let deadline = Instant::now() + self.patience;
        line.sleepers += 1;
        let mut timed_out = false;
        while line.taken && !timed_out {
            timed_out = self.freed.wait_until(&mut line, deadline).timed_out();
        }
        line.sleepers -= 1;
        if line.taken {
            return None;
        }
        line.overtaking_until = Instant::now() + OVERTAKING;
        Some(self.take(line))
    }

    /// As [`enter`](Self::enter), for a future on a Tokio runtime with time.
    #[cfg(feature = "async")]
    pub(crate) async fn enter_async(&self) -> Option<Turn<'_>> {
        let line = self.line.as_ref()?;
        if let Some(turn) = self.enter_at_once(line) {
            return Some(turn);
        }
        let sleeper = Sleeper::new(line);
        let waiting = async {
            loop {
                let freed = self.freed_async.notified();
                if let Some(turn) = self.enter_after_sleep(sleeper.0) {
                    return turn;
                }
                freed.await;
            }
        };
        // An error means that the patience is over.
        tokio::time::timeout(self.patience, waiting).await.ok()
    }

    #[cfg(feature = "async")]
    fn enter_at_once<'g>(&'g self, line: &'g Mutex<Line>) -> Option<Turn<'g>> {
        let line = line.lock();
        line.may_enter().then(|| self.take(line))
    }

    #[cfg(feature = "async")]
    fn enter_after_sleep<'g>(&'g self, line: &'g Mutex<Line>) -> Option<Turn<'g>> {
        let mut line = line.lock();
        if line.taken {
            return None;
        }
        line.overtaking_until = Instant::now() + OVERTAKING;
        Some(self.take(line))
    }

    fn take(&self, mut line: MutexGuard<'_, Line>) -> Turn<'_> {
        line.taken = true;
        Turn(self)
    }
}

impl Line {
    fn may_enter(&self) -> bool {
        !self.taken && (self.sleepers == 0 || Instant::now() < self.overtaking_until)
    }
}

/// One future that waits, counted until it is dropped.
#[cfg(feature = "async")]
struct Sleeper<'g>(&'g Mutex<Line>);

#[cfg(feature = "async")]
impl<'g> Sleeper<'g> {
    fn new(line: &'g Mutex<Line>) -> Self {
        line.lock().sleepers += 1;
        Self(line)
    }
}

#[cfg(feature = "async")]
impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        self.0.lock().sleepers -= 1;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(line) = &self.0.line else { return };
        let mut line = line.lock();
        line.taken = false;
        // One of each kind is woken; who comes late sleeps on.
        if line.sleepers > 0 {
            self.0.freed.notify_one();
            self.0.freed_async.notify_one();
        }
    }
}
