//! The contract a database keeps for the runtime: what each operation promises, and what a conflict means.
//!
//! Every write after a claim is fenced by `(id, version)` in state running; a row that no longer matches is *lost*, which is
//! an answer and never an overwrite. Calls block and are made from the runtime's own threads. All times are the
//! database's: callers pass durations, never clock readings.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::dispatch::HandOff;
use crate::enqueue::Receipt;
use crate::error::{StoreError, TaskError};
use crate::new_task::{Meta, NewTask, whole_secs};
use crate::rescue::Rescued;
use crate::retry::{Backoff, RetryPolicy};
use crate::sensitive::Unseen;
pub use crate::settlement::{Losses, Settled, Settlement};
use crate::state::State;
use crate::task::{MAX_DELAY_SECS, NeededType, TxBody};
use crate::when_dead::WhenDead;

/// What a database does for the runtime. One contract suite checks every implementation.
pub trait Store: Send + Sync + 'static {
    /// The connection types that `#[tx]` tasks can have; empty when this store runs none.
    fn connections(&self) -> Vec<NeededType>;

    /// Inserts rows in one transaction of its own; rows marked `leased` belong to `node` for `lease`.
    ///
    /// A row whose `task_id` exists already changes nothing and answers `Duplicate`. Receipts come in the order of `rows`.
    fn insert(&self, rows: &[NewTask], node: &str, lease: Duration) -> Result<Vec<Receipt>, StoreError>;

    /// For every one of `queues`, priority and share with claimable rows, how long until the first of them is due (zero when it
    /// is); and how long until the first lease of any row ends.
    fn look(&self, queues: &[String]) -> Result<Outlook, StoreError>;

    /// Takes due rows, oldest due first: state running, `version` + 1, attempt charged, leased to the node from now on.
    ///
    /// Never waits for a row another claim holds, and never takes a name not asked for. Of one ordering key it takes at most
    /// the oldest row that holds the key ([`WhenDead::holds_key`]), and none while another row of the key is running, also
    /// where rows of it come back to life or are claimed elsewhere at the same moment.
    fn claim(&self, request: &ClaimRequest<'_>) -> Result<Vec<ClaimedTask>, StoreError>;

    /// Puts back, uncharged and as due as they were, the rows that `node` has claimed within the last `since` for `lease` and that
    /// are not in `held`: those of claims whose answer was lost. Answers how many they were.
    ///
    /// Rows inserted leased stay ([`is_first_version`](crate::new_task::is_first_version)): their transaction may just be about to
    /// hand them over.
    fn put_back_unheld(&self, node: &str, held: &[i64], since: Duration, lease: Duration) -> Result<usize, StoreError>;

    /// Writes the outcome of attempts; answers for each, in order, whether it was written. An outcome and its follow-up tasks
    /// are written together or not at all; after an error some outcomes may be written and others not.
    ///
    /// `Lost` when the row is no longer running under that version. Repeating a call whose answer was lost on the way is
    /// safe: what the first one wrote answers `Written` again, and follow-up tasks are not stored twice.
    fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>, StoreError>;

    /// Extends exactly these leases to `lease` from now, without waiting for rows somebody else has locked: those are answered
    /// as ours but not extended. Rows not answered are lost.
    fn renew(&self, leases: &[LeaseId], lease: Duration) -> Result<Vec<Renewed>, StoreError>;

    /// Takes at most `limit` rows whose lease has ended back, with `version` + 1: failed and due at once, from the second loss
    /// on after a pause drawn for each row ([`rescue_pause`](crate::rescue::rescue_pause)), or given up when that was the `crash_budget`th loss in a row or
    /// its attempts are used up. [`Expired::rescued`](crate::rescue::Expired::rescued) decides.
    fn rescue(&self, crash_budget: u32, limit: usize) -> Result<Vec<Rescued>, StoreError>;

    /// The names of some due rows of `queues` that are not in `names`; at most `limit`, in no order. Rows far behind others that
    /// are due may be passed over.
    fn unknown_names(&self, queues: &[String], names: &[String], limit: usize) -> Result<Vec<String>, StoreError>;

    /// What is known of the task with this public handle.
    fn status(&self, task_id: &str) -> Result<Option<TaskStatus>, StoreError>;

    /// Deletes at most `limit` finished rows (succeeded, cancelled, skipped) last changed longer ago than `older_than`.
    fn prune(&self, older_than: Duration, limit: usize) -> Result<usize, StoreError>;

    /// Runs `body` in a transaction that also completes the row, so that its writes and its completion commit together.
    ///
    /// The row is settled only when the answer is [`TransactionOutcome::Committed`]; in every other case nothing the body
    /// wrote is left. `connection` is one of [`connections`](Self::connections), as the body takes it.
    ///
    /// On a blocking connection the future does all its work when it is first polled, on a thread that may block. On an
    /// asynchronous one it is polled on the Tokio runtime of the body; dropped before its end it leaves nothing the body
    /// wrote, unless COMMIT was under way: then all of it or nothing.
    fn run_in_transaction<'a>(
        &'a self,
        connection: NeededType,
        lease: LeaseId,
        charge: i64,
        hand_off: &'a dyn HandOff,
        body: &'a mut TxBody<'_>,
    ) -> OutcomeFuture<'a>;

    /// Hears that the attempt of this row was given up while its thread may go on in
    /// [`run_in_transaction`](Self::run_in_transaction), perhaps for ever: its connection is to be counted no more.
    fn gave_up(&self, lease: LeaseId) {
        let _ = lease;
    }
}

/// What becomes of a transactional attempt, once it is known.
pub type OutcomeFuture<'a> = Pin<Box<dyn Future<Output = TransactionOutcome> + Send + 'a>>;

/// One row this node holds: its key and the fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId {
    /// The row's primary key.
    pub id: i64,
    /// The version its claim gave it.
    pub version: i64,
}

/// What a look at the table finds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    /// The queues, priorities and shares with claimable rows.
    pub heads: Vec<Head>,
    /// Time until the first lease ends, whosever it is: zero when one has, `None` when no row is leased.
    pub lease_ends_in: Option<Duration>,
}

/// Claimable rows of one queue, priority and share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The queue.
    pub queue: String,
    /// The priority.
    pub priority: i16,
    /// Whose they are.
    pub share: Share,
    /// Time until the first row is due.
    pub wait: Duration,
}

/// What to claim.
#[derive(Debug, Clone, Copy)]
pub struct ClaimRequest<'a> {
    /// The claiming node.
    pub node: &'a str,
    /// How long the rows are leased.
    pub lease: Duration,
    /// The queue.
    pub queue: &'a str,
    /// The priority.
    pub priority: i16,
    /// The names this process knows.
    pub names: &'a [String],
    /// Most rows.
    pub limit: usize,
    /// Whose rows.
    pub share: Share,
}

/// Whose rows they are. A claim takes those of one share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Share {
    /// Those for workers.
    Workers = 0,
    /// Those for the scheduling thread: scheduled, and on the caller's thread. A process without one, because no task it knows
    /// runs there, has its workers take them: a row may have been stored by a build whose task did.
    SchedulingThread = 1,
}

/// A row this node holds, with what its run needs. `Debug` leaves the arguments out: some may be sensitive.
#[derive(Clone, PartialEq)]
pub struct ClaimedTask {
    /// Key and fence.
    pub lease: LeaseId,
    /// Public handle.
    pub task_id: String,
    /// The stored name.
    pub method_name: String,
    /// The stored arguments.
    pub task_parameter: String,
    /// `execute_times` after the claim.
    pub execute_times: i64,
    /// Whether this attempt is counted in `execute_times` already.
    pub charged: bool,
    /// Base retry interval in seconds.
    pub execute_interval_second: i64,
    /// Attempts before the row is dead.
    pub max_execute_times: Option<i64>,
    /// What becomes of its ordering key when it is given up; `None` for a row without one.
    pub when_dead: Option<WhenDead>,
    /// [`Meta`] as JSON.
    pub meta: Option<String>,
    /// The queue.
    pub queue: String,
    /// Whether it failed before, so that a release puts it back to failed.
    pub failed_before: bool,
    /// Whether somebody asked to cancel it.
    pub cancel_requested: bool,
    /// How often in a row it came back without an outcome: its lease was lost, or its transaction undone.
    pub lost_times: i64,
    /// Why it cannot be run: a column of it cannot be read. The row is given up with these words.
    pub unreadable: Option<String>,
}

impl fmt::Debug for ClaimedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClaimedTask")
            .field("lease", &self.lease)
            .field("task_id", &self.task_id)
            .field("method_name", &self.method_name)
            .field("task_parameter", &Unseen(&self.task_parameter))
            .field("execute_times", &self.execute_times)
            .field("charged", &self.charged)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

impl ClaimedTask {
    /// The row as its inserting process holds it after the commit, never claimed.
    pub fn from_inserted(row: NewTask, id: i64) -> ClaimedTask {
        let charged = row.max_execute_times.is_some();
        ClaimedTask {
            lease: LeaseId { id, version: row.first_version },
            task_id: row.task_id,
            method_name: row.method_name,
            task_parameter: row.task_parameter,
            execute_times: i64::from(charged),
            charged,
            execute_interval_second: row.execute_interval_second,
            max_execute_times: row.max_execute_times,
            when_dead: row.order_key.and_then(|_| WhenDead::from_code(i64::from(row.order_policy))),
            meta: row.meta,
            queue: row.queue,
            failed_before: false,
            cancel_requested: false,
            lost_times: 0,
            unreadable: None,
        }
    }

    /// The number of the attempt about to be made, from 1.
    pub fn attempt(&self) -> u32 {
        let number = self.execute_times.saturating_add(i64::from(!self.charged));
        u32::try_from(number.max(1)).unwrap_or(u32::MAX)
    }

    /// The row's own retry policy. An interval edited with SQL wins over the exact one stored at the insert; unreadable
    /// details fall back to fixed intervals. An interval that is not positive, with which no row is stored, counts as a second:
    /// a row that cannot succeed shall not keep its node busy.
    pub fn policy(&self) -> RetryPolicy {
        let meta: Meta = self.meta.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let stored = Duration::from_secs(u64::try_from(self.execute_interval_second).unwrap_or(0).max(1));
        let exact = meta.retry_every_ms.filter(|exact| *exact > 0).map(Duration::from_millis);
        let every = exact.filter(|exact| whole_secs(*exact) == self.execute_interval_second).unwrap_or(stored);
        RetryPolicy {
            every: every.min(Duration::from_secs(MAX_DELAY_SECS)),
            backoff: meta.backoff.unwrap_or(Backoff::FIXED),
            max_attempts: self.max_execute_times.map(|most| u32::try_from(most.max(0)).unwrap_or(u32::MAX)),
        }
    }

    /// What a settlement adds to `execute_times`: one where the attempt was made but not yet counted.
    pub fn charge_when_run(&self) -> i64 {
        i64::from(!self.charged)
    }

    /// What a release adds to `execute_times`: minus one where an attempt was counted that was not made.
    pub fn charge_when_released(&self) -> i64 {
        -i64::from(self.charged)
    }
}

/// A lease that is still ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewed {
    /// The row's primary key.
    pub id: i64,
    /// Whether somebody asked to cancel the task.
    pub cancel_requested: bool,
    /// Whether it was extended; a row somebody has locked was not, and cannot be rescued while it is.
    pub extended: bool,
}

/// What is known of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskStatus {
    /// Primary key.
    pub id: i64,
    /// Public handle.
    pub task_id: String,
    /// The task's name.
    pub method_name: String,
    /// Its state.
    pub state: State,
    /// Attempts charged so far.
    pub execute_times: i64,
    /// Leases lost in a row.
    pub lost_times: i64,
    /// The last attempt's error.
    pub error_message: Option<String>,
    /// The node that holds it.
    pub lease_owner: Option<String>,
    /// Time until it is due; zero when it is or was.
    pub due_in: Duration,
}

/// How a transactional attempt ended.
#[derive(Debug)]
pub enum TransactionOutcome {
    /// Body and completion are committed: the row is settled.
    Committed,
    /// The body or the commit failed; everything is rolled back. The row waits for its settlement.
    Failed(TaskError),
    /// The lease was lost; everything is rolled back.
    LeaseLost,
    /// No transaction could be opened; the body did not start.
    NotStarted(StoreError),
    /// The body succeeded, but a passing fault of the database (a deadlock, a serialization failure) undid it, and nothing is
    /// left; or the answer to COMMIT was lost, and either all of it is committed or none. The row waits for its settlement,
    /// which changes nothing where it is done.
    RolledBack(StoreError),
}
