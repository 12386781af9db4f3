//! The line of outcomes, and the thread that writes them in batches: every success, failure, release and cancellation of this
//! node goes through here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::executor::Executor;
use crate::settings::Settings;
use crate::store::{ClaimedTask, LeaseId, Settlement};
use crate::writer::Writer;

/// The pause after a panic of the thread's work.
const AFTER_A_PANIC: Duration = Duration::from_millis(200);

/// What it does, for people.
pub(crate) const SETTLE: &str = "settle";

/// An outcome to be written, and what to report once it is.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What is written.
    pub(crate) settlement: Settlement,
    /// The row whose attempt it ends; `None` for one put back unstarted.
    pub(crate) task: Option<Arc<ClaimedTask>>,
    /// How long the body ran.
    pub(crate) took: Duration,
    /// Why the row is put back.
    pub(crate) reason: &'static str,
    /// Raised when the outcome is dealt with.
    pub(crate) done: Option<Arc<Done>>,
}

/// Tells one waiting thread that an outcome is dealt with.
#[derive(Debug, Default)]
pub(crate) struct Done {
    state: Mutex<bool>,
    changed: Condvar,
    told: Notify,
}

impl Done {
    /// Says so.
    pub(crate) fn set(&self) {
        *self.state.lock() = true;
        self.changed.notify_all();
        // Kept for a future that comes later.
        self.told.notify_one();
    }

    /// As [`wait`](Self::wait), for a future.
    pub(crate) async fn wait_async(&self, timeout: Duration) {
        // An error means that the time is over.
        tokio::time::timeout(timeout, self.told.notified()).await.ok();
    }

    /// Waits until then, at most `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let mut done = self.state.lock();
        while !*done && !self.changed.wait_until(&mut done, deadline).timed_out() {}
    }
}

/// The line of outcomes, and the thread's work on it.
#[derive(Debug, Default)]
pub(crate) struct Settler {
    line: Mutex<Line>,
    changed: Condvar,
    /// Outcomes that came and are not dealt with: in the line, being written, or put aside.
    pub(crate) unwritten: AtomicUsize,
    given_up: AtomicBool,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Outcome>,
    closed: bool,
    ended: bool,
}

impl Settler {
    /// Puts an outcome into the line; gives it back when nobody writes any more.
    pub(crate) fn submit(&self, outcome: Outcome) -> Result<(), Box<Outcome>> {
        let mut line = self.line.lock();
        if line.ended {
            return Err(Box::new(outcome));
        }
        self.unwritten.fetch_add(1, Ordering::AcqRel);
        line.waiting.push_back(outcome);
        if line.waiting.len() == 1 {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// How many outcomes are not written yet.
    pub(crate) fn waiting(&self) -> usize {
        self.unwritten.load(Ordering::Acquire)
    }

    /// Ends the thread once everything is written.
    pub(crate) fn close(&self) {
        self.line.lock().closed = true;
        self.changed.notify_all();
    }

    /// Ends the thread even so: what cannot be written at the first try is abandoned.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.close();
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// The thread: takes batches and writes them, until closed and empty.
    pub(crate) fn run(&self, executor: &Executor) {
        let mut writer = Writer::new(executor);
        while let Some(batch) = self.next_batch(&executor.settings, writer.next_try()) {
            let next_due = batch.iter().filter_map(|outcome| outcome.settlement.next_due()).min();
            let taken: Vec<LeaseId> = batch.iter().map(|outcome| outcome.settlement.lease).collect();
            let leases: Vec<LeaseId> = taken.into_iter().chain(writer.put_aside()).collect();
            let done = executor.guarded(|| {
                if !batch.is_empty() {
                    writer.write(batch);
                    executor.wake_if_awaited(next_due);
                }
                writer.try_aside_again();
                Ok(())
            });
            if let Err(error) = done {
                executor.met_trouble(SETTLE, &error);
                // What the panic took along is not known; no lease is renewed for an outcome that nobody has.
                executor.ledger.forget(leases);
                let line = self.line.lock();
                self.unwritten.store(line.waiting.len() + writer.put_aside().count(), Ordering::Release);
                drop(line);
                std::thread::sleep(AFTER_A_PANIC);
            }
        }
    }

    /// The next batch; an empty one when it is time for what was put aside, `None` when nothing is left.
    fn next_batch(&self, settings: &Settings, next_try: Option<Instant>) -> Option<Vec<Outcome>> {
        let mut line = self.line.lock();
        while line.waiting.is_empty() {
            match next_try {
                None if line.closed => {
                    line.ended = true;
                    return None;
                }
                None => self.changed.wait(&mut line),
                Some(_) if self.is_given_up() => return Some(Vec::new()),
                Some(next_try) => {
                    if self.changed.wait_until(&mut line, next_try).timed_out() {
                        return Some(Vec::new());
                    }
                }
            }
        }
        if line.waiting.len() < settings.settle_batch && !line.closed && !settings.settle_linger.is_zero() {
            parking_lot::MutexGuard::unlocked(&mut line, || std::thread::sleep(settings.settle_linger));
        }
        let size = line.waiting.len().min(settings.settle_batch);
        Some(line.waiting.drain(..size).collect())
    }
}
