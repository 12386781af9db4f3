//! A load that goes on while something goes wrong, and what must be true of it afterwards: nothing lost, no ghost, nothing run
//! again after its success, nothing doubled but what an outage caught between a body's begin and its outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use consistency_core::call::Call;
use consistency_core::context::TaskContext;
use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::error::TransactionError;
use consistency_diesel::outbox::Outbox;
use diesel::ConnectionResult;
use diesel::result::QueryResult;
use parking_lot::Mutex;

use crate::database::Database;
use crate::recorder::{Latch, wait_until};

/// The rows of the load; the bodies of worker processes keep no books here.
const OURS: &str = "method_name NOT LIKE 'worker.%'";

/// Stores calls on a connection of the application's own, of either world.
pub trait Producer: Send + Sized + 'static {
    /// The names of what it stores, for `OutboxBuilder::only`.
    const TASKS: [&str; 2];

    /// Connects.
    ///
    /// # Errors
    /// The client's.
    fn connect(address: &str) -> ConnectionResult<Self>;

    /// Commits a row of `orders` and the call that belongs to its number, in one transaction.
    ///
    /// # Errors
    /// The transaction's.
    fn commit(&mut self, outbox: &Outbox, number: i64) -> QueryResult<()>;

    /// Commits a call alone.
    ///
    /// # Errors
    /// The transaction's.
    fn store(&mut self, outbox: &Outbox, call: Call) -> QueryResult<()>;
}

/// Whether the call of this number takes `#[tx]` and writes its number into `done`.
pub fn is_exact(number: i64) -> bool {
    number % 3 == 2
}

/// Whether the call of this number is stored with a key, so that it is claimed and not handed over.
pub fn is_keyed(number: i64) -> bool {
    number % 3 == 1
}

/// The load of one test, and its books. Injected into the bodies.
#[derive(Debug, Default)]
pub struct Load {
    next: AtomicI64,
    stopped: AtomicBool,
    /// Bodies wait in it while it is held.
    door: Mutex<Option<Door>>,
    books: Mutex<Books>,
}

/// What holds bodies.
#[derive(Debug, Clone, Default)]
pub struct Door {
    waiting: Latch,
    open: Latch,
}

impl Door {
    /// Waits on this thread until it is opened. An `async` body has to do that elsewhere: other bodies share its thread, one
    /// that has a transaction open among them.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn pass(&self) {
        self.waiting.raise();
        self.open.wait_for(1);
    }
}

#[derive(Debug, Default)]
struct Books {
    acknowledged: BTreeSet<i64>,
    /// COMMIT was not answered.
    unknown: BTreeSet<i64>,
    refused: BTreeSet<i64>,
    refusals: BTreeSet<String>,
    runs: Vec<Run>,
    /// When each task was said to have succeeded.
    succeeded: BTreeMap<String, Instant>,
    rescues: BTreeMap<i64, i64>,
    failures: Vec<Failure>,
    trouble: usize,
    outages: Vec<(Instant, Instant)>,
}

/// An attempt that was told to have failed.
#[derive(Debug, Clone)]
struct Failure {
    task_id: String,
    name: String,
    error: String,
}

#[derive(Debug, Clone)]
struct Run {
    number: i64,
    id: i64,
    task_id: String,
    began: Instant,
}

/// What came of a load.
#[derive(Debug, Clone, Copy)]
pub struct Sums {
    /// Transactions whose COMMIT was answered.
    pub acknowledged: usize,
    /// Transactions whose COMMIT was not answered.
    pub unknown: usize,
    /// Those of them that are stored.
    pub unknown_stored: usize,
    /// Transactions that were refused, or rolled back with an error.
    pub refused: usize,
    /// Bodies begun beyond the first of each task.
    pub doubled: usize,
    /// Rows taken back from a node that lost touch.
    pub rescued: usize,
    /// Attempts that ended with an error of the body's own statement.
    pub failed: usize,
}

impl Load {
    /// The tables it writes to, and a fresh load.
    pub fn on(database: &Database) -> Arc<Load> {
        database.execute("CREATE TABLE orders (number BIGINT NOT NULL PRIMARY KEY)");
        database.execute("CREATE TABLE done (number BIGINT NOT NULL PRIMARY KEY)");
        Arc::default()
    }

    /// A body of this number begins. It has to [`pass`](Door::pass) the door, where there is one.
    #[must_use = "what holds bodies up has to be waited for"]
    pub fn began(&self, number: i64, cx: &TaskContext) -> Option<Door> {
        let run = Run { number, id: cx.id(), task_id: cx.task_id().to_owned(), began: Instant::now() };
        self.books.lock().runs.push(run);
        // Nobody waits with a transaction open.
        self.door.lock().clone().filter(|_| !is_exact(number))
    }

    /// Has at least one body under way that does not end before [`let_bodies_end`](Self::let_bodies_end).
    ///
    /// # Panics
    /// When none comes.
    pub fn hold_bodies(&self) {
        let door = Door::default();
        *self.door.lock() = Some(door.clone());
        door.waiting.wait_for(1);
    }

    /// Ends the wait of [`hold_bodies`](Self::hold_bodies).
    pub fn let_bodies_end(&self) {
        if let Some(door) = self.door.lock().take() {
            door.open.raise();
        }
    }

    /// What hears the events of every outbox of the load.
    pub fn listener(self: &Arc<Self>) -> impl Fn(&Event) + Send + Sync + 'static {
        let load = Arc::clone(self);
        move |event| load.books.lock().hear(event)
    }

    /// Commits on a thread of its own until [`finish`](Self::finish), connecting anew whenever something went wrong.
    pub fn produce<P: Producer>(self: &Arc<Self>, outbox: &Outbox, address: &str) -> JoinHandle<()> {
        let (load, outbox, address) = (Arc::clone(self), outbox.clone(), address.to_owned());
        std::thread::spawn(move || {
            let mut connection = None;
            while !load.stopped.load(Ordering::Acquire) {
                match connection.as_mut() {
                    None => connection = P::connect(&address).ok(),
                    Some(producer) => {
                        if load.commit_next(producer, &outbox).is_err() {
                            connection = None;
                        }
                    }
                }
                // The rate of the load: a few hundred in a second.
                std::thread::sleep(Duration::from_millis(3));
            }
        })
    }

    /// Commits the next number.
    ///
    /// # Errors
    /// The transaction's.
    pub fn commit_next<P: Producer>(&self, producer: &mut P, outbox: &Outbox) -> QueryResult<()> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let committed = producer.commit(outbox, number);
        let mut books = self.books.lock();
        match &committed {
            Ok(()) => books.acknowledged.insert(number),
            Err(error) if matches!(TransactionError::of(error), Some(TransactionError::CommitUnknown(_))) => {
                books.unknown.insert(number)
            }
            Err(error) => {
                books.refusals.insert(error.to_string());
                books.refused.insert(number)
            }
        };
        committed
    }

    /// Notes an outage: `cause` brings it about and ends it; afterwards everything works again.
    pub fn through_outage<T>(&self, cause: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let value = cause();
        self.wait_for_a_fresh_run();
        self.books.lock().outages.push((began, Instant::now()));
        value
    }

    /// Waits until something stored from now on has been run.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_for_a_fresh_run(&self) {
        let from = self.next.load(Ordering::SeqCst);
        wait_until("something fresh to run", || self.books.lock().runs.iter().rev().any(|run| run.number >= from));
    }

    /// Waits until this many commits were acknowledged.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_for_commits(&self, count: usize) {
        wait_until(&format!("{count} commits"), || self.books.lock().acknowledged.len() >= count);
    }

    /// How often the runtime has reported trouble with its store.
    pub fn trouble(&self) -> usize {
        self.books.lock().trouble
    }

    /// What refused transactions were told.
    pub fn refusals(&self) -> Vec<String> {
        self.books.lock().refusals.iter().cloned().collect()
    }

    /// How many transactions did not commit for sure.
    pub fn not_acknowledged(&self) -> usize {
        let books = self.books.lock();
        books.refused.len() + books.unknown.len()
    }

    /// Ends the producers, waits until every stored task has succeeded, and checks the books.
    ///
    /// # Panics
    /// When something is not as promised.
    pub fn finish(&self, database: &Database, producers: Vec<JoinHandle<()>>) -> Sums {
        self.stopped.store(true, Ordering::Release);
        for producer in producers {
            producer.join().expect("a producer");
        }
        database.reconnect();
        let unfinished = || database.count("consistency_task", &format!("state <> 2 AND {OURS}"));
        let mut left = unfinished();
        while left > 0 {
            // Many may be left; they shall get on.
            wait_until("one more task to succeed", || unfinished() < left);
            left = unfinished();
        }
        self.books.lock().check(database)
    }
}

impl Books {
    fn hear(&mut self, event: &Event) {
        match event {
            Event::Settled { attempt, state: State::Succeeded, .. } => {
                self.succeeded.entry(attempt.task_id.clone()).or_insert_with(Instant::now);
            }
            Event::Settled { attempt, error, .. } => {
                let (task_id, name) = (attempt.task_id.clone(), attempt.name.clone());
                self.failures.push(Failure { task_id, name, error: error.clone().unwrap_or_default() });
            }
            Event::Rescued { id, .. } => *self.rescues.entry(*id).or_default() += 1,
            Event::StoreTrouble { .. } => self.trouble += 1,
            _ => {}
        }
    }

    fn check(&self, database: &Database) -> Sums {
        let stored = numbers(database, "orders");
        self.check_what_is_stored(database, &stored);
        let doubled = self.check_runs(&stored);
        self.check_attempts(database);
        Sums {
            acknowledged: self.acknowledged.len(),
            unknown: self.unknown.len(),
            unknown_stored: self.unknown.intersection(&stored).count(),
            refused: self.refused.len(),
            doubled,
            rescued: self.rescues.len(),
            failed: self.failures.len(),
        }
    }

    /// Nothing lost, all or nothing, and effects in this database exactly once.
    fn check_what_is_stored(&self, database: &Database, stored: &BTreeSet<i64>) {
        let lost: Vec<_> = self.acknowledged.difference(stored).collect();
        assert!(lost.is_empty(), "acknowledged and not stored: {lost:?}");
        let ghosts: Vec<_> = self.refused.intersection(stored).collect();
        assert!(ghosts.is_empty(), "refused and stored: {ghosts:?} {:?}", self.refusals);
        let parameters = database.texts(&format!("SELECT task_parameter AS value FROM consistency_task WHERE {OURS}"));
        let number = |text: &String| {
            text.chars().filter(char::is_ascii_digit).collect::<String>().parse::<i64>().expect("a number")
        };
        let with_tasks: BTreeSet<i64> = parameters.iter().map(number).collect();
        assert_eq!(with_tasks.len(), parameters.len(), "stored twice");
        assert!(
            &with_tasks == stored,
            "half stored: {:?}",
            with_tasks.symmetric_difference(stored).collect::<Vec<_>>()
        );
        let exact: BTreeSet<i64> = stored.iter().copied().filter(|&number| is_exact(number)).collect();
        assert!(numbers(database, "done") == exact, "an effect is missing, or there without its row");
        let unended = format!("(state <> 2 OR lease_owner IS NOT NULL) AND {OURS}");
        assert_eq!(database.count("consistency_task", &unended), 0);
    }

    /// Every stored one ran, nothing else did, and nothing twice without a reason. Returns how many were doubled.
    fn check_runs(&self, stored: &BTreeSet<i64>) -> usize {
        let ran: BTreeSet<i64> = self.runs.iter().map(|run| run.number).collect();
        let unrun: Vec<_> = stored.difference(&ran).collect();
        assert!(unrun.is_empty(), "succeeded without a run: {unrun:?}");
        let ghosts: Vec<_> = self.runs.iter().filter(|run| !stored.contains(&run.number)).collect();
        assert!(ghosts.is_empty(), "ran and are not stored: {ghosts:?}");
        let mut by_task: BTreeMap<i64, Vec<&Run>> = BTreeMap::new();
        self.runs.iter().for_each(|run| by_task.entry(run.number).or_default().push(run));
        for runs in by_task.values() {
            for pair in runs.windows(2) {
                let (first, second) = (pair[0], pair[1]);
                let done = self.succeeded.get(&first.task_id);
                assert!(done.is_none_or(|done| *done >= second.began), "begun after its success: {pair:?}");
                let caught = self.outages.iter().any(|(began, over)| first.began <= *over && second.began >= *began);
                // On a connection that was made in an outage a body may fail later, and is tried again.
                let failed = self.failures.iter().any(|failure| failure.task_id == first.task_id);
                assert!(caught || failed, "doubled without an outage: {pair:?}");
            }
        }
        self.runs.len() - by_task.len()
    }

    /// Trouble of the runtime's own with its connections costs no attempt: what is counted was begun, or lost its node.
    fn check_attempts(&self, database: &Database) {
        let mut begun: BTreeMap<i64, i64> = BTreeMap::new();
        self.runs.iter().for_each(|run| *begun.entry(run.id).or_default() += 1);
        for row in database.rows(&format!("execute_times > 1 AND {OURS}")) {
            // A rescue whose answer an outage has swallowed is told by nobody.
            let untold = 1;
            let told = self.rescues.get(&row.id).copied().unwrap_or_default();
            let most = begun.get(&row.id).copied().unwrap_or_default() + told + untold;
            assert!(row.execute_times <= most, "charged more than {most}: {row:?}");
        }
        // A body may fail by a statement of its own; COMMIT is not one.
        let is_own = |failure: &&Failure| failure.name.ends_with("exact") && !failure.error.contains("COMMIT");
        let blameless: Vec<_> = self.failures.iter().filter(|failure| !is_own(failure)).collect();
        assert!(blameless.is_empty(), "failed, and no body of theirs does: {blameless:?}");
    }
}

fn numbers(database: &Database, table: &str) -> BTreeSet<i64> {
    let texts = database.texts(&format!("SELECT CAST(number AS CHAR(20)) AS value FROM {table}"));
    texts.iter().map(|text| text.trim().parse().expect("a number")).collect()
}
