//! An outbox for the tests of applications: no threads, no connection of its own. Tasks go through the table as always, so
//! arguments are serialized and read back, and run on the test's connection, also inside `begin_test_transaction`.

use std::future::ready;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use consistency_core::caught::{caught_async_transactional, caught_transactional};
use consistency_core::context::TaskContext;
use consistency_core::dispatch::{EnqueueOnly, HandOff};
use consistency_core::enqueue::EnqueueRules;
use consistency_core::error::{StartError, TaskError};
use consistency_core::error_text::clean_error_text;
use consistency_core::inject::InjectedState;
use consistency_core::registry::Registry;
use consistency_core::retry::decide;
use consistency_core::sensitive::Secrets;
use consistency_core::settings::Settings;
use consistency_core::state::State;
use consistency_core::store::{ClaimRequest, ClaimedTask, Outlook, TransactionOutcome};
use consistency_core::task::{Attempt, Body, NeededType, Task, TaskDefinition, TxBody, tx_body};
use diesel::result::QueryResult;

use crate::claims;
use crate::connection::{Answer, AsTaskConnection, TaskConnection, answer};
use crate::operations;
use crate::outbox::{Outbox, Role};
use crate::settle;
use crate::transaction::{self, Opening};
use crate::write_gate::WriteGate;

/// The node name rows of a test run carry while they run.
const NODE: &str = "test";
/// Most attempts one `run_pending` makes: a task that enqueues itself for ever fails the test instead of hanging it.
const ATTEMPTS_MAX: usize = 10_000;

/// Sets up a [`TestOutbox`].
#[must_use = "nothing is set up before `build()`"]
#[derive(Debug)]
pub struct TestOutboxBuilder<C> {
    state: InjectedState,
    registered: Vec<&'static TaskDefinition>,
    only: Option<Vec<String>>,
    inline: bool,
    connection: PhantomData<C>,
}

impl<C: TaskConnection> TestOutboxBuilder<C> {
    pub(crate) fn new() -> Self {
        Self {
            state: InjectedState::default(),
            registered: Vec::new(),
            only: None,
            inline: false,
            connection: PhantomData,
        }
    }

    /// Gives `value` to every `#[inject]` parameter of type `&T`.
    pub fn inject<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.state.insert(value);
        self
    }

    /// Registers a task by hand.
    pub fn register<T: Task>(mut self) -> Self {
        self.registered.push(T::DEFINITION);
        self
    }

    /// Serves only the tasks of these names.
    pub fn only<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.only.get_or_insert_default().extend(names.into_iter().map(Into::into));
        self
    }

    /// Runs due tasks at the end of every `transaction`, before it returns. Without it they wait for
    /// [`TestOutbox::run_pending`].
    pub fn inline(mut self) -> Self {
        self.inline = true;
        self
    }

    /// The outbox.
    ///
    /// # Errors
    /// Every problem with the registered tasks at once.
    pub fn build(self) -> Result<TestOutbox, StartError> {
        let mut problems = Vec::new();
        let connections = [NeededType::of::<C>()];
        let registry = Registry::gather(&self.registered, self.only.as_deref(), &[], &connections, &mut problems);
        registry.check(&self.state, &connections, &mut problems);
        StartError::check(problems)?;
        let settings = Settings::default();
        let served = self.only.as_ref().map(|_| Arc::new(registry.names().collect()));
        let rules = Arc::new(EnqueueRules { max_argument_bytes: settings.max_argument_bytes, served, queues: None });
        let names = registry.names().map(str::to_owned).collect();
        let busy_wait = settings.busy_wait;
        let gate = WriteGate::new(C::DIALECT.kind, busy_wait);
        let hand_off = EnqueueOnly::new(rules, None);
        let run = TestRun { registry, names, state: self.state, settings, hand_off, inline: self.inline };
        let outbox = Outbox::new(Role::Test(Box::new(run)), C::DIALECT.kind, busy_wait, Arc::new(gate), None);
        Ok(TestOutbox { outbox })
    }
}

/// An outbox for tests; pass it where `&Outbox` is wanted.
///
/// Only this one works inside an open transaction, through a savepoint, so that a test can roll everything back.
#[derive(Debug, Clone)]
pub struct TestOutbox {
    outbox: Outbox,
}

impl Deref for TestOutbox {
    type Target = Outbox;

    fn deref(&self) -> &Outbox {
        &self.outbox
    }
}

impl TestOutbox {
    /// Runs every due task on `conn`, one after the other, those they enqueue included, until none is due. On an asynchronous
    /// connection `.await` the answer.
    ///
    /// A failed task stays failed with its error in the table and in the report; it is due again after its interval.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub fn run_pending<'a, A: AsTaskConnection>(
        &'a self,
        conn: &'a mut A,
    ) -> Answer<'a, A::Connection, QueryResult<TestReport>> {
        let conn = conn.as_task_connection();
        answer::<A::Connection, _>(async move {
            match self.outbox.test_run() {
                Some(run) => run.run_due(conn).await,
                None => Ok(TestReport::default()),
            }
        })
    }
}

/// What a test run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TestReport {
    /// Attempts that succeeded.
    pub succeeded: usize,
    /// Name and error of each attempt that did not.
    pub failures: Vec<(String, String)>,
}

/// Runs tasks on the connection of a test.
pub(crate) struct TestRun {
    registry: Registry,
    names: Vec<String>,
    state: InjectedState,
    settings: Settings,
    hand_off: EnqueueOnly,
    inline: bool,
}

impl TestRun {
    pub(crate) fn hand_off(&self) -> &dyn HandOff {
        &self.hand_off
    }

    /// Runs what is due when the outbox is an inline one.
    pub(crate) async fn after_commit<C: TaskConnection>(&self, conn: &mut C) -> QueryResult<()> {
        if self.inline { self.run_due(conn).await.map(drop) } else { Ok(()) }
    }

    async fn run_due<C: TaskConnection>(&self, conn: &mut C) -> QueryResult<TestReport> {
        let mut report = TestReport::default();
        for _ in 0..ATTEMPTS_MAX {
            let Some(task) = self.claim_one(conn).await? else { return Ok(report) };
            self.run_one(conn, &task, &mut report).await?;
        }
        report.failures.push((
            String::new(),
            format!("gave up after {ATTEMPTS_MAX} attempts: do tasks enqueue one another for ever?"),
        ));
        Ok(report)
    }

    async fn claim_one<C: TaskConnection>(&self, conn: &mut C) -> QueryResult<Option<ClaimedTask>> {
        let named = self.registry.definitions().map(|definition| definition.options.queue);
        let queues: Vec<String> = self.settings.served_queues(named).into_iter().collect();
        let Outlook { mut heads, .. } = operations::look(conn, &queues).await?;
        heads.retain(|head| head.wait.is_zero());
        heads.sort_by_key(|head| (head.priority, head.share));
        for head in heads {
            let request = ClaimRequest {
                node: NODE,
                lease: Duration::from_secs(60 * 60),
                queue: &head.queue,
                priority: head.priority,
                names: &self.names,
                limit: 1,
                share: head.share,
            };
            if let Some(task) = claims::claim(conn, &request).await?.pop() {
                return Ok(Some(task));
            }
        }
        Ok(None)
    }

    async fn run_one<C: TaskConnection>(
        &self,
        conn: &mut C,
        task: &ClaimedTask,
        report: &mut TestReport,
    ) -> QueryResult<()> {
        // Claims ask only for names of this registry.
        let Some(definition) = self.registry.find(&task.method_name) else { return Ok(()) };
        let context = TaskContext::new(
            task.lease.id,
            task.task_id.clone(),
            definition.name,
            task.attempt(),
            Arc::from(NODE),
            Arc::clone(self.hand_off.rules()),
        );
        let attempt = Attempt {
            arguments: Arc::from(task.task_parameter.as_str()),
            context: context.clone(),
            state: self.state.clone(),
        };
        let outcome = match definition.body {
            Body::Async(_) | Body::Blocking(_) => Some(C::run_body(definition.body, attempt).await),
            Body::Transactional { run, .. } => {
                let mut body = tx_body(|parts| Box::pin(ready(caught_transactional(run, attempt.clone(), parts))));
                self.transact(conn, task, &mut body).await
            }
            Body::AsyncTransactional { run, .. } => {
                let mut body = tx_body(|parts| Box::pin(caught_async_transactional(run, attempt.clone(), parts)));
                self.transact(conn, task, &mut body).await
            }
        };
        let Some(outcome) = outcome else {
            report.succeeded += 1;
            return Ok(());
        };
        let decision = decide(&outcome, task.attempt(), &task.policy(), 0.0);
        let secrets = Secrets::of(definition.sensitive, &task.task_parameter);
        let clean = |error: TaskError| clean_error_text(error.text(), self.settings.max_error_bytes, &secrets);
        let error = outcome.err().map(clean);
        let settlement = task.settled(decision, error, context.take_follow_ups());
        match &settlement.error {
            Some(error) if settlement.state != State::Succeeded => {
                report.failures.push((task.method_name.clone(), error.clone()))
            }
            _ => report.succeeded += 1,
        }
        settle::settle(conn, &[settlement]).await.map(drop)
    }

    /// Runs a body in a savepoint that also completes the row; `None` when that is done, or how the attempt ended.
    async fn transact<C: TaskConnection>(
        &self,
        conn: &mut C,
        task: &ClaimedTask,
        body: &mut TxBody<'_>,
    ) -> Option<Result<(), TaskError>> {
        let opening =
            Opening { gate: None, busy_wait: self.settings.busy_wait, inside_another: true, begun: false, limit: None };
        let charge = task.charge_when_run();
        match transaction::run_task(conn, task.lease, charge, &self.hand_off, opening, body).await {
            TransactionOutcome::Committed => None,
            TransactionOutcome::Failed(error) => Some(Err(error)),
            TransactionOutcome::LeaseLost => Some(Err(TaskError::message("the body changed its own row"))),
            TransactionOutcome::NotStarted(error) | TransactionOutcome::RolledBack(error) => {
                Some(Err(TaskError::new(error)))
            }
        }
    }
}
