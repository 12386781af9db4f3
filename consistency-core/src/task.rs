//! What the macro writes down about an annotated function: its name, its parameters, its options, its body.

use std::any::{Any, TypeId};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::context::TaskContext;
use crate::enqueue::EnqueueScope;
use crate::error::TaskError;
use crate::inject::InjectedState;
use crate::retry::Backoff;
use crate::sensitive::Unseen;
use crate::when_dead::WhenDead;

/// Everything known at compile time about one task.
#[derive(Debug)]
pub struct TaskDefinition {
    /// The stable name, stored in `method_name`.
    pub name: &'static str,
    /// Former names whose rows this function still runs.
    pub aliases: &'static [&'static str],
    /// The readable signature, stored in `method_sign_name`.
    pub signature: &'static str,
    /// The stored parameters as readable text, stored in `parameter_types`.
    pub parameter_types: &'static str,
    /// The names of the `#[sensitive]` parameters.
    pub sensitive: &'static [&'static str],
    /// Module of the function.
    pub module: &'static str,
    /// Source file of the function.
    pub file: &'static str,
    /// Line of the function in `file`.
    pub line: u32,
    /// The options of the attribute.
    pub options: TaskOptions,
    /// The types of the `#[inject]` parameters.
    pub injects: fn() -> Vec<NeededType>,
    /// How to run it.
    pub body: Body,
}

impl TaskDefinition {
    /// `file:line` of the function.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

/// A task as a type: the macro implements it for the empty enum that carries the function's name.
pub trait Task {
    /// What the macro wrote down.
    const DEFINITION: &'static TaskDefinition;
    /// The stable name, for `only` and `expect_tasks`.
    const NAME: &'static str = Self::DEFINITION.name;
}

/// A type a task asks for, by identity and by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeededType {
    /// Its identity.
    pub id: TypeId,
    /// Its name, for messages.
    pub name: &'static str,
}

impl NeededType {
    /// The needed type `T`.
    pub fn of<T: ?Sized + 'static>() -> Self {
        Self { id: TypeId::of::<T>(), name: std::any::type_name::<T>() }
    }
}

/// The options of `#[consistency_task(..)]`, with their defaults in [`TaskOptions::DEFAULT`].
#[derive(Debug, Clone, Copy)]
pub struct TaskOptions {
    /// Base interval between attempts; default 60 s, the seed's `execute_interval_second`.
    pub retry_every: Duration,
    /// Delay before the first attempt; default none for immediate tasks, 60 s for scheduled ones.
    pub delay: Option<Duration>,
    /// When the first attempt starts.
    pub mode: ExecuteMode,
    /// Which thread runs it.
    pub run_on: RunOn,
    /// Attempts before the task is dead; `None` (the default) retries until it succeeds.
    pub max_attempts: Option<u32>,
    /// Time limit of one attempt; `None` takes the runtime's `attempt_timeout`.
    pub timeout: Option<Duration>,
    /// The queue whose slots it uses.
    pub queue: &'static str,
    /// 0 (first) to 9 (last); default 5.
    pub priority: u8,
    /// How the interval grows.
    pub backoff: Backoff,
    /// What becomes of the ordering key of a row that is given up; calls without an ordering key have no use for it.
    pub when_dead: WhenDead,
}

/// The queue of tasks that name none.
pub const DEFAULT_QUEUE: &str = "default";

/// The default of `retry_every`, from the seed's `execute_interval_second`.
pub const DEFAULT_RETRY_EVERY: Duration = Duration::from_secs(60);

/// The default delay of scheduled tasks, from the seed's `delay_time`.
pub const DEFAULT_SCHEDULED_DELAY: Duration = Duration::from_secs(60);

/// The largest delay or interval, in seconds: ten years of 366 days. Larger ones are nearly always a wrong unit.
pub const MAX_DELAY_SECS: u64 = 10 * 366 * 24 * 60 * 60;

impl TaskOptions {
    /// What an attribute without options means.
    pub const DEFAULT: TaskOptions = TaskOptions {
        retry_every: DEFAULT_RETRY_EVERY,
        delay: None,
        mode: ExecuteMode::Immediate,
        run_on: RunOn::Worker,
        max_attempts: None,
        timeout: None,
        queue: DEFAULT_QUEUE,
        priority: 5,
        backoff: Backoff::FIXED,
        when_dead: WhenDead::Block,
    };
}

/// When the first attempt starts; stored as `execute_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum ExecuteMode {
    /// Right after the commit, in the committing process (code 1).
    Immediate = 1,
    /// When due, taken by the poller of any process (code 2).
    Scheduled = 2,
}

/// Which thread runs the task; stored as `thread_way`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum RunOn {
    /// A worker (code 1, asynchronous).
    Worker = 1,
    /// Immediate tasks: the caller's thread, before the transaction helper returns. Scheduled ones: the scheduling thread,
    /// one after the other (code 2, synchronous).
    Caller = 2,
}

/// A boxed future, as an `async` body's type-erased form.
pub type BoxFuture = Pin<Box<dyn Future<Output = Result<(), TaskError>> + Send + 'static>>;

/// A boxed future inside an open transaction, as an `async` `#[tx]` body's type-erased form.
pub type TxFuture<'a> = Pin<Box<dyn Future<Output = Result<(), TaskError>> + Send + 'a>>;

/// What runs inside a transaction that a store opens: the body of one attempt, guarded against panics.
pub type TxBody<'b> = dyn for<'a> FnMut(TxParts<'a>) -> TxFuture<'a> + Send + 'b;

/// Has the compiler see that a closure gives a future that lives as long as the transaction.
pub fn tx_body<F>(body: F) -> F
where
    F: for<'a> FnMut(TxParts<'a>) -> TxFuture<'a> + Send,
{
    body
}

/// The type-erased body of a task.
#[derive(Debug, Clone, Copy)]
pub enum Body {
    /// An `async fn`.
    Async(fn(Attempt) -> BoxFuture),
    /// An `fn`; it may block, so it runs on a thread of its own.
    Blocking(fn(Attempt) -> Result<(), TaskError>),
    /// An `fn` with a `#[tx]` parameter: its writes and its completion commit together.
    Transactional {
        /// The connection type it takes.
        connection: fn() -> NeededType,
        /// The function.
        run: fn(Attempt, TxParts<'_>) -> Result<(), TaskError>,
    },
    /// An `async fn` with a `#[tx]` parameter, on a connection of diesel-async.
    AsyncTransactional {
        /// The connection type it takes.
        connection: fn() -> NeededType,
        /// The function.
        run: for<'a> fn(Attempt, TxParts<'a>) -> TxFuture<'a>,
    },
}

impl Body {
    /// The connection type of its `#[tx]` parameter, if it has one.
    pub fn connection(self) -> Option<NeededType> {
        match self {
            Body::Transactional { connection, .. } | Body::AsyncTransactional { connection, .. } => Some(connection()),
            Body::Async(_) | Body::Blocking(_) => None,
        }
    }

    /// Whether it runs as a future; the others run on a thread of their own.
    pub fn is_async(self) -> bool {
        matches!(self, Body::Async(_) | Body::AsyncTransactional { .. })
    }
}

/// One run of one task: the stored arguments and what the body may use.
#[derive(Clone)]
pub struct Attempt {
    /// The stored arguments, a JSON object keyed by parameter name.
    pub arguments: Arc<str>,
    /// What the body may know about this attempt.
    pub context: TaskContext,
    /// The injected values.
    pub state: InjectedState,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Attempt { arguments, context, state } = self;
        let arguments = Unseen(arguments);
        f.debug_struct("Attempt")
            .field("arguments", &arguments)
            .field("context", context)
            .field("state", state)
            .finish()
    }
}

/// An open transaction, taken apart so that it can pass through code that knows no database.
pub struct TxParts<'a> {
    /// The open connection.
    pub connection: &'a mut (dyn Any + Send),
    /// What the transaction has enqueued so far.
    pub scope: &'a mut EnqueueScope,
}

/// A type that can stand behind `#[tx]`: it is bound to the attempt's open transaction.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no transaction a task can take",
    note = "a `#[tx]` parameter is written `#[tx] tx: &mut TaskTx<SqliteConnection>` (or `PgConnection`, `MysqlConnection`; in an `async fn` the connection is `AsyncPgConnection`, `AsyncMysqlConnection` or `SyncConnectionWrapper<SqliteConnection>`)"
)]
pub trait TransactionParameter {
    /// The connection inside.
    type Connection: 'static;
    /// This type with the lifetime of one attempt.
    type Bound<'a>;

    /// Binds the parameter to the open transaction; `None` when the connection is of another type.
    fn bind(parts: TxParts<'_>) -> Option<Self::Bound<'_>>;
}

/// The world of Diesel's own connections, where a call blocks until it is done. Tasks on them are plain `fn`s.
#[derive(Debug)]
pub enum Blocking {}

/// The world of diesel-async's connections, where a call gives a future. Tasks on them are `async fn`s.
#[derive(Debug)]
pub enum Asynchronous {}

/// A transaction that a function of this `World` can take.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the `#[tx]` of this function",
    label = "a transaction of the other world",
    note = "a plain `fn` takes the transaction of one of Diesel's own connections, such as `TaskTx<PgConnection>`, which blocks; an `async fn` takes that of one of diesel-async's, such as `TaskTx<AsyncPgConnection>`, which must be awaited"
)]
pub trait TransactionIn<World>: TransactionParameter {}
