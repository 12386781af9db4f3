//! Everything before a body: checks that end without an attempt, the note in the ledger, and guards for bodies that the end
//! of their Tokio runtime drops.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::AbortHandle;

use crate::context::TaskContext;
use crate::error::TaskError;
use crate::executor::Executor;
use crate::lane::{Held, Lane, Slot};
use crate::ledger::{Gate, RunningAttempt, Stage};
use crate::settler::Done;
use crate::store::ClaimedTask;
use crate::task::{Attempt, Body, TaskDefinition};

/// How long a transactional body may wait for others to be done with the connections: as long as it takes, so that a long one
/// fails nobody. The wait for the database itself is limited where the connection is opened.
const WAITING_LIMIT: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A body under way, from its begin to its settlement.
pub(crate) struct Started {
    pub(crate) running: RunningAttempt,
    pub(crate) attempt: Attempt,
    pub(crate) span: tracing::Span,
    pub(crate) done: Option<Arc<Done>>,
}

impl Executor {
    /// Everything before the body: a stale lease or a wish to cancel ends here, without an attempt.
    pub(crate) fn start(
        &self,
        held: Held,
        slot: Option<&Slot>,
        abort: Option<AbortHandle>,
        done: Option<Arc<Done>>,
    ) -> Option<Started> {
        let Held { task, lease } = held;
        let Some(definition) = self.registry.find(&task.method_name) else {
            self.put_back(task.released(), "this process has no function of that name", done);
            return None;
        };
        if !lease.is_fresh() {
            self.put_back(task.released(), "its lease was too old to start it", done);
            return None;
        }
        if task.cancel_requested {
            self.put_back(task.cancelled(), "cancelled on request", done);
            return None;
        }
        if let Some(reason) = task.unreadable.clone() {
            self.give_up(task, &reason, done);
            return None;
        }
        let started = self.begin(definition, task, slot, abort, done);
        // After the ledger knows of it: either the shutdown sees it there, or it sees the shutdown here.
        if self.stopping.load(Ordering::SeqCst) && started.running.gate.take() {
            self.put_back(started.running.task.released(), "the runtime stops", started.done.clone());
            self.ledger.end(started.running.task.lease);
            return None;
        }
        Some(started)
    }

    fn begin(
        &self,
        definition: &'static TaskDefinition,
        task: ClaimedTask,
        slot: Option<&Slot>,
        abort: Option<AbortHandle>,
        done: Option<Arc<Done>>,
    ) -> Started {
        let number = task.attempt();
        let context = TaskContext::new(
            task.lease.id,
            task.task_id.clone(),
            definition.name,
            number,
            Arc::clone(&self.node),
            Arc::clone(&self.rules),
        );
        let span = tracing::info_span!(
            "attempt",
            task = definition.name,
            id = task.lease.id,
            task_id = %task.task_id,
            attempt = number,
            node = &*self.node,
            duration_ms = tracing::field::Empty,
        );
        let attempt = Attempt {
            arguments: Arc::from(task.task_parameter.as_str()),
            context: context.clone(),
            state: self.state.clone(),
        };
        let transactional = definition.body.connection().is_some();
        let running = RunningAttempt {
            stage: if transactional { Stage::Opening } else { Stage::Body },
            task: Arc::new(task),
            context,
            begun: Instant::now(),
            limit: if transactional { WAITING_LIMIT } else { self.limit(definition) },
            gate: Arc::new(Gate::default()),
            abort,
            slot: slot.map(Slot::handle),
            done: done.clone(),
        };
        self.watch(running.clone());
        Started { running, attempt, span, done }
    }

    /// Right before a transactional body: the wait for a connection and the write lock is over, its time limit begins.
    ///
    /// # Errors
    /// When the attempt was given up meanwhile; the body is not to start.
    pub(crate) fn enter_transaction(&self, started: &Started) -> Result<(), TaskError> {
        let running = &started.running;
        if running.gate.is_taken() || running.context.is_cancelled() {
            return Err(TaskError::interrupted("given up while it waited for its transaction"));
        }
        let definition = self.registry.find(&running.task.method_name);
        let limit = definition.map_or(self.settings.attempt_timeout, |definition| self.limit(definition));
        self.watch(RunningAttempt { stage: Stage::Body, begun: Instant::now(), limit, ..running.clone() });
        Ok(())
    }

    /// A transaction on the caller's own connection is about to begin: nobody else is waited for, but on SQLite the other writers.
    pub(crate) fn open_on_caller(&self, started: &Started) {
        let limit = self.settings.store_timeout.max(self.settings.busy_wait * 3);
        self.watch(RunningAttempt { begun: Instant::now(), limit, ..started.running.clone() });
    }

    /// Right after a transactional body on a blocking connection: what follows asks the database on this very thread, which
    /// nothing can interrupt. Should it hang, the watchdog settles the attempt.
    pub(crate) fn leave_body(&self, started: &Started) {
        let running = &started.running;
        if !running.gate.is_taken() {
            let limit = self.settings.store_timeout;
            self.watch(RunningAttempt { stage: Stage::Closing, begun: Instant::now(), limit, ..running.clone() });
        }
    }

    fn limit(&self, definition: &TaskDefinition) -> Duration {
        definition.options.timeout.unwrap_or(self.settings.attempt_timeout)
    }

    /// Has the watchdog look after a body.
    fn watch(&self, running: RunningAttempt) {
        let deadline = self.ledger.begin(running.task.lease, running);
        // It looks at every heartbeat anyway; only earlier limits must wake it.
        if deadline < Instant::now() + self.settings.heartbeat {
            self.watchdog.raise();
        }
    }

    /// Puts a row into the line of its queue, for the dispatcher to start; during a shutdown it goes back.
    pub(crate) fn line_up(&self, lane: &Lane, held: Held) {
        lane.offer(held);
        // Asked afterwards: either the shutdown finds it in the line, or it is found here.
        if self.stopping.load(Ordering::SeqCst) {
            lane.close().iter().for_each(|held| self.release(&held.task, "the runtime stops"));
        }
        self.wake.raise();
    }
}

/// A row on its way to a thread or a future. Should the Tokio runtime end first, it is put back instead of being renewed
/// for ever by the heartbeat; for later, since this node would claim it again at once for a runtime that is gone.
pub(crate) struct Unstarted {
    pub(crate) executor: Arc<Executor>,
    pub(crate) held: Option<Held>,
}

impl Unstarted {
    pub(crate) fn body(&self) -> Option<Body> {
        self.held.as_ref().and_then(|held| self.executor.body(&held.task))
    }

    pub(crate) fn take(mut self) -> Option<Held> {
        self.held.take()
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let Some(held) = &self.held {
            self.executor.put_back_for_later(&held.task, "the Tokio runtime ended before it started");
        }
    }
}

/// Why a future is dropped in the middle: its Tokio runtime ends, or, on the caller's thread, the caller drops his.
pub(crate) const RUNTIME_ENDED: &str = "the Tokio runtime ended while it ran";
pub(crate) const CALLER_GAVE_UP: &str = "its caller gave up, or the Tokio runtime ended, while it ran";

/// Puts a row back whose future is dropped in the middle.
pub(crate) struct DroppedBody<'a> {
    pub(crate) executor: &'a Executor,
    pub(crate) running: &'a RunningAttempt,
    /// For whoever hears of it.
    pub(crate) why: &'static str,
}

impl Drop for DroppedBody<'_> {
    fn drop(&mut self) {
        if self.running.gate.take() {
            self.executor.release(&self.running.task, self.why);
            self.executor.ledger.end(self.running.task.lease);
        }
    }
}
