//! The verdict on a storm: every committed order's tasks have run, none of another's, once but for the windows in which a
//! process was killed, each booking exactly once, and each ordering key in order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use consistency_core::state::State;
use consistency_tests::backend::Backend;

use crate::found::{Found, Task};
use crate::ledger::{Account, Micros, Run, Told};
use crate::storm::Size;

/// How many broken promises of one kind are written out.
const SHOWN: usize = 5;
/// How long after its end a run's outcome may wait to be written. Who dies later than that must have written it: half a lease,
/// the machine is busy.
const WRITTEN_WITHIN: Micros = 5_000_000;

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

/// What the processes wrote down, put together.
struct Heard {
    /// By task, in the order of their begin.
    runs: HashMap<i64, Vec<Run>>,
    /// When each task's success was first told, which is after it was committed.
    succeeded: HashMap<i64, Micros>,
    killed: HashMap<u32, Micros>,
}

impl Heard {
    fn new(accounts: &[Account], killed: &[Killed]) -> Self {
        let mut heard = Self {
            runs: HashMap::new(),
            succeeded: HashMap::new(),
            killed: killed.iter().map(|killed| (killed.process, killed.at)).collect(),
        };
        for account in accounts {
            for run in &account.runs {
                heard.runs.entry(run.task).or_default().push(*run);
            }
            for (task, at) in &account.succeeded {
                let first = heard.succeeded.entry(*task).or_insert(*at);
                *first = (*first).min(*at);
            }
        }
        heard.runs.values_mut().for_each(|runs| runs.sort_by_key(|run| run.began));
        heard
    }

    fn runs(&self, task: i64) -> &[Run] {
        self.runs.get(&task).map_or(&[], Vec::as_slice)
    }

    /// When a run was over: at its end, or with its process.
    fn over(&self, run: &Run) -> Option<Micros> {
        run.ended.or_else(|| self.killed.get(&run.process).copied())
    }

    /// Whether the process of a run died in it, or before its outcome can have been written, and before `next` began.
    fn was_cut_off(&self, run: &Run, next: &Run) -> bool {
        let written = run.ended.map(|ended| ended + WRITTEN_WITHIN);
        let killed = self.killed.get(&run.process);
        killed.is_some_and(|killed| *killed <= next.began && written.is_none_or(|written| *killed <= written))
    }
}

impl Verdict {
    /// Judges what was found in the database and in the ledgers.
    pub(crate) fn of(database: Backend, found: &Found, accounts: &[Account], killed: &[Killed]) -> Self {
        let mut verdict = Self { database, broken: BTreeMap::new(), figures: BTreeMap::new() };
        for name in ["lost", "ghosts", "doubled_outside", "stuck", "dead", "order_broken", "bookings_wrong"] {
            verdict.broken.insert(name, 0);
        }
        let heard = Heard::new(accounts, killed);
        verdict.check_orders(found, accounts);
        verdict.check_runs(&found.tasks, &heard);
        verdict.check_bookings(found);
        verdict.check_keys(&found.tasks, &heard);
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

    fn check_orders(&mut self, found: &Found, accounts: &[Account]) {
        let Found { orders, tasks, .. } = found;
        let mut stored: HashMap<i64, i64> = HashMap::new();
        for (id, task) in tasks {
            match task.order.filter(|order| orders.contains_key(order)) {
                Some(order) => *stored.entry(order).or_default() += 1,
                None => self.breaks("ghosts", || format!("task {id} is stored without its order {:?}", task.order)),
            }
        }
        for (order, calls) in orders {
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

    fn check_runs(&mut self, tasks: &BTreeMap<i64, Task>, heard: &Heard) {
        for (id, task) in tasks {
            let runs = heard.runs(*id);
            match task.state {
                State::Succeeded if runs.iter().any(|run| run.ended.is_some() && !run.failed) => {}
                State::Succeeded => {
                    self.breaks("lost", || format!("task {id} succeeded without a run that ended well"))
                }
                State::Dead => self.breaks("dead", || format!("task {id} is dead after {} runs", runs.len())),
                state => self.breaks("stuck", || format!("task {id} is {state}")),
            }
            let succeeded = heard.succeeded.get(id);
            for pair in runs.windows(2) {
                if succeeded.is_some_and(|at| *at < pair[1].began) {
                    self.breaks("doubled_outside", || format!("task {id} ran after its success: {pair:?}"));
                } else if pair[0].failed && pair[0].ended.is_some_and(|ended| ended <= pair[1].began) {
                    self.counts("retries");
                } else if heard.was_cut_off(&pair[0], &pair[1]) {
                    let name = if task.books { "bookings_begun_again" } else { "doubled_in_windows" };
                    self.counts(name);
                } else {
                    self.breaks("doubled_outside", || format!("task {id} ran twice: {pair:?}"));
                }
            }
        }
        let total: usize = heard.runs.values().map(Vec::len).sum();
        self.figures.insert("runs", total as u64);
        for id in heard.runs.keys().filter(|id| !tasks.contains_key(id)) {
            self.breaks("ghosts", || format!("task {id} ran, and is not stored"));
        }
    }

    fn check_bookings(&mut self, found: &Found) {
        let Found { tasks, bookings: booked, .. } = found;
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
    fn check_keys(&mut self, tasks: &BTreeMap<i64, Task>, heard: &Heard) {
        let mut last: HashMap<&str, i64> = HashMap::new();
        for (id, task) in tasks {
            let Some(key) = &task.key else { continue };
            self.counts("ordered");
            if let Some(before) = last.insert(key, *id) {
                let over = heard.runs(before).iter().filter_map(|run| heard.over(run)).max();
                let begun = heard.runs(*id).first().map(|run| run.began);
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

#[cfg(test)]
mod tests;
