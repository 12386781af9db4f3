//! Writes outcomes in batches: every success, failure, release and cancellation of this node goes through here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::concluding::info;
use crate::error::{StoreError, TaskError};
use crate::event::Event;
use crate::executor::Executor;
use crate::fault::{self, Point};
use crate::pause::Pause;
use crate::settings::Settings;
use crate::state::State;
use crate::store::{ClaimedTask, Settled, Settlement};

/// What it does, for people.
const SETTLE: &str = "settle";

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
        let mut writer = Writer { executor, give_up, aside: Vec::new() };
        while let Some(batch) = self.next_batch(&executor.settings, writer.next_try()) {
            let next_due = batch.iter().filter_map(|outcome| outcome.settlement.next_due()).min();
            if !batch.is_empty() {
                writer.write(batch);
                executor.wake_if_awaited(next_due);
            }
            writer.try_aside_again();
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

/// How often a batch is tried as a whole while the database is in trouble: perhaps it is too much for it.
const TRIES_AS_A_WHOLE: u32 = 3;

struct Writer<'a> {
    executor: &'a Executor,
    give_up: &'a dyn Fn() -> bool,
    /// Outcomes of rows that somebody has locked. Nobody waits for them.
    aside: Vec<Aside>,
}

/// An outcome to be tried again later.
struct Aside {
    outcome: Outcome,
    pause: Pause,
    next_try: Instant,
}

impl Writer<'_> {
    /// Writes a batch. Passing trouble is waited out. What the database refuses, or somebody has locked, is found by halving:
    /// the refused row stands alone, a locked one is put aside, and the others are written.
    fn write(&mut self, mut batch: Vec<Outcome>) {
        // A fixed order of rows keeps two writers from waiting for one another.
        batch.sort_by_key(|outcome| outcome.settlement.lease.id);
        let mut pause = Pause::new(Duration::from_millis(20), Duration::from_secs(1));
        let mut tries = 0;
        loop {
            let error = match self.try_once(&batch) {
                Ok(answers) => return self.report(batch, &answers),
                Err(error) => error,
            };
            tries += 1;
            if error.is_transient() {
                self.executor.met_trouble(SETTLE, &error);
                if (self.give_up)() {
                    return self.abandon(batch, &error);
                }
            }
            let may_be_one_row = !matches!(error, StoreError::Transient(_));
            if batch.len() > 1 && (may_be_one_row || tries >= TRIES_AS_A_WHOLE) {
                let rest = batch.split_off(batch.len() / 2);
                self.write(batch);
                return self.write(rest);
            }
            match error {
                StoreError::Transient(_) => pause.sleep(),
                StoreError::Locked(_) => return self.put_aside(batch),
                _ => return self.refuse(batch, &error),
            }
        }
    }

    fn try_once(&self, batch: &[Outcome]) -> Result<Vec<Settled>, StoreError> {
        let settlements: Vec<Settlement> = batch.iter().map(|outcome| outcome.settlement.clone()).collect();
        let settled =
            fault::around(Point::BeforeSettle, || self.executor.store.settle(&settlements), Point::AfterSettle);
        settled.inspect(|_| self.executor.is_well(SETTLE))
    }

    fn put_aside(&mut self, batch: Vec<Outcome>) {
        for outcome in batch {
            let mut pause = Pause::new(Duration::from_millis(100), Duration::from_secs(5));
            let next_try = Instant::now() + pause.next_length();
            self.aside.push(Aside { outcome, pause, next_try });
        }
    }

    /// When to look at what was put aside.
    fn next_try(&self) -> Option<Instant> {
        self.aside.iter().map(|aside| aside.next_try).min()
    }

    /// Tries the one that has waited longest of what was put aside, should it be time for it: each try may wait for its lock.
    fn try_aside_again(&mut self) {
        if (self.give_up)() {
            let aside = self.aside.drain(..).map(|aside| aside.outcome).collect();
            return self.abandon(aside, &StoreError::Locked("its row is locked by somebody".into()));
        }
        let Some(at) = (0..self.aside.len()).min_by_key(|at| self.aside[*at].next_try) else { return };
        if self.aside[at].next_try > Instant::now() {
            return;
        }
        let Aside { outcome, mut pause, .. } = self.aside.swap_remove(at);
        let batch = vec![outcome];
        match self.try_once(&batch) {
            Ok(answers) => {
                let next_due = batch[0].settlement.next_due();
                self.report(batch, &answers);
                self.executor.wake_if_awaited(next_due);
            }
            Err(error) if error.is_transient() => {
                self.executor.met_trouble(SETTLE, &error);
                let next_try = Instant::now() + pause.next_length();
                self.aside.extend(batch.into_iter().map(|outcome| Aside { outcome, pause: pause.clone(), next_try }));
            }
            Err(error) => self.refuse(batch, &error),
        }
    }

    /// Says in the row why its outcome cannot be written: the attempt counts as failed. Where that is refused too, the lease
    /// runs out.
    fn refuse(&mut self, batch: Vec<Outcome>, error: &StoreError) {
        for outcome in batch {
            let Outcome { settlement, task: Some(task), took, done, .. } = outcome else {
                self.abandon(vec![outcome], error);
                continue;
            };
            self.executor.events.emit(Event::SettleRefused { id: settlement.lease.id, error: error.to_string() });
            let state = settlement.state;
            let failed = Err(TaskError::message(format!("its outcome ({state}) could not be written: {error}")));
            let settlement = self.executor.settlement(&task, failed, Vec::new());
            let outcome = Outcome { settlement, task: Some(task), took, reason: "", done };
            self.write_reason(vec![outcome]);
        }
    }

    /// Writes the one outcome that says why another was refused.
    fn write_reason(&mut self, batch: Vec<Outcome>) {
        let mut pause = Pause::new(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            match self.try_once(&batch) {
                Ok(answers) => return self.report(batch, &answers),
                Err(error @ StoreError::Transient(_)) if !(self.give_up)() => {
                    self.executor.met_trouble(SETTLE, &error);
                    pause.sleep();
                }
                Err(error) => return self.abandon(batch, &error),
            }
        }
    }

    fn report(&self, batch: Vec<Outcome>, answers: &[Settled]) {
        self.executor.ledger.forget(batch.iter().map(|outcome| outcome.settlement.lease));
        for (outcome, answer) in batch.into_iter().zip(answers) {
            let Outcome { settlement, task, took, reason, done } = outcome;
            match (answer, task.as_deref().map(info)) {
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
        // Nobody tries it again.
        self.executor.is_well(SETTLE);
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
