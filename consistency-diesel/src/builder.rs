//! From settings to a running outbox: everything is checked, in one error, before anything starts.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::dispatch::EnqueueOnly;
use consistency_core::enqueue::EnqueueRules;
use consistency_core::error::{Problem, StartError};
use consistency_core::event::{Event, Listener};
use consistency_core::inject::InjectedState;
use consistency_core::registry::Registry;
use consistency_core::runtime::{Parts, Runtime};
use consistency_core::settings::Settings;
use consistency_core::task::{Task, TaskDefinition};

use crate::dialect::Kind;
use crate::notify::Notifications;
use crate::outbox::{Outbox, Role, apart, on_plain_thread};
use crate::source::Source;
use crate::write_gate::WriteGate;

/// Collects what an [`Outbox`] needs. Every setting has a default; [`Settings`] says which and why.
#[must_use = "nothing starts before `start().await` or `start_blocking()`"]
pub struct OutboxBuilder {
    source: Source,
    settings: Settings,
    state: InjectedState,
    registered: Vec<&'static TaskDefinition>,
    only: Option<Vec<String>>,
    expected: Vec<String>,
    listeners: Vec<Listener>,
    migrate: bool,
    enqueue_only: bool,
    notify: bool,
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        $(
            $(#[$doc])*
            pub fn $name(mut self, value: $type) -> Self {
                self.settings.$name = value;
                self
            }
        )*
    };
}

impl OutboxBuilder {
    pub(crate) fn new(source: Source) -> Self {
        Self {
            source,
            settings: Settings::default(),
            state: InjectedState::default(),
            registered: Vec::new(),
            only: None,
            expected: Vec::new(),
            listeners: Vec::new(),
            migrate: false,
            enqueue_only: false,
            notify: false,
        }
    }

    settings! {
        /// Attempts at a time in every queue that names none. Default 32.
        concurrency: usize,
        /// Longest time between two looks at the table. Default 1 s; see [`Settings::poll_interval`].
        poll_interval: Duration,
        /// How long a row stays ours without a heartbeat. Default 10 s.
        lease: Duration,
        /// Time between renewals. Default 3 s, at most half of `lease`.
        heartbeat: Duration,
        /// Time limit of an attempt whose task has no `timeout`. Default 15 min.
        attempt_timeout: Duration,
        /// Leases lost in a row before a task is dead. Default 5.
        crash_budget: u32,
        /// Most rows one claim takes. Default 1000.
        claim_batch: usize,
        /// Most rows one settlement writes. Default 1000.
        settle_batch: usize,
        /// How long a settlement waits for company. Default 1 ms.
        settle_linger: Duration,
        /// Most bytes of stored arguments. Default 1 MiB.
        max_argument_bytes: usize,
        /// Most bytes of stored error text. Default 16 KiB.
        max_error_bytes: usize,
        /// How long to wait for a locked SQLite file or a free connection. Default 10 s.
        busy_wait: Duration,
        /// Longest time for one operation of the runtime on its database, and for connecting. Default 10 s; see
        /// [`Settings::store_timeout`].
        store_timeout: Duration,
        /// How long a shutdown waits for running attempts. Default 10 s.
        shutdown_grace: Duration,
        /// Blocking bodies past their time limit whose threads may go on. Default 16.
        max_abandoned_threads: usize,
        /// Connections for `#[tx]` tasks. Default 4; always 1 on SQLite.
        transaction_connections: usize,
    }

    /// The name of this process in `lease_owner`; a random part is added. Default: host and process id.
    pub fn node(mut self, name: impl Into<String>) -> Self {
        self.settings.node = name.into();
        self
    }

    /// Serves `queue` with `slots` attempts at a time.
    pub fn queue(mut self, queue: impl Into<String>, slots: usize) -> Self {
        self.settings.queues.insert(queue.into(), slots);
        self
    }

    /// Says that other processes serve `queue`: calls for it are stored, this process does not claim them.
    pub fn queue_elsewhere(mut self, queue: impl Into<String>) -> Self {
        self.settings.queues_elsewhere.insert(queue.into());
        self
    }

    /// Gives `value` to every `#[inject]` parameter of type `&T`. One value per type; a later one replaces it.
    pub fn inject<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.state.insert(value);
        self
    }

    /// Registers a task by hand. Tasks register themselves; this also keeps the linker from dropping their crate.
    pub fn register<T: Task>(self) -> Self {
        self.register_definition(T::DEFINITION)
    }

    /// Registers a task by its definition: for associated functions, whose macro makes `Type::name_task()`.
    pub fn register_definition(mut self, definition: &'static TaskDefinition) -> Self {
        self.registered.push(definition);
        self
    }

    /// Serves only the tasks of these names. Calls of others are refused.
    pub fn only<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.only.get_or_insert_default().extend(names.into_iter().map(Into::into));
        self
    }

    /// Makes it an error at start when no function is registered under one of these names.
    pub fn expect_tasks<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.expected.extend(names.into_iter().map(Into::into));
        self
    }

    /// Hears of every [`Event`], on the thread it happens on; be quick.
    pub fn listener(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.listeners.push(Arc::new(listener));
        self
    }

    /// Runs the pending migrations at start. Safe when several processes start at once.
    pub fn migrate(mut self) -> Self {
        self.migrate = true;
        self
    }

    /// Stores calls and runs none: for processes whose tasks other processes run.
    pub fn enqueue_only(mut self) -> Self {
        self.enqueue_only = true;
        self
    }

    /// Wakes other processes after a commit that leaves rows to whoever comes first, and is woken by theirs, through
    /// PostgreSQL's NOTIFY: they start such rows at once instead of at their next look. It takes one connection to tell and
    /// one to listen, not through a pooler that shares sessions. Needs an outbox made from a `postgres://` address.
    #[cfg(feature = "async-postgres")]
    pub fn notify(mut self) -> Self {
        self.notify = true;
        self
    }

    /// Checks settings, address and tasks without a database: for one unit test that catches what a start would refuse.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn check(&self) -> Result<(), StartError> {
        let mut problems = Vec::new();
        self.gather(&mut problems);
        StartError::check(problems)
    }

    fn gather(&self, problems: &mut Vec<Problem>) -> Registry {
        self.settings.check(problems);
        let connections = match self.source.resolve() {
            Ok(open) => {
                if self.notify && (open.kind() != Kind::Postgres || open.url().is_none()) {
                    let reason = "only an outbox made from a `postgres://` address can notify; leave `.notify()` out";
                    problems.push(Problem::Setting { setting: "notify", reason: reason.to_owned() });
                }
                open.connections()
            }
            Err(problem) => {
                problems.push(problem);
                Vec::new()
            }
        };
        let registry = Registry::gather(&self.registered, self.only.as_deref(), &self.expected, &connections, problems);
        if !self.enqueue_only {
            registry.check(&self.state, &connections, problems);
        }
        registry
    }

    /// Starts the outbox. Inside a Tokio runtime `async` tasks run on that one.
    ///
    /// After it returns the table is checked and, unless [`enqueue_only`](Self::enqueue_only), due tasks are being run.
    ///
    /// # Errors
    /// A [`StartError`] with every problem: settings, address, tasks; then the database, then the table.
    pub async fn start(self) -> Result<Outbox, StartError> {
        match apart(move || self.start_here()).await {
            Ok(started) => started,
            Err(error) => Err(Problem::Database(format!("the start was interrupted: {error}")).into()),
        }
    }

    /// As [`start`](Self::start), from code that is not `async`. Without a Tokio runtime around it, it brings its own.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_blocking(self) -> Result<Outbox, StartError> {
        on_plain_thread(|| self.start_here())
    }

    fn start_here(self) -> Result<Outbox, StartError> {
        let mut problems = Vec::new();
        let registry = self.gather(&mut problems);
        StartError::check(problems)?;
        let open = self.source.resolve()?;
        open.prepare(&self.settings, self.migrate)?;

        let served = self.only.as_ref().map(|_| Arc::new(registry.names().collect()));
        let queues = (!self.enqueue_only).then(|| {
            let named = registry.definitions().map(|definition| definition.options.queue);
            let mut known = self.settings.served_queues(named);
            known.extend(self.settings.queues_elsewhere.iter().cloned());
            Arc::new(known.into_iter().collect())
        });
        let rules = Arc::new(EnqueueRules { max_argument_bytes: self.settings.max_argument_bytes, served, queues });
        let gate = Arc::new(WriteGate::new(open.kind(), self.settings.busy_wait));
        let store = open.store(&self.settings, Arc::clone(&gate));
        let (kind, busy_wait) = (open.kind(), self.settings.busy_wait);
        let notifications = match open.url() {
            Some(url) if self.notify => {
                Some(Notifications::start(url, self.settings.store_timeout).map_err(no_thread)?)
            }
            _ => None,
        };
        let announce = notifications.as_ref().map(Notifications::announce);
        let role = if self.enqueue_only {
            Role::EnqueueOnly(EnqueueOnly::new(rules, announce), store)
        } else {
            let parts = Parts {
                settings: self.settings,
                registry,
                state: self.state,
                announce,
                rules,
                listeners: self.listeners,
            };
            let runtime = Runtime::start(parts, Arc::clone(&store)).map_err(no_thread)?;
            if let Some(notifications) = &notifications {
                notifications.wake(&runtime);
            }
            Role::Running(runtime, store)
        };
        Ok(Outbox::new(role, kind, busy_wait, gate, notifications))
    }
}

fn no_thread(error: std::io::Error) -> Problem {
    Problem::Setting { setting: "concurrency", reason: format!("no thread: {error}") }
}

impl std::fmt::Debug for OutboxBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutboxBuilder")
            .field("source", &self.source)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
