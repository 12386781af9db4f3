//! The rows this node holds: what the heartbeat renews, and what the watchdog watches.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::AbortHandle;
use parking_lot::Mutex;

use crate::context::{CancelReason, TaskContext};
use crate::lane::SlotHandle;
use crate::store::{ClaimedTask, LeaseId, Renewed};

/// A lease this node holds or held.
#[derive(Debug)]
pub struct Lease {
    confirmed: Mutex<Instant>,
    lost: AtomicBool,
    length: Duration,
}

impl Lease {
    /// A lease of `length`, last confirmed by a statement sent at `confirmed`.
    pub fn new(confirmed: Instant, length: Duration) -> Arc<Self> {
        Arc::new(Self { confirmed: Mutex::new(confirmed), lost: AtomicBool::new(false), length })
    }

    /// Whether a body may still be started under it: not lost, and not older than half its length.
    ///
    /// The monotonic clock goes on while the process is stopped, so a node that wakes after its lease starts nothing.
    pub fn is_fresh(&self) -> bool {
        !self.lost.load(Ordering::Acquire) && self.confirmed.lock().elapsed() < self.length / 2
    }

    fn confirm(&self, at: Instant) {
        let mut confirmed = self.confirmed.lock();
        *confirmed = at.max(*confirmed);
    }
}

/// Decides who settles an attempt: its body's end, or the watchdog at the time limit. The first one wins.
#[derive(Debug, Default)]
pub struct Gate(AtomicBool);

impl Gate {
    /// Whether the caller is the first, and so settles.
    pub fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Whether somebody has settled it.
    pub fn is_taken(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What a time limit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its transaction is waited for; the body has not begun.
    Opening,
    /// The body.
    Body,
    /// The body has ended; its transaction is being completed, or undone.
    Closing,
}

/// A body under way.
#[derive(Debug, Clone)]
pub struct RunningAttempt {
    /// How far it is.
    pub stage: Stage,
    /// The claimed row.
    pub task: Arc<ClaimedTask>,
    /// What the body sees.
    pub context: TaskContext,
    /// When it began.
    pub begun: Instant,
    /// Its time limit.
    pub limit: Duration,
    /// Who settles it.
    pub gate: Arc<Gate>,
    /// Stops an `async` body at its next await; `None` for blocking ones.
    pub abort: Option<AbortHandle>,
    /// Its slot, where it has one, to be given up should a blocking body go on past its limit.
    pub slot: Option<SlotHandle>,
}

#[derive(Debug)]
struct Entry {
    lease: Arc<Lease>,
    running: Option<RunningAttempt>,
}

/// The rows this node holds, from the claim or the insert until the settlement is written.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<HashMap<LeaseId, Entry>>,
}

impl Ledger {
    /// Notes a row taken over.
    pub fn hold(&self, id: LeaseId, lease: Arc<Lease>) {
        self.entries.lock().insert(id, Entry { lease, running: None });
    }

    /// Notes that its body begins; returns the earliest moment the watchdog must look at it.
    pub fn begin(&self, id: LeaseId, running: RunningAttempt) -> Instant {
        let deadline = running.begun + running.limit;
        if let Some(entry) = self.entries.lock().get_mut(&id) {
            entry.running = Some(running);
        }
        deadline
    }

    /// Notes that its body has ended or is given up; the lease is still renewed until the settlement is written.
    pub fn end(&self, id: LeaseId) {
        if let Some(entry) = self.entries.lock().get_mut(&id) {
            entry.running = None;
        }
    }

    /// Forgets rows that are settled or lost.
    pub fn forget(&self, ids: impl IntoIterator<Item = LeaseId>) {
        let mut entries = self.entries.lock();
        for id in ids {
            entries.remove(&id);
        }
    }

    /// Every lease to renew.
    pub fn leases(&self) -> Vec<LeaseId> {
        let entries = self.entries.lock();
        entries.iter().filter(|(_, entry)| !entry.lease.lost.load(Ordering::Acquire)).map(|(id, _)| *id).collect()
    }

    /// The primary keys of every row held, also of those whose lease is lost.
    pub fn ids(&self) -> Vec<i64> {
        self.entries.lock().keys().map(|id| id.id).collect()
    }

    /// Takes the answer to a renewal sent at `sent`: what is answered is ours, the rest of `asked` is lost.
    pub fn renewed(&self, asked: &[LeaseId], answered: &[Renewed], sent: Instant) {
        let answered: HashMap<i64, &Renewed> = answered.iter().map(|row| (row.id, row)).collect();
        let entries = self.entries.lock();
        for id in asked {
            let Some(entry) = entries.get(id) else { continue };
            match answered.get(&id.id) {
                Some(renewed) => {
                    if renewed.extended {
                        entry.lease.confirm(sent);
                    }
                    if let (true, Some(running)) = (renewed.cancel_requested, &entry.running) {
                        running.context.cancel(CancelReason::Requested);
                    }
                }
                None => {
                    entry.lease.lost.store(true, Ordering::Release);
                    if let Some(running) = &entry.running {
                        running.context.cancel(CancelReason::LeaseLost);
                    }
                }
            }
        }
    }

    /// The bodies under way.
    pub fn running(&self) -> Vec<RunningAttempt> {
        self.entries.lock().values().filter_map(|entry| entry.running.clone()).collect()
    }

    /// Whether no row is held.
    pub fn is_empty(&self) -> bool {
        self.entries.lock().is_empty()
    }

    /// The bodies past their limit at `now`, and the next limit after it.
    pub fn overdue(&self, now: Instant) -> (Vec<RunningAttempt>, Option<Instant>) {
        let entries = self.entries.lock();
        let mut overdue = Vec::new();
        let mut next: Option<Instant> = None;
        for running in entries.values().filter_map(|entry| entry.running.as_ref()) {
            let deadline = running.begun + running.limit;
            if deadline <= now {
                overdue.push(running.clone());
            } else {
                next = Some(next.map_or(deadline, |earliest| earliest.min(deadline)));
            }
        }
        (overdue, next)
    }
}
