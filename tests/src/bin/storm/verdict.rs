//! The verdict on a storm: every committed order's tasks have run, none of another's, once but for the windows in which a
//! process was killed, each booking exactly once, and each ordering key in order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use consistency_core::state::State;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;

use crate::ledger::{Account, Micros, Run, Told};
use crate::number;
use crate::storm::Size;

/// How many broken promises of one kind are written out.
const SHOWN: usize = 5;

/// A process that was killed, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Killed {
    pub(crate) process: u32,
    pub(crate) at: Micros,
}

/// What a storm held.
#[derive(Debug)]
pub(crate) struct Verdict {
    database: Backend,
    /// Counts that must be zero, by name.
    broken: BTreeMap<&'static str, u64>,
    /// Counts for the report, by name.
    figures: BTreeMap<&'static str, u64>,
}

/// A row of the table, as far as the verdict needs it.
struct Task {
    order: Option<i64>,
    state: State,
    books: bool,
    key: Option<String>,
}

impl Verdict {
    /// Judges what is in the database and in the ledgers.
    pub(crate) fn of(database: &Database, accounts: Vec<Account>, killed: &[Killed]) -> Self {
        let mut verdict = Self { database: database.backend(), broken: BTreeMap::new(), figures: BTreeMap::new() };
        for name in ["lost", "ghosts", "doubled_outside", "stuck", "dead", "order_broken", "bookings_wrong"] {
            verdict.broken.insert(name, 0);
        }
        let killed: HashMap<u32, Micros> = killed.iter().map(|killed| (killed.process, killed.at)).collect();
        let tasks = tasks(database);
        let mut runs: HashMap<i64, Vec<Run>> = HashMap::new();
        for run in accounts.iter().flat_map(|account| &account.runs) {
            runs.entry(run.task).or_default().push(*run);
        }
        runs.values_mut().for_each(|runs| runs.sort_by_key(|run| run.began));
        verdict.check_orders(database, &accounts, &tasks);
        verdict.check_runs(&tasks, &runs, &killed);
        verdict.check_bookings(database, &tasks);
        verdict.check_keys(&tasks, &runs);
        verdict
    }

    fn breaks(&mut self, name: &'static str, text: impl FnOnce() -> String) {
        let count = self.broken.entry(name).or_default();
        *count += 1;
        if *count <= SHOWN as u64 {
            eprintln!("{name}: {}", text());
        }
    }

    fn counts(&mut self, name: &'static str) {
        *self.figures.entry(name).or_default() += 1;
    }

    fn check_orders(&mut self, database: &Database, accounts: &[Account], tasks: &BTreeMap<i64, Task>) {
        let orders = pairs(database, "number", "calls", "orders");
        let mut stored: HashMap<i64, i64> = HashMap::new();
        for (id, task) in tasks {
            match task.order.filter(|order| orders.contains_key(order)) {
                Some(order) => *stored.entry(order).or_default() += 1,
                None => self.breaks("ghosts", || format!("task {id} is stored without its order {:?}", task.order)),
            }
        }
        for (order, calls) in &orders {
            let found = stored.get(order).copied().unwrap_or_default();
            if found < *calls {
                self.breaks("lost", || format!("order {order} has {calls} calls, and {found} are stored"));
            } else if found > *calls {
                self.breaks("ghosts", || format!("order {order} has {calls} calls, and {found} are stored"));
            }
        }
        for (order, told) in accounts.iter().flat_map(|account| &account.told) {
            match (told, orders.contains_key(order)) {
                (Told::Committed, false) => self.breaks("lost", || format!("order {order} was told to be committed")),
                (Told::Failed, true) => self.breaks("ghosts", || format!("order {order} was told to have failed")),
                (Told::Committed, true) => self.counts("orders_committed"),
                (Told::Failed, false) => self.counts("orders_rolled_back"),
                (Told::Unknown, _) => self.counts("orders_unknown"),
            }
        }
        self.figures.insert("orders", orders.len() as u64);
        self.figures.insert("tasks", tasks.len() as u64);
    }

    fn check_runs(
        &mut self,
        tasks: &BTreeMap<i64, Task>,
        runs: &HashMap<i64, Vec<Run>>,
        killed: &HashMap<u32, Micros>,
    ) {
        for (id, task) in tasks {
            let runs = runs.get(id).map_or(&[][..], Vec::as_slice);
            match task.state {
                State::Succeeded if runs.iter().any(|run| run.ended.is_some() && !run.failed) => {}
                State::Succeeded => {
                    self.breaks("lost", || format!("task {id} succeeded without a run that ended well"))
                }
                State::Dead => self.breaks("dead", || format!("task {id} is dead after {} runs", runs.len())),
                state => self.breaks("stuck", || format!("task {id} is {state}")),
            }
            for pair in runs.windows(2) {
                if pair[0].failed && pair[0].ended.is_some_and(|ended| ended <= pair[1].began) {
                    self.counts("retries");
                } else if killed.get(&pair[0].process).is_some_and(|at| *at <= pair[1].began) {
                    // Its process died after the body had begun and before its outcome was committed.
                    let name = if task.books { "bookings_begun_again" } else { "doubled_in_windows" };
                    self.counts(name);
                } else {
                    self.breaks("doubled_outside", || format!("task {id} ran twice: {pair:?}"));
                }
            }
        }
        let total: usize = runs.values().map(Vec::len).sum();
        self.figures.insert("runs", total as u64);
        for id in runs.keys().filter(|id| !tasks.contains_key(id)) {
            self.breaks("ghosts", || format!("task {id} ran, and is not stored"));
        }
    }

    fn check_bookings(&mut self, database: &Database, tasks: &BTreeMap<i64, Task>) {
        let booked = pairs(database, "task", "COUNT(*)", "bookings GROUP BY task");
        for (id, task) in tasks.iter().filter(|(_, task)| task.books) {
            let times = booked.get(id).copied().unwrap_or_default();
            if times != i64::from(task.state == State::Succeeded) {
                self.breaks("bookings_wrong", || format!("task {id} is {} and has booked {times} times", task.state));
            }
            self.counts("bookings");
        }
        let books: HashSet<i64> = tasks.iter().filter(|(_, task)| task.books).map(|(id, _)| *id).collect();
        for id in booked.keys().filter(|id| !books.contains(id)) {
            self.breaks("ghosts", || format!("task {id} has booked, and is not stored as one that books"));
        }
    }

    /// The rows of one key by id, which is the order of their commits: each begins when the one before is over for good.
    fn check_keys(&mut self, tasks: &BTreeMap<i64, Task>, runs: &HashMap<i64, Vec<Run>>) {
        let mut last: HashMap<&str, i64> = HashMap::new();
        for (id, task) in tasks {
            let Some(key) = &task.key else { continue };
            self.counts("ordered");
            if let Some(before) = last.insert(key, *id) {
                let over = runs.get(&before).and_then(|runs| runs.last()).and_then(|run| run.ended);
                let begun = runs.get(id).and_then(|runs| runs.first()).map(|run| run.began);
                if let (Some(over), Some(begun)) = (over, begun)
                    && begun < over
                {
                    self.breaks("order_broken", || format!("{key}: task {id} began before task {before} was over"));
                }
            }
        }
    }

    /// Takes in what the storm was.
    pub(crate) fn note(&mut self, size: &Size, stormed: Duration, took: Duration, kills: usize, calm: bool) {
        let enough = kills >= size.kills && self.figures["tasks"] >= size.tasks;
        self.broken.insert("storm_too_small", u64::from(!enough));
        self.broken.insert("end_not_in_order", u64::from(!calm));
        self.figures.insert("kills", kills as u64);
        self.figures.insert("processes", size.processes as u64);
        self.figures.insert("storm_s", stormed.as_secs());
        self.figures.insert("total_s", took.as_secs());
        self.figures.insert("tasks_per_s", self.figures["tasks"] / stormed.as_secs().max(1));
        self.figures.insert("seed", size.seed);
    }

    /// Whether nothing was lost, doubled, stuck or out of order.
    pub(crate) fn is_good(&self) -> bool {
        self.broken.values().all(|count| *count == 0)
    }

    /// One line.
    pub(crate) fn json(&self) -> String {
        let mut all = serde_json::Map::new();
        all.insert("name".to_owned(), "storm".into());
        all.insert("database".to_owned(), self.database.key().into());
        all.insert("good".to_owned(), self.is_good().into());
        all.extend(self.broken.iter().chain(&self.figures).map(|(name, count)| ((*name).to_owned(), (*count).into())));
        serde_json::Value::Object(all).to_string()
    }
}

/// The rows of the table by id, which read less than all their columns.
fn tasks(database: &Database) -> BTreeMap<i64, Task> {
    let rows = database.texts(
        "SELECT CONCAT_WS('|', id, state, method_name, COALESCE(biz_id, ''), COALESCE(order_key, '')) AS value \
         FROM consistency_task",
    );
    let task = |row: String| {
        let words: Vec<&str> = row.splitn(5, '|').collect();
        let task = Task {
            order: words[3].parse().ok(),
            state: State::from_code(number(words[1])).expect("a code the CHECK constraint lets in"),
            books: words[2].starts_with("storm.book"),
            key: (!words[4].is_empty()).then(|| words[4].to_owned()),
        };
        (number(words[0]), task)
    };
    rows.into_iter().map(task).collect()
}

/// Two columns of whole numbers.
fn pairs(database: &Database, first: &str, second: &str, from: &str) -> HashMap<i64, i64> {
    let rows = database.texts(&format!("SELECT CONCAT_WS('|', {first}, {second}) AS value FROM {from}"));
    let pair = |row: String| row.split_once('|').map(|(first, second)| (number(first), number(second)));
    rows.into_iter().map(|row| pair(row).expect("two numbers")).collect()
}
