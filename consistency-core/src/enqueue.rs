//! What one open transaction has enqueued: buffered calls, and the savepoints that drop exactly their own.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::call::Call;
use crate::error::EnqueueError;
use crate::new_task::NewTask;
use crate::state::State;

/// What `enqueue` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// The call is stored, or will be with the transaction. Carries the task's public handle, `task_id`.
    Enqueued(String),
    /// A task with this key exists already; nothing was changed.
    Duplicate(ExistingTask),
}

impl Receipt {
    /// The public handle, `task_id`, of the task that holds the call: the new one or the existing one.
    pub fn task_id(&self) -> &str {
        match self {
            Receipt::Enqueued(task_id) => task_id,
            Receipt::Duplicate(existing) => &existing.task_id,
        }
    }

    /// Whether the call was a duplicate.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Receipt::Duplicate(_))
    }
}

/// The task that already holds a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingTask {
    /// Its primary key.
    pub id: i64,
    /// Its public handle, the key.
    pub task_id: String,
    /// Its state when the duplicate was refused.
    pub state: State,
}

/// The rules every call of an outbox is checked against before it is stored.
#[derive(Debug, Clone)]
pub struct EnqueueRules {
    /// Most bytes of stored arguments.
    pub max_argument_bytes: usize,
    /// The tasks this outbox may store; `None` for all.
    pub served: Option<Arc<HashSet<&'static str>>>,
    /// The queues some process is known to serve; `None` when this process cannot know.
    pub queues: Option<Arc<HashSet<String>>>,
}

impl EnqueueRules {
    /// Checks a call and makes it a row.
    ///
    /// # Errors
    /// An [`EnqueueError`] naming the task and the mend; nothing is stored.
    pub fn check(&self, call: Call) -> Result<NewTask, EnqueueError> {
        let task = call.task_name();
        if self.served.as_ref().is_some_and(|served| !served.contains(task)) {
            return Err(EnqueueError::NotServed { task });
        }
        let row = NewTask::from_call(call, self.max_argument_bytes)?;
        if let Some(queues) = &self.queues
            && !queues.contains(&row.queue)
        {
            let mut known: Vec<&str> = queues.iter().map(String::as_str).collect();
            known.sort_unstable();
            return Err(EnqueueError::BadModifier {
                task,
                reason: format!(
                    "nobody is known to serve the queue `{}` (known: {}); add `.queue(..)` to the builder, or `.queue_elsewhere(..)` if another process serves it",
                    row.queue,
                    known.join(", ")
                ),
            });
        }
        Ok(row)
    }
}

/// What to do with a checked call.
#[derive(Debug)]
pub enum Accepted {
    /// It is buffered until the flush; this is its receipt.
    Buffered(Receipt),
    /// It must be stored now, pending, so that its answer is known or because its time lies ahead.
    StoreNow(Box<NewTask>),
}

/// Whether every statement of an open transaction was waited for. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    given_up: Arc<AtomicBool>,
}

impl Answers {
    /// Runs `statement`; a future of it that is dropped half-way is remembered.
    pub async fn of<T>(&self, statement: impl Future<Output = T>) -> T {
        let waiting = Waiting(Some(&self.given_up));
        let answer = statement.await;
        waiting.over();
        answer
    }

    /// Whether a statement was given up before its answer was there.
    pub fn given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }
}

/// A statement under way.
struct Waiting<'a>(Option<&'a AtomicBool>);

impl Waiting<'_> {
    fn over(mut self) {
        self.0 = None;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(given_up) = self.0 {
            given_up.store(true, Ordering::Relaxed);
        }
    }
}

/// The calls of one open transaction.
#[derive(Debug)]
pub struct EnqueueScope {
    rules: Arc<EnqueueRules>,
    base: usize,
    buffer: Vec<NewTask>,
    savepoints: Vec<usize>,
    before_commit: Vec<NewTask>,
    stored_pending: bool,
    answers: Answers,
}

impl EnqueueScope {
    /// An empty scope, opened `base` savepoints deep: 0 but for tests that keep a transaction open around everything.
    pub fn new(rules: Arc<EnqueueRules>, base: usize) -> Self {
        Self {
            rules,
            base,
            buffer: Vec::new(),
            savepoints: Vec::new(),
            before_commit: Vec::new(),
            stored_pending: false,
            answers: Answers::default(),
        }
    }

    /// Checks a call and buffers it, or gives it back to be stored now.
    ///
    /// # Errors
    /// An [`EnqueueError`]; the scope is unchanged.
    pub fn accept(&mut self, call: Call) -> Result<Accepted, EnqueueError> {
        let row = self.rules.check(call)?;
        if row.is_plain_immediate() {
            let receipt = Receipt::Enqueued(row.task_id.clone());
            self.buffer.push(row);
            Ok(Accepted::Buffered(receipt))
        } else {
            self.stored_pending = true;
            Ok(Accepted::StoreNow(Box::new(row)))
        }
    }

    /// A savepoint was set.
    pub fn savepoint_set(&mut self) {
        self.savepoints.push(self.buffer.len());
    }

    /// The innermost savepoint was released: its calls belong to the level around it.
    pub fn savepoint_released(&mut self) {
        self.savepoints.pop();
    }

    /// The innermost savepoint was rolled back: exactly its own calls are dropped.
    pub fn savepoint_rolled_back(&mut self) {
        if let Some(kept) = self.savepoints.pop() {
            self.buffer.truncate(kept);
        }
    }

    /// Rows to be stored pending right before COMMIT: what the body enqueued through its context.
    pub fn store_before_commit(&mut self, rows: Vec<NewTask>) {
        self.stored_pending |= !rows.is_empty();
        self.before_commit.extend(rows);
    }

    /// Takes the rows of [`store_before_commit`](Self::store_before_commit).
    pub fn take_before_commit(&mut self) -> Vec<NewTask> {
        std::mem::take(&mut self.before_commit)
    }

    /// How many savepoints are open inside this scope.
    pub fn depth(&self) -> usize {
        self.savepoints.len()
    }

    /// How many savepoints were open on the connection before this scope.
    pub fn base(&self) -> usize {
        self.base
    }

    /// How many savepoints are open on the connection.
    pub fn level(&self) -> usize {
        self.base + self.savepoints.len()
    }

    /// Whether its statements were waited for.
    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Whether rows were stored pending, so that the poller is to be woken after the commit.
    pub fn has_stored_pending(&self) -> bool {
        self.stored_pending
    }

    /// Takes the buffered rows for the flush.
    pub fn take_buffered(&mut self) -> Vec<NewTask> {
        std::mem::take(&mut self.buffer)
    }
}
