//! What a process of the program `fault_node` is to be and to suffer: plain data, handed over as one JSON argument.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::faults::plan::Fault;

/// What the process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// It only stores.
    Producer,
    /// It only runs.
    Node,
    /// Both.
    Both,
}

/// Which connections its producer uses, and so which of the two forms its tasks have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum World {
    /// Diesel's own; functions that block.
    Sync,
    /// Those of diesel-async; `async` functions.
    Async,
}

/// The kinds of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Immediate, on a worker.
    Worker,
    /// Immediate, on the caller.
    Caller,
    /// Scheduled, due at once, on a worker.
    Scheduled,
    /// Immediate, on a worker, with `#[tx]`: it writes a booking.
    Tx,
    /// The same on the caller, so in a transaction on the caller's own connection.
    TxCaller,
    /// Immediate, on a worker, with two attempts in all.
    Limited,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Mode; 6] = [Mode::Worker, Mode::Caller, Mode::Scheduled, Mode::Tx, Mode::TxCaller, Mode::Limited];

    /// Whether its tasks take `#[tx]`, so that each books exactly once.
    pub fn books(self) -> bool {
        matches!(self, Mode::Tx | Mode::TxCaller)
    }

    /// Whether its tasks are handed over at the commit, without a claim.
    pub fn is_immediate(self) -> bool {
        self != Mode::Scheduled
    }

    /// Whether its tasks run on whoever commits them.
    pub fn runs_on_caller(self) -> bool {
        matches!(self, Mode::Caller | Mode::TxCaller)
    }
}

/// What a process of `fault_node` is and does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setup {
    /// What it does.
    pub role: Role,
    /// Its producer's connections, and the form of its tasks.
    pub world: World,
    /// The tasks its producer stores. It runs those of every mode.
    pub mode: Mode,
    /// The orders its producer commits, one after the other: their numbers.
    pub orders: std::ops::Range<i64>,
    /// How many tasks it commits together with each order.
    pub calls: usize,
    /// The ordering key of those tasks, if they have one.
    pub ordered_by: Option<String>,
    /// Bodies at a time.
    pub slots: usize,
    /// How long a row stays leased to it.
    pub lease: Duration,
    /// How long each of its bodies takes, beside what the plan does to it.
    pub stay: Duration,
    /// Whether first attempts fail here.
    pub fail_first: bool,
    /// Sessions on the server that are not its own, so not to be ended.
    pub spared: Vec<i64>,
    /// What goes wrong.
    pub plan: Vec<Fault>,
}

impl Default for Setup {
    /// A process that both stores and runs three tasks, on workers, in the sync world, and suffers nothing.
    fn default() -> Self {
        Self {
            role: Role::Both,
            world: World::Sync,
            mode: Mode::Worker,
            orders: 1..4,
            calls: 1,
            ordered_by: None,
            slots: 4,
            lease: Duration::from_secs(10),
            stay: Duration::ZERO,
            fail_first: false,
            spared: Vec::new(),
            plan: Vec::new(),
        }
    }
}
