//! Everything the runtime reports, in one catalogue: each event, its fields, and the log line it becomes.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::state::State;

/// Something that happened. Listeners get every event after the table says so; logs are written by [`Event::log`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// The runtime is up.
    Started {
        /// How many tasks it serves.
        tasks: usize,
    },
    /// An attempt is settled.
    Settled {
        /// Which attempt.
        attempt: AttemptInfo,
        /// The new state.
        state: State,
        /// How long the body ran.
        took: Duration,
        /// Why it failed.
        error: Option<String>,
    },
    /// An attempt ended after its lease was lost; its outcome was not written.
    LeaseLost {
        /// Which attempt.
        attempt: AttemptInfo,
    },
    /// An attempt reached its time limit. A blocking body goes on in an abandoned thread.
    TimeLimitReached {
        /// Which attempt.
        attempt: AttemptInfo,
        /// The limit.
        limit: Duration,
        /// Threads abandoned and still running.
        abandoned_threads: usize,
    },
    /// A row was put back without an attempt.
    Released {
        /// The row's primary key.
        id: i64,
        /// Why.
        reason: &'static str,
    },
    /// A row whose node died or lost touch was taken back.
    Rescued {
        /// The row's primary key.
        id: i64,
        /// The stored name.
        name: String,
        /// The node that held it.
        node: String,
        /// Its state now.
        state: State,
        /// Leases lost in a row.
        lost_times: i64,
    },
    /// Due rows carry names this process does not know; they are left alone.
    UnknownNames {
        /// Some of the names.
        names: Vec<String>,
    },
    /// The database could not be used; the runtime goes on trying.
    StoreTrouble {
        /// What the runtime was doing.
        doing: &'static str,
        /// What the database said.
        error: String,
    },
    /// The database refuses an outcome for good. The attempt counts as failed, for this reason; where even that is refused, the
    /// row's lease runs out and the rescue takes it.
    SettleRefused {
        /// The row's primary key.
        id: i64,
        /// What the database said.
        error: String,
    },
    /// The runtime has stopped.
    Stopped {
        /// Attempts that ran to their end during the shutdown.
        drained: usize,
        /// Rows put back.
        released: usize,
        /// Outcomes that could not be written in time. Their leases run out, and the tasks run again elsewhere.
        unwritten: usize,
    },
}

/// Which attempt an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptInfo {
    /// The row's primary key.
    pub id: i64,
    /// Public handle.
    pub task_id: String,
    /// The task's name.
    pub name: String,
    /// The number of the attempt, from 1.
    pub attempt: u32,
}

impl Event {
    /// Writes the event to the log: trouble as `warn` or `error`, the ordinary run of things as `debug`.
    pub fn log(&self, node: &str) {
        match self {
            Event::Started { tasks } => tracing::info!(node, tasks, "outbox started"),
            Event::Settled { attempt, state, took, error } => {
                let AttemptInfo { id, task_id, name, attempt } = attempt;
                let duration_ms = took.as_secs_f64() * 1000.0;
                let error = error.as_deref().unwrap_or("");
                match state {
                    State::Dead => {
                        tracing::error!(
                            node,
                            id,
                            task_id,
                            task = name,
                            attempt,
                            duration_ms,
                            error,
                            "task is dead and needs a person"
                        );
                    }
                    State::Skipped => {
                        tracing::warn!(
                            node,
                            id,
                            task_id,
                            task = name,
                            attempt,
                            duration_ms,
                            error,
                            "task is given up and skipped, its ordering key goes on"
                        );
                    }
                    State::Failed => {
                        tracing::warn!(
                            node,
                            id,
                            task_id,
                            task = name,
                            attempt,
                            duration_ms,
                            error,
                            "attempt failed, will be retried"
                        );
                    }
                    _ => {
                        tracing::debug!(node, id, task_id, task = name, attempt, duration_ms, %state, "attempt settled")
                    }
                }
            }
            Event::LeaseLost { attempt } => {
                let AttemptInfo { id, task_id, name, attempt } = attempt;
                tracing::warn!(
                    node,
                    id,
                    task_id,
                    task = name,
                    attempt,
                    "lease lost: the outcome was not written, another node may run the task"
                );
            }
            Event::TimeLimitReached { attempt, limit, abandoned_threads } => {
                let AttemptInfo { id, task_id, name, attempt } = attempt;
                tracing::warn!(
                    node,
                    id,
                    task_id,
                    task = name,
                    attempt,
                    ?limit,
                    abandoned_threads,
                    "attempt reached its time limit"
                );
            }
            Event::Released { id, reason } => tracing::debug!(node, id, reason, "task put back without an attempt"),
            Event::Rescued { id, name, node: lost_by, state, lost_times } => {
                tracing::warn!(node, id, task = name, lost_by, %state, lost_times, "lease ran out, task taken back");
            }
            Event::UnknownNames { names } => {
                tracing::warn!(node, ?names, "due tasks have no function in this process; they are left alone");
            }
            Event::StoreTrouble { doing, error } => {
                tracing::warn!(node, doing, error, "database trouble, trying again")
            }
            Event::SettleRefused { id, error } => {
                tracing::error!(
                    node,
                    id,
                    error,
                    "outcome cannot be written: the attempt counts as failed, or the rescue will take the task"
                );
            }
            Event::Stopped { drained, released, unwritten: 0 } => {
                tracing::info!(node, drained, released, "outbox stopped");
            }
            Event::Stopped { drained, released, unwritten } => {
                tracing::error!(
                    node,
                    drained,
                    released,
                    unwritten,
                    "outbox stopped with outcomes it could not write: those tasks run again when their leases have run out"
                );
            }
        }
    }
}

/// Hears of events, on the thread they happen on.
pub type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

/// Sends events to the log and to the listeners.
#[derive(Clone, Default)]
pub struct Events {
    node: Arc<str>,
    listeners: Arc<Vec<Listener>>,
}

impl Events {
    /// Events of `node`, for these listeners.
    pub fn new(node: &str, listeners: Vec<Listener>) -> Self {
        Self { node: Arc::from(node), listeners: Arc::new(listeners) }
    }

    /// Reports an event. A listener that panics changes nothing but a line in the log, and a log that panics changes nothing.
    pub fn emit(&self, event: Event) {
        guarded(|| event.log(&self.node));
        for listener in self.listeners.iter() {
            if !guarded(|| listener(&event)) {
                guarded(|| tracing::error!(node = &*self.node, "an event listener panicked"));
            }
        }
    }
}

/// Calls code of others; whether it ended without a panic.
fn guarded(call: impl FnOnce()) -> bool {
    // An unknown payload is not dropped: that could panic again.
    catch_unwind(AssertUnwindSafe(call)).map_err(std::mem::forget).is_ok()
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Events({} listeners)", self.listeners.len())
    }
}
