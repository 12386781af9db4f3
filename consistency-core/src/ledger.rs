//! The rows this node holds: what the heartbeat renews, and what the watchdog watches.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::AbortHandle;
use parking_lot::Mutex;

use crate::clock::Moment;
use crate::context::{CancelReason, TaskContext};
use crate::lane::SlotHandle;
use crate::settler::Done;
use crate::store::{ClaimedTask, LeaseId, Renewed};

/// A lease this node holds or held.
#[derive(Debug)]
pub struct Lease {
    confirmed: Mutex<Moment>,
    lost: AtomicBool,
    length: Duration,
}

impl Lease {
    /// A lease of `length`, last confirmed by a statement sent at `confirmed`.
    pub(crate) fn new(confirmed: Moment, length: Duration) -> Arc<Self> {
        Arc::new(Self { confirmed: Mutex::new(confirmed), lost: AtomicBool::new(false), length })
    }

    /// Whether a body may still be started under it: not lost, and not older than half its length.
    ///
    /// Both clocks have to say so: the monotonic one may stand still while the machine is suspended, and the other one may be
    /// set back. A node that wakes after its lease so starts nothing, whether its process or its machine was stopped.
    pub fn is_fresh(&self) -> bool {
        !self.is_lost() && self.age(Moment::now()) < self.length / 2
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    fn age(&self, now: Moment) -> Duration {
        self.confirmed.lock().until(now)
    }

    fn confirm(&self, at: Moment) {
        let mut confirmed = self.confirmed.lock();
        *confirmed = confirmed.later(at);
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
    /// Told of its end, where a caller waits for it.
    pub(crate) done: Option<Arc<Done>>,
}

#[derive(Debug)]
struct Entry {
    lease: Arc<Lease>,
    running: Option<RunningAttempt>,
}

impl Entry {
    /// Notes that the row is no longer this node's, and tells its body.
    fn lose(&self) {
        self.lease.lost.store(true, Ordering::Release);
        if let Some(running) = &self.running {
            running.context.cancel(CancelReason::LeaseLost);
        }
    }
}

/// The rows this node holds, from the claim or the insert until the settlement is written.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<BTreeMap<LeaseId, Entry>>,
}

impl Ledger {
    /// Notes a row taken over. Who holds it under another version has lost it: it was taken back meanwhile.
    pub fn hold(&self, id: LeaseId, lease: Arc<Lease>) {
        let mut entries = self.entries.lock();
        let version = |version| LeaseId { id: id.id, version };
        entries.range(version(i64::MIN)..=version(i64::MAX)).for_each(|(_, earlier)| earlier.lose());
        entries.insert(id, Entry { lease, running: None });
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

    /// Every lease to renew: one per row.
    pub fn leases(&self) -> Vec<LeaseId> {
        let entries = self.entries.lock();
        entries.iter().filter(|(_, entry)| !entry.lease.is_lost()).map(|(id, _)| *id).collect()
    }

    /// Whether a lease to renew was confirmed longer ago than `age`.
    pub(crate) fn any_older_than(&self, age: Duration) -> bool {
        let now = Moment::now();
        let entries = self.entries.lock();
        entries.values().any(|entry| !entry.lease.is_lost() && entry.lease.age(now) > age)
    }

    /// The primary keys of every row held, also of those whose lease is lost.
    pub fn ids(&self) -> Vec<i64> {
        self.entries.lock().keys().map(|id| id.id).collect()
    }

    /// Takes the answer to a renewal sent at `sent`: what is answered is ours, the rest of `asked` is lost.
    pub(crate) fn renewed(&self, asked: &[LeaseId], answered: &[Renewed], sent: Moment) {
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
                None => entry.lose(),
            }
        }
    }

    /// The bodies under way.
    pub fn running(&self) -> Vec<RunningAttempt> {
        self.entries.lock().values().filter_map(|entry| entry.running.clone()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(10);

    fn answer(id: i64) -> Renewed {
        Renewed { id, cancel_requested: false, extended: true }
    }

    #[test]
    fn a_lease_is_old_by_either_clock_unless_the_other_was_set_back() {
        let sent = Moment::now();
        let after = |monotonic, wall| sent.until(sent.after(Duration::from_secs(monotonic), wall));
        assert_eq!(after(3, 3), Duration::from_secs(3));
        assert_eq!(after(0, 3600), Duration::from_secs(3600), "the machine was suspended");
        assert_eq!(after(3600, 3600), Duration::from_secs(3600), "the process was stopped");
        assert_eq!(after(3, -3600), Duration::from_secs(3), "the clock was set back");
        let lease = Lease::new(sent, LENGTH);
        lease.confirm(sent.after(Duration::from_secs(2), -3600));
        assert_eq!(lease.age(sent.after(Duration::from_secs(3), -3599)), Duration::from_secs(1));
    }

    #[test]
    fn of_two_leases_of_one_row_only_the_later_one_lives() {
        let ledger = Ledger::default();
        let lease = |version| LeaseId { id: 7, version };
        let (old, new) = (Lease::new(Moment::now(), LENGTH), Lease::new(Moment::now(), LENGTH));
        ledger.hold(lease(i64::MAX), Arc::clone(&old));
        // Asked before the row was taken back elsewhere and claimed here again; the version may begin at 0 anew.
        let asked = ledger.leases();
        ledger.hold(lease(0), Arc::clone(&new));
        assert_eq!(ledger.leases(), [lease(0)]);
        ledger.renewed(&asked, &[answer(7)], Moment::now());
        assert!(!old.is_fresh(), "what is answered of the row is no answer for a lease that is over");
        assert!(new.is_fresh());
        ledger.renewed(&[lease(0)], &[], Moment::now());
        assert!(!new.is_fresh());
    }
}
