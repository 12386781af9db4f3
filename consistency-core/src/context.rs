//! What a running body may know and do: its attempt, its idempotency key, cancellation, progress, enqueuing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::call::Call;
use crate::enqueue::{EnqueueRules, Receipt};
use crate::error::EnqueueError;
use crate::new_task::NewTask;

/// The attempt as the body sees it; taken as `#[context] cx: &TaskContext`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TaskContext {
    shared: Arc<Shared>,
}

/// Why a running attempt is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum CancelReason {
    /// The runtime shuts down and will not wait much longer.
    Shutdown = 1,
    /// The attempt reached its time limit.
    TimeLimit = 2,
    /// The lease was lost; another node may run the task.
    LeaseLost = 3,
    /// Somebody set `cancel_requested` in the row.
    Requested = 4,
}

impl CancelReason {
    fn from_code(code: u8) -> Option<Self> {
        [Self::Shutdown, Self::TimeLimit, Self::LeaseLost, Self::Requested]
            .into_iter()
            .find(|reason| *reason as u8 == code)
    }
}

#[derive(Debug)]
struct Shared {
    id: i64,
    task_id: String,
    name: &'static str,
    attempt: u32,
    node: Arc<str>,
    rules: Arc<EnqueueRules>,
    cancelled: AtomicU8,
    cancel_signal: Notify,
    done: AtomicU64,
    total: AtomicU64,
    /// `None` once the attempt is over.
    follow_ups: Mutex<Option<Vec<NewTask>>>,
}

impl TaskContext {
    #[doc(hidden)]
    pub fn new(
        id: i64,
        task_id: String,
        name: &'static str,
        attempt: u32,
        node: Arc<str>,
        rules: Arc<EnqueueRules>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                id,
                task_id,
                name,
                attempt,
                node,
                rules,
                cancelled: AtomicU8::new(0),
                cancel_signal: Notify::new(),
                done: AtomicU64::new(0),
                total: AtomicU64::new(0),
                follow_ups: Mutex::new(Some(Vec::new())),
            }),
        }
    }

    /// The row's primary key.
    pub fn id(&self) -> i64 {
        self.shared.id
    }

    /// The row's public handle: the caller's key or a UUID.
    pub fn task_id(&self) -> &str {
        &self.shared.task_id
    }

    /// The task's name.
    pub fn name(&self) -> &'static str {
        self.shared.name
    }

    /// The number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.shared.attempt
    }

    /// The node that runs it.
    pub fn node(&self) -> &str {
        &self.shared.node
    }

    /// The same for every attempt of one task and different for every task: send it along, so that the receiver can drop
    /// repetitions.
    pub fn idempotency_key(&self) -> &str {
        &self.shared.task_id
    }

    /// Whether the attempt is asked to stop. A body that takes long should look now and then.
    pub fn is_cancelled(&self) -> bool {
        self.cancel_reason().is_some()
    }

    /// Why the attempt is asked to stop, if it is.
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        CancelReason::from_code(self.shared.cancelled.load(Ordering::Acquire))
    }

    /// Waits until the attempt is asked to stop.
    pub async fn cancelled(&self) -> CancelReason {
        loop {
            let signal = self.shared.cancel_signal.notified();
            if let Some(reason) = self.cancel_reason() {
                return reason;
            }
            signal.await;
        }
    }

    /// Says how far the attempt is; shown by `Outbox::running`. Kept in memory only.
    pub fn progress(&self, done: u64, total: u64) {
        self.shared.done.store(done, Ordering::Relaxed);
        self.shared.total.store(total, Ordering::Relaxed);
    }

    /// Enqueues another task, stored in the same transaction as this task's success.
    ///
    /// A failed attempt enqueues nothing, so a retry does not enqueue twice. A keyed call whose key exists by then changes
    /// nothing; its receipt says `Enqueued` all the same, for the answer is not known yet.
    ///
    /// # Errors
    /// An [`EnqueueError`]; nothing is enqueued, and the body may go on. A clone of the context that outlives the attempt is
    /// refused as well: what it enqueued could not be stored any more.
    pub fn enqueue(&self, call: Call) -> Result<Receipt, EnqueueError> {
        let row = self.shared.rules.check(call)?;
        let receipt = Receipt::Enqueued(row.task_id.clone());
        match &mut *self.shared.follow_ups.lock() {
            Some(follow_ups) => follow_ups.push(row),
            None => return Err(EnqueueError::AttemptOver { task: self.shared.name }),
        }
        Ok(receipt)
    }

    /// The last progress, as `(done, total)`.
    pub(crate) fn last_progress(&self) -> (u64, u64) {
        (self.shared.done.load(Ordering::Relaxed), self.shared.total.load(Ordering::Relaxed))
    }

    /// Asks the body to stop; the first reason stays.
    pub(crate) fn cancel(&self, reason: CancelReason) {
        let first = self.shared.cancelled.compare_exchange(0, reason as u8, Ordering::AcqRel, Ordering::Acquire);
        if first.is_ok() {
            self.shared.cancel_signal.notify_waiters();
        }
    }

    /// Ends enqueuing, and gives what was enqueued.
    #[doc(hidden)]
    pub fn take_follow_ups(&self) -> Vec<NewTask> {
        self.shared.follow_ups.lock().take().unwrap_or_default()
    }
}
