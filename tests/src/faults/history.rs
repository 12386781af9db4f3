//! Everything a checker reads, as plain data: what was committed, stored, run and booked, and what the producers were told.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use consistency_core::state::State;

/// A moment by the database's clock, in microseconds since 1970.
pub type Micros = i64;

/// What a test left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// When it was read.
    pub taken: Micros,
    /// The business rows that are committed.
    pub orders: Vec<Order>,
    /// The rows of `consistency_task`, by id.
    pub tasks: Vec<Stored>,
    /// The runs of bodies, by their begin.
    pub runs: Vec<Run>,
    /// The primary keys of the tasks that have booked, one for each booking.
    pub bookings: Vec<i64>,
    /// What the producers were told, by order. No entry: they died before they heard, or nobody asked.
    pub told: BTreeMap<i64, Told>,
}

/// A committed business row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Its number.
    pub number: i64,
    /// How many tasks were enqueued with it.
    pub calls: i64,
}

/// A row of `consistency_task`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its primary key.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The order it was committed with.
    pub order: Option<i64>,
    /// Whether it takes `#[tx]` and books.
    pub books: bool,
    /// Its state.
    pub state: State,
    /// Attempts charged.
    pub attempts: i64,
    /// Attempts allowed.
    pub max_attempts: Option<i64>,
    /// Leases lost in a row.
    pub lost_times: i64,
    /// Its version.
    pub version: i64,
    /// Its ordering key.
    pub order_key: Option<String>,
    /// When it was last changed.
    pub changed: Micros,
    /// When it is due.
    pub due: Micros,
    /// The end of its lease, while it is leased.
    pub leased_until: Option<Micros>,
}

/// One run of a body, as it wrote it down itself on a connection of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The task's primary key.
    pub task: i64,
    /// The number of the attempt.
    pub attempt: i64,
    /// The row's version at its begin; `None` when the row was not held by its node then.
    pub version: Option<i64>,
    /// Its node.
    pub node: String,
    /// Its begin.
    pub started: Micros,
    /// The end of its lease, as far as the run saw it renewed.
    pub leased_until: Option<Micros>,
    /// Its end; `None` when its process died in the middle, or it is still under way.
    pub ended: Option<Micros>,
    /// Whether it ended with an error or a panic.
    pub failed: bool,
}

/// What a producer was told about its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It is committed.
    Committed,
    /// It is not.
    Failed,
    /// Nobody knows.
    Unknown,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Told::Committed => "committed",
            Told::Failed => "failed",
            Told::Unknown => "unknown",
        })
    }
}

impl FromStr for Told {
    type Err = String;

    fn from_str(text: &str) -> Result<Told, String> {
        let all = [Told::Committed, Told::Failed, Told::Unknown];
        all.into_iter().find(|told| told.to_string() == text).ok_or(format!("nobody is told `{text}`"))
    }
}

impl History {
    /// The runs of one task, by their begin.
    pub fn runs_of(&self, task: i64) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.task == task)
    }

    /// How many runs followed one of the same task that had not failed: what an effect outside this database sees twice.
    pub fn duplicates(&self) -> usize {
        let repeated = |task: &Stored| {
            let runs: Vec<&Run> = self.runs_of(task.id).collect();
            runs.windows(2).filter(|pair| !pair[0].failed).count()
        };
        self.tasks.iter().map(repeated).sum()
    }

    /// Notes what a process of `fault_node` printed about its orders: lines `told NUMBER WORD`.
    ///
    /// # Panics
    /// On such a line that is no such line.
    pub fn hear(&mut self, lines: &[String]) {
        for line in lines {
            let Some(said) = line.strip_prefix("told ") else { continue };
            let (number, told) = said.split_once(' ').unwrap_or_else(|| panic!("`{line}`"));
            let number = number.parse().unwrap_or_else(|_| panic!("`{line}`"));
            self.told.insert(number, told.parse().unwrap_or_else(|error| panic!("`{line}`: {error}")));
        }
    }
}
