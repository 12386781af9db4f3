//! What most scenarios need: an outbox under way, a table of business rows beside it, and bodies that say what they saw.

use std::sync::Arc;
use std::thread::ThreadId;

use consistency_core::call::Call;
use consistency_core::state::State;
use consistency_diesel::blocking_connection::BlockingConnection;
use consistency_diesel::builder::OutboxBuilder;
use consistency_diesel::outbox::Outbox;
use consistency_diesel::transact::Transact;
use diesel::result::Error;
use parking_lot::Mutex;

use crate::database::Database;
use crate::recorder::{Latch, Recorder};

diesel::table! {
    /// A table of the application's own.
    business (id) {
        /// Its number.
        id -> Integer,
        /// Its name.
        name -> Text,
    }
}

/// What bodies tell the test: taken as `#[inject] probe: &Probe`. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Probe {
    seen: Arc<Mutex<Vec<(String, ThreadId)>>>,
    count: Latch,
}

impl Probe {
    /// A body says that it ran, and with what.
    pub fn saw(&self, what: impl Into<String>) {
        self.seen.lock().push((what.into(), std::thread::current().id()));
        self.count.raise();
    }

    /// Everything said so far, in the order it was said.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().iter().map(|(what, _)| what.clone()).collect()
    }

    /// Everything said so far, sorted.
    pub fn seen_sorted(&self) -> Vec<String> {
        let mut seen = self.seen();
        seen.sort();
        seen
    }

    /// The thread on which `what` was said last.
    pub fn thread_of(&self, what: &str) -> Option<ThreadId> {
        self.seen.lock().iter().rev().find(|(said, _)| said == what).map(|(_, thread)| *thread)
    }

    /// Waits until `count` things were said.
    #[track_caller]
    pub fn wait_for(&self, count: usize) {
        self.count.wait_for(count);
    }
}

/// An outbox on a database with a `business` table. Shut down with this value.
#[derive(Debug)]
pub struct Stage<'d> {
    /// The database.
    pub database: &'d Database,
    /// The outbox under way.
    pub outbox: Outbox,
    /// What its bodies say.
    pub probe: Probe,
    /// What it reports.
    pub recorder: Recorder,
}

impl<'d> Stage<'d> {
    /// The usual outbox.
    pub fn on(database: &'d Database) -> Self {
        Self::with(database, |builder| builder)
    }

    /// An outbox set up as `set_up` says.
    pub fn with(database: &'d Database, set_up: impl FnOnce(OutboxBuilder) -> OutboxBuilder) -> Self {
        let (probe, recorder) = (Probe::default(), Recorder::new());
        let builder = database.outbox().inject(probe.clone()).listener(recorder.listener());
        let outbox = set_up(builder).start_blocking().expect("the outbox starts");
        database.execute("CREATE TABLE business (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(100) NOT NULL)");
        Self { database, outbox, probe, recorder }
    }

    /// Commits `call` alone on a connection of its own; returns its public handle.
    #[track_caller]
    pub fn commit<C: BlockingConnection>(&self, call: Call) -> String {
        let mut conn = self.database.connection::<C>();
        let receipt = self.outbox.transaction(&mut conn, |tx| tx.enqueue(call)).expect("the commit");
        receipt.task_id().to_owned()
    }

    /// Commits `call` alone and waits until it succeeded.
    #[track_caller]
    pub fn run<C: BlockingConnection>(&self, call: Call) -> String {
        let task_id = self.commit::<C>(call);
        self.recorder.wait_for_settled(&task_id, State::Succeeded);
        task_id
    }

    /// The names in the business table, sorted.
    pub fn names(&self) -> Vec<String> {
        self.database.texts("SELECT name AS value FROM business ORDER BY name")
    }

    /// How many task rows there are.
    pub fn tasks(&self) -> i64 {
        self.database.count("consistency_task", "1 = 1")
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.outbox.shutdown_blocking();
    }
}

/// Rolls back without being a failure.
pub fn give_up<T>() -> Result<T, Error> {
    Err(Error::RollbackTransaction)
}
