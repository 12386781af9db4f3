//! What a committing transaction asks of the runtime: slots for its rows before the flush, the hand-off after the commit.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::enqueue::EnqueueRules;
use crate::lane::Slot;
use crate::new_task::NewTask;
use crate::store::ClaimedTask;

/// The runtime as a transaction sees it.
pub trait HandOff: Send + Sync {
    /// The node that leases rows.
    fn node(&self) -> &str;

    /// How long they are leased.
    fn lease(&self) -> Duration;

    /// What calls are checked against.
    fn rules(&self) -> &Arc<EnqueueRules>;

    /// Marks as leased those of `rows` that can start at once, and holds their slots. Call it right before the insert.
    fn reserve(&self, rows: &mut [NewTask]) -> Reservation;

    /// Starts the committed rows of a reservation. Rows for the caller's thread are given back, to be run by the caller.
    fn hand_off(&self, reservation: Reservation, rows: Vec<ClaimedTask>) -> Vec<CallerRun>;

    /// Takes the rows of a reservation whose COMMIT nobody saw end. Those that turn out to be there are started as soon as that is
    /// known, on workers.
    fn perhaps_committed(&self, reservation: Reservation, rows: Vec<ClaimedTask>);

    /// Says that pending rows were committed.
    fn wake(&self);
}

/// Tells other processes that pending rows were committed; called after each such commit, so it must be quick.
pub type Announce = Arc<dyn Fn() + Send + Sync>;

/// Slots held for rows about to be inserted; given back when dropped, so a rollback costs nothing.
#[derive(Debug)]
pub struct Reservation {
    pub(crate) taken: Moment,
    pub(crate) slots: Vec<Slot>,
}

impl Reservation {
    /// No slot.
    pub fn none() -> Self {
        Self { taken: Moment::now(), slots: Vec::new() }
    }
}

/// A committed row that runs on the caller's thread.
#[derive(Debug)]
pub struct CallerRun {
    /// The row.
    pub task: ClaimedTask,
    /// Its lease.
    pub lease: Arc<crate::ledger::Lease>,
}

/// A runtime that never starts anything: for processes that only enqueue, and after a shutdown.
pub struct EnqueueOnly {
    rules: Arc<EnqueueRules>,
    announce: Option<Announce>,
}

impl EnqueueOnly {
    /// Stores calls checked against `rules`, and tells others with `announce`.
    pub fn new(rules: Arc<EnqueueRules>, announce: Option<Announce>) -> Self {
        Self { rules, announce }
    }
}

impl std::fmt::Debug for EnqueueOnly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnqueueOnly").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl HandOff for EnqueueOnly {
    fn node(&self) -> &str {
        ""
    }

    fn lease(&self) -> Duration {
        Duration::ZERO
    }

    fn rules(&self) -> &Arc<EnqueueRules> {
        &self.rules
    }

    fn reserve(&self, _rows: &mut [NewTask]) -> Reservation {
        Reservation::none()
    }

    fn hand_off(&self, _reservation: Reservation, _rows: Vec<ClaimedTask>) -> Vec<CallerRun> {
        Vec::new()
    }

    fn perhaps_committed(&self, _reservation: Reservation, _rows: Vec<ClaimedTask>) {}

    fn wake(&self) {
        if let Some(announce) = &self.announce {
            announce();
        }
    }
}
