//! Writes the outcomes the settler hands on: passing trouble is waited out, and none that cannot be written keeps the others.

use std::fmt::Display;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::concluding::info;
use crate::error::{StoreError, TaskError};
use crate::event::Event;
use crate::executor::Executor;
use crate::fault::{self, Point};
use crate::pause::Pause;
use crate::settler::{Outcome, SETTLE};
use crate::state::State;
use crate::store::{LeaseId, Settled, Settlement};

/// How often a batch is tried as a whole while the database is in trouble: perhaps it is too much for it.
const TRIES_AS_A_WHOLE: u32 = 3;
/// Into how many parts a batch is split when one row of it may be what fails. Each try of a part with a locked row waits for the
/// lock, so that few steps are worth more than few statements.
const PARTS: usize = 16;
/// How often the database must refuse an outcome by itself, over one second or so, before it is believed: many a passing fault
/// speaks in words nobody has listed.
const REFUSALS: u32 = 6;

/// The settling thread's work on what it took from the line.
pub(crate) struct Writer<'a> {
    executor: &'a Executor,
    /// Outcomes that could not be written by themselves: to be tried again later, while others go on.
    aside: Vec<Aside>,
    /// How many of those are tried together: more after each try that went well.
    together: usize,
    /// Grows while nothing can be written.
    pause: Pause,
    /// What was put aside rests until then, for the database is in trouble.
    rest_until: Instant,
    /// The time for trying is over, and a try has failed since.
    hopeless: bool,
}

/// An outcome to be tried again later.
struct Aside {
    outcome: Outcome,
    /// It says why another outcome was refused. Refused too, it is abandoned.
    says_why: bool,
    refusals: u32,
    pause: Pause,
    next_try: Instant,
}

impl Aside {
    fn new(outcome: Outcome, says_why: bool) -> Self {
        let pause = Pause::new(Duration::from_millis(50), Duration::from_secs(5));
        Self { outcome, says_why, refusals: 0, pause, next_try: Instant::now() }
    }
}

fn first_pause() -> Pause {
    Pause::new(Duration::from_millis(20), Duration::from_millis(500))
}

impl<'a> Writer<'a> {
    pub(crate) fn new(executor: &'a Executor) -> Self {
        let (aside, pause) = (Vec::new(), first_pause());
        Self { executor, aside, together: 1, pause, rest_until: Instant::now(), hopeless: false }
    }

    /// When to look at what was put aside.
    pub(crate) fn next_try(&self) -> Option<Instant> {
        self.aside.iter().map(|aside| aside.next_try).min().map(|next_try| next_try.max(self.rest_until))
    }

    /// The rows of what was put aside.
    pub(crate) fn put_aside(&self) -> impl Iterator<Item = LeaseId> {
        self.aside.iter().map(|aside| aside.outcome.settlement.lease)
    }

    /// Writes a batch.
    pub(crate) fn write(&mut self, mut batch: Vec<Outcome>) {
        // A fixed order of rows within a statement keeps two writers from waiting for one another.
        batch.sort_by_key(|outcome| outcome.settlement.lease.id);
        // Rows that go with an outcome may take long, and may wait for a key that somebody holds. Nobody else waits with them.
        let (alone, with_rows) = batch.into_iter().partition(|outcome| outcome.settlement.follow_ups.is_empty());
        self.write_whole(alone, TRIES_AS_A_WHOLE);
        self.write_whole(with_rows, TRIES_AS_A_WHOLE);
    }

    fn write_parts(&mut self, mut batch: Vec<Outcome>) {
        let length = batch.len().div_ceil(PARTS);
        while !batch.is_empty() {
            let rest = batch.split_off(length.min(batch.len()));
            self.write_whole(batch, 1);
            batch = rest;
        }
    }

    /// Writes a batch, tried as a whole as often as `tries`, then in parts. What cannot be written by itself is so found and put
    /// aside, and the others are written.
    fn write_whole(&mut self, batch: Vec<Outcome>, mut tries: u32) {
        while !batch.is_empty() {
            if self.hopeless {
                return self.abandon(batch, &"the runtime has stopped, and the tries before were in vain");
            }
            let error = match self.try_once(&batch.iter().collect::<Vec<_>>()) {
                Ok(answers) => {
                    self.executor.is_well(SETTLE);
                    return self.report(batch, &answers);
                }
                Err(error) => error,
            };
            if self.is_over() {
                self.executor.met_trouble(SETTLE, &error);
                return self.abandon(batch, &error);
            }
            if batch.len() == 1 {
                let alone = batch.into_iter().map(|outcome| Aside::new(outcome, false));
                return alone.for_each(|alone| self.failed_alone(alone, &error));
            }
            self.met_if_passing(&error);
            tries = tries.saturating_sub(1);
            if tries == 0 || !matches!(error, StoreError::Transient(_)) {
                return self.write_parts(batch);
            }
        }
    }

    /// Says so, and waits a little where the database as a whole may be in trouble.
    fn met_if_passing(&mut self, error: &StoreError) {
        if error.is_transient() {
            self.executor.met_trouble(SETTLE, error);
        }
        if matches!(error, StoreError::Transient(_)) {
            self.pause.sleep();
        }
    }

    /// Puts an outcome aside that could not be written by itself; one that was refused often enough is refused for good.
    fn failed_alone(&mut self, mut alone: Aside, error: &StoreError) {
        self.executor.met_trouble(SETTLE, error);
        if matches!(error, StoreError::Transient(_)) {
            self.rest_until = Instant::now() + self.pause.next_length();
        }
        if !error.is_transient() {
            alone.refusals += 1;
            if alone.refusals >= REFUSALS {
                return self.refuse(alone, error);
            }
        }
        alone.next_try = Instant::now() + alone.pause.next_length();
        self.aside.push(alone);
    }

    /// Tries what has waited longest of what was put aside, should it be time for it.
    pub(crate) fn try_aside_again(&mut self) {
        if self.hopeless || self.executor.settler.is_given_up() {
            let aside = self.aside.drain(..).map(|aside| aside.outcome).collect();
            return self.abandon(aside, &"it could not be written until the runtime stopped");
        }
        let now = Instant::now();
        if now < self.rest_until {
            return;
        }
        self.aside.sort_by_key(|aside| aside.next_try);
        let due = self.aside.partition_point(|aside| aside.next_try <= now);
        let mut tried: Vec<Aside> = self.aside.drain(..due.min(self.together)).collect();
        if tried.is_empty() {
            return;
        }
        tried.sort_by_key(|aside| aside.outcome.settlement.lease.id);
        match self.try_once(&tried.iter().map(|aside| &aside.outcome).collect::<Vec<_>>()) {
            Ok(answers) => {
                self.together = (self.together * 2).min(self.executor.settings.settle_batch);
                // A reason is written because another outcome is not.
                if tried.iter().any(|aside| !aside.says_why) {
                    self.executor.is_well(SETTLE);
                }
                let batch: Vec<Outcome> = tried.into_iter().map(|aside| aside.outcome).collect();
                let next_due = batch.iter().filter_map(|outcome| outcome.settlement.next_due()).min();
                self.report(batch, &answers);
                self.executor.wake_if_awaited(next_due);
            }
            Err(error) if tried.len() == 1 => tried.into_iter().for_each(|alone| self.failed_alone(alone, &error)),
            Err(error) => {
                self.together = tried.len() / 2;
                self.met_if_passing(&error);
                self.aside.extend(tried);
            }
        }
    }

    /// A panic of the driver is an error like others.
    fn try_once(&mut self, batch: &[&Outcome]) -> Result<Vec<Settled>, StoreError> {
        let settlements: Vec<Settlement> = batch.iter().map(|outcome| outcome.settlement.clone()).collect();
        let settled = self.executor.guarded(|| {
            fault::around(Point::BeforeSettle, || self.executor.store.settle(&settlements), Point::AfterSettle)
        });
        settled.inspect(|_| {
            self.pause = first_pause();
            self.rest_until = Instant::now();
        })
    }

    /// After a try that has failed: whether no other may follow.
    fn is_over(&mut self) -> bool {
        self.hopeless |= self.executor.settler.is_given_up();
        self.hopeless
    }

    /// Says in the row why its outcome cannot be written: the attempt counts as failed. Where that is refused too, the lease
    /// runs out.
    fn refuse(&mut self, refused: Aside, error: &StoreError) {
        let Aside { outcome, says_why: false, .. } = refused else {
            return self.abandon(vec![refused.outcome], error);
        };
        let Outcome { settlement, task: Some(task), took, done, .. } = outcome else {
            return self.abandon(vec![outcome], error);
        };
        self.executor.events.emit(Event::SettleRefused { id: settlement.lease.id, error: error.to_string() });
        let state = settlement.state;
        let failed = Err(TaskError::message(format!("its outcome ({state}) could not be written: {error}")));
        let settlement = self.executor.settlement(&task, failed, Vec::new());
        let outcome = Outcome { settlement, task: Some(task), took, reason: "", done };
        // Due at once.
        self.aside.push(Aside::new(outcome, true));
    }

    fn report(&self, batch: Vec<Outcome>, answers: &[Settled]) {
        self.executor.ledger.forget(batch.iter().map(|outcome| outcome.settlement.lease));
        self.executor.settler.unwritten.fetch_sub(batch.len(), Ordering::AcqRel);
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
    fn abandon(&self, batch: Vec<Outcome>, why: &dyn Display) {
        self.executor.ledger.forget(batch.iter().map(|outcome| outcome.settlement.lease));
        // What is abandoned because the runtime stops stays counted: the stop tells of it.
        if !self.executor.settler.is_given_up() {
            self.executor.settler.unwritten.fetch_sub(batch.len(), Ordering::AcqRel);
        }
        for outcome in batch {
            self.executor.events.emit(Event::SettleRefused { id: outcome.settlement.lease.id, error: why.to_string() });
            if let Some(done) = outcome.done {
                done.set();
            }
        }
    }
}
