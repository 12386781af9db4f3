//! SQLite has one writer. Inside this process writers wait for one another here and are woken, instead of sleeping and
//! retrying against the file's lock, where the luckiest wins and others starve.
//!
//! A running writer may overtake those who sleep, but only for a moment: strictly first come, first served would cost a thread
//! switch for every commit, and milliseconds each on a busy machine.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
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
    /// The turn is taken for whichever sleeper wakes first.
    handed: bool,
    sleepers: usize,
    overtaking_until: Instant,
}

/// The turn of one writer, until it is dropped.
#[derive(Debug)]
pub struct Turn<'g>(&'g WriteGate);

impl WriteGate {
    /// The gate of a database of this kind; a writer waits at most `patience`.
    pub(crate) fn new(kind: Kind, patience: Duration) -> Self {
        let line = Line { taken: false, handed: false, sleepers: 0, overtaking_until: Instant::now() };
        Self {
            line: (kind == Kind::Sqlite).then(|| Mutex::new(line)),
            freed: Condvar::new(),
            freed_async: Notify::new(),
            patience,
        }
    }

    /// Whether the code under way on this thread is part of a transaction that has the turn: it would wait for itself.
    pub(crate) fn is_held_around(&self) -> bool {
        AROUND.with_borrow(|around| around.contains(&self.place()))
    }

    /// What tells it from other gates.
    fn place(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Waits for the turn. After the patience the file's own lock decides, as it does between processes: somebody may hold
    /// a transaction open around this one.
    pub(crate) fn enter(&self) -> Option<Turn<'_>> {
        let mut line = self.line.as_ref()?.lock();
        if line.enter_at_once() {
            return Some(Turn(self));
        }
        let deadline = Instant::now() + self.patience;
        line.sleepers += 1;
        loop {
            let timed_out = self.freed.wait_until(&mut line, deadline).timed_out();
            if line.enter_after_sleep() {
                line.sleepers -= 1;
                return Some(Turn(self));
            }
            if timed_out {
                line.sleepers -= 1;
                return None;
            }
        }
    }

    /// As [`enter`](Self::enter), for a future on a Tokio runtime with time.
    #[cfg(feature = "async")]
    pub(crate) async fn enter_async(&self) -> Option<Turn<'_>> {
        let line = self.line.as_ref()?;
        let Some(sleeper) = self.enter_or_sleep(line) else { return Some(Turn(self)) };
        let woken = async {
            loop {
                self.freed_async.notified().await;
                if line.lock().enter_after_sleep() {
                    return Turn(self);
                }
            }
        };
        // An error means that the patience is over.
        let turn = tokio::time::timeout(self.patience, woken).await.ok();
        drop(sleeper);
        turn
    }

    /// The turn, at once; or a place among the sleepers. Both under one lock, so that no turn ends in between unnoticed.
    #[cfg(feature = "async")]
    fn enter_or_sleep<'g>(&'g self, line: &'g Mutex<Line>) -> Option<Sleeper<'g>> {
        let mut line = line.lock();
        if line.enter_at_once() {
            return None;
        }
        line.sleepers += 1;
        Some(Sleeper(self))
    }

    /// Wakes one sleeper of each kind; who comes late sleeps on.
    fn wake_sleepers(&self) {
        self.freed.notify_one();
        self.freed_async.notify_one();
    }
}

thread_local! {
    /// The gates held by the transactions around the code under way on this thread.
    static AROUND: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Does `work` as part of a transaction that has the turn at `gate`. A thread or a Tokio task may have several transactions under
/// way, of which one waits for the other's end; only what runs inside the work itself can never get the turn.
pub(crate) async fn held_around<T>(gate: Option<&WriteGate>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        let _around = gate.filter(|gate| gate.line.is_some()).map(Around::enter);
        work.as_mut().poll(context)
    })
    .await
}

/// A gate in [`AROUND`], until it is dropped.
struct Around;

impl Around {
    fn enter(gate: &WriteGate) -> Self {
        AROUND.with_borrow_mut(|around| around.push(gate.place()));
        Around
    }
}

impl Drop for Around {
    fn drop(&mut self) {
        AROUND.with_borrow_mut(|around| around.pop());
    }
}

impl Line {
    fn enter_at_once(&mut self) -> bool {
        let free = !self.taken;
        self.taken = true;
        free
    }

    fn enter_after_sleep(&mut self) -> bool {
        let mine = std::mem::take(&mut self.handed) || !self.taken;
        if mine {
            self.taken = true;
            self.overtaking_until = Instant::now() + OVERTAKING;
        }
        mine
    }
}

/// One future that waits, counted until it is dropped.
#[cfg(feature = "async")]
struct Sleeper<'g>(&'g WriteGate);

#[cfg(feature = "async")]
impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        let Some(line) = &self.0.line else { return };
        let mut line = line.lock();
        line.sleepers -= 1;
        // It may have been woken for a turn it does not take any more.
        if line.handed && line.sleepers == 0 {
            (line.handed, line.taken) = (false, false);
        } else if line.handed {
            self.0.wake_sleepers();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(line) = &self.0.line else { return };
        let mut line = line.lock();
        if line.sleepers == 0 {
            line.taken = false;
            return;
        }
        // Who sleeps gets the turn as soon as overtaking is over; until then it is there for who comes first.
        let overtaking = Instant::now() < line.overtaking_until;
        (line.taken, line.handed) = (!overtaking, !overtaking);
        self.0.wake_sleepers();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeper_gets_its_turn_though_somebody_always_comes_back_at_once() {
        let gate = WriteGate::new(Kind::Sqlite, Duration::from_secs(60));
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let first = gate.enter();
            scope.spawn(|| {
                assert!(gate.enter().is_some(), "the sleeper was never let in");
                done.store(true, std::sync::atomic::Ordering::SeqCst);
            });
            while gate.line.as_ref().is_none_or(|line| line.lock().sleepers == 0) {
                std::thread::yield_now();
            }
            drop(first);
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                drop(gate.enter());
            }
        });
    }

    #[test]
    fn a_sleeper_whose_patience_is_over_leaves_the_line_in_order() {
        let gate = WriteGate::new(Kind::Sqlite, Duration::from_millis(1));
        let held = gate.enter();
        assert!(held.is_some() && gate.enter().is_none());
        drop(held);
        assert!(gate.enter().is_some());
        assert!(WriteGate::new(Kind::Postgres, Duration::ZERO).enter().is_none(), "nobody waits elsewhere");
    }

    #[cfg(feature = "async")]
    #[test]
    fn a_future_given_up_while_it_sleeps_holds_up_nobody() {
        use futures_util::FutureExt;

        let gate = WriteGate::new(Kind::Sqlite, Duration::from_secs(60));
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(async {
            let held = gate.enter();
            let mut given_up = Box::pin(gate.enter_async());
            assert!(given_up.as_mut().now_or_never().is_none());
            let mut waiting = Box::pin(gate.enter_async());
            assert!(waiting.as_mut().now_or_never().is_none());
            drop(held);
            // It has been told, and does not come.
            drop(given_up);
            assert!(waiting.await.is_some());
        });
    }
}
