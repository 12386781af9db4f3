//! Writes outcomes in batches: every success, failure, release and cancellation of this node goes through here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::error::StoreError;
use crate::event::{AttemptInfo, Event};
use crate::executor::Executor;
use crate::pause::Pause;
use crate::settings::Settings;
use crate::state::State;
use crate::store::{Settled, Settlement};

/// An outcome to be written, and what to report once it is.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What is written.
    pub(crate) settlement: Settlement,
    /// The attempt it ends; `None` for a row put back unstarted.
    pub(crate) attempt: Option<AttemptInfo>,
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
        line.waiting.push_back(outcome);
        if line.waiting.len() == 1 {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// How many outcomes wait.
    pub(crate) fn waiting(&self) -> usize {
        self.line.lock().waiting.len()
    }

    /// Ends the thread once the line is empty.
    pub(crate) fn close(&self) {
        self.line.lock().closed = true;
        self.changed.notify_all();
    }

    /// The thread: takes batches and writes them, until closed and empty.
    pub(crate) fn run(&self, executor: &Executor, give_up: &dyn Fn() -> bool) {
        let writer = Writer { executor, give_up };
        while let Some(batch) = self.next_batch(&executor.settings) {
            let next_due = batch.iter().filter_map(|outcome| outcome.settlement.next_due()).min();
            writer.write(batch);
            executor.wake_if_awaited(next_due);
        }
    }

    fn next_batch(&self, settings: &Settings) -> Option<Vec<Outcome>> {
        let mut line = self.line.lock();
        while line.waiting.is_empty() {
            if line.closed {
                line.ended = true;
                return None;
            }
            self.changed.wait(&mut line);
        }
        if line.waiting.len() < settings.settle_batch && !line.closed && !settings.settle_linger.is_zero() {
            parking_lot::MutexGuard::unlocked(&mut line, || std::thread::sleep(settings.settle_linger));
        }
        let size = line.waiting.len().min(settings.settle_batch);
        Some(line.waiting.drain(..size).collect())
    }
}

struct Writer<'a> {
    executor: &'a Executor,
    give_up: &'a dyn Fn() -> bool,
}

impl Writer<'_> {
    /// Writes a batch. Passing trouble is waited out; a batch the database refuses is halved until the culprit stands alone.
    fn write(&self, mut batch: Vec<Outcome>) {
        // A fixed order of rows keeps two writers from waiting for one another.
        batch.sort_by_key(|outcome| outcome.settlement.lease.id);
        let mut pause = Pause::new(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            let settlements: Vec<Settlement> = batch.iter().map(|outcome| outcome.settlement.clone()).collect();
            match self.executor.store.settle(&settlements) {
                Ok(answers) => return self.report(batch, &answers),
                Err(error) if error.is_transient() => {
                    self.executor.events.emit(Event::StoreTrouble { doing: "settle", error: error.to_string() });
                    if (self.give_up)() {
                        return self.abandon(batch, &error);
                    }
                    pause.sleep();
                }
                Err(error) if batch.len() == 1 => return self.abandon(batch, &error),
                Err(_) => {
                    let rest = batch.split_off(batch.len() / 2);
                    self.write(batch);
                    return self.write(rest);
                }
            }
        }
    }

    fn report(&self, batch: Vec<Outcome>, answers: &[Settled]) {
        self.executor.ledger.forget(batch.iter().map(|outcome| outcome.settlement.lease));
        for (outcome, answer) in batch.into_iter().zip(answers) {
            let Outcome { settlement, attempt, took, reason, done } = outcome;
            match (answer, attempt) {
                (Settled::Lost, Some(attempt)) => self.executor.events.emit(Event::LeaseLost { attempt }),
                (Settled::Lost, None) => {}
                (Settled::Written, Some(attempt)) => self.executor.events.emit(Event::Settled {
                    attempt,
                    state: settlement.state,
                    took,
                    error: if settlement.state == State::Succeeded { None } else { settlement.error },
                }),
                (Settled::Written, None) => {
                    self.executor.events.emit(Event::Released { id: settlement.lease.id, reason })
                }
            }
            if let Some(done) = done {
                done.set();
            }
        }
    }

    /// Lets the leases run out: the rescue makes the rows visible and due again.
    fn abandon(&self, batch: Vec<Outcome>, error: &StoreError) {
        self.executor.ledger.forget(batch.iter().map(|outcome| outcome.settlement.lease));
        for outcome in batch {
            self.executor
                .events
                .emit(Event::SettleRefused { id: outcome.settlement.lease.id, error: error.to_string() });
            if let Some(done) = outcome.done {
                done.set();
            }
        }
    }
}
