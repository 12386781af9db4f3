//! One queue's slots and its local line: how many attempts run at a time, and what is claimed ahead to be next. What waits
//! there too long, behind bodies that keep their slots, is given up for others to run.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::ledger::Lease;
use crate::signal::Signal;
use crate::store::ClaimedTask;

/// A row held by this node, about to be run.
#[derive(Debug)]
pub struct Held {
    /// The row.
    pub task: ClaimedTask,
    /// Its lease.
    pub lease: Arc<Lease>,
}

/// How much work is claimed ahead of free slots: what the slots do in this time, by the mean run time of the last bodies. Where
/// those were long nothing is claimed ahead; where those to come are, what was is put back ([`Lane::give_up_waiting`]).
const CLAIM_AHEAD: Duration = Duration::from_millis(20);

/// The slots of one queue.
#[derive(Debug)]
pub struct Lane {
    queue: String,
    slots: usize,
    claim_batch: usize,
    state: Mutex<State>,
    waiting_changed: Condvar,
    mean_run_ns: AtomicU64,
    dispatcher: Arc<Signal>,
    abandoned: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct State {
    free: usize,
    waiting: VecDeque<Waiting>,
    /// The table holds more than fits here: no hand-off overtakes it, and a freed slot wakes the dispatcher.
    backlog: bool,
    closed: bool,
}

/// A row in the line.
#[derive(Debug)]
struct Waiting {
    held: Held,
    since: Instant,
}

impl State {
    fn take_next(&mut self) -> Option<Held> {
        self.waiting.pop_front().map(|waiting| waiting.held)
    }
}

impl Lane {
    /// A lane of `slots`; `dispatcher` is woken when it has room again, `abandoned` counts threads given up.
    pub(crate) fn new(
        queue: String,
        slots: usize,
        claim_batch: usize,
        dispatcher: Arc<Signal>,
        abandoned: Arc<AtomicUsize>,
    ) -> Arc<Self> {
        let state = State { free: slots, waiting: VecDeque::new(), backlog: false, closed: false };
        Arc::new(Self {
            queue,
            slots,
            claim_batch,
            state: Mutex::new(state),
            waiting_changed: Condvar::new(),
            mean_run_ns: AtomicU64::new(0),
            dispatcher,
            abandoned,
        })
    }

    /// The queue's name.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Takes a slot for a row about to be inserted already leased; `None` when it could not start at once.
    pub fn reserve(self: &Arc<Self>) -> Option<Slot> {
        let mut state = self.state.lock();
        if state.closed || state.backlog || state.free == 0 || !state.waiting.is_empty() {
            return None;
        }
        state.free -= 1;
        Some(self.slot())
    }

    /// How many rows to claim now: free slots and the short line, less what waits already.
    pub fn room(&self) -> usize {
        let state = self.state.lock();
        if state.closed {
            return 0;
        }
        let ahead = self.claim_ahead();
        let room = (state.free + ahead).saturating_sub(state.waiting.len());
        // Half-empty first: small claims cost as much as large ones.
        if state.free == 0 && state.waiting.len() * 2 > ahead { 0 } else { room.min(self.claim_batch) }
    }

    fn claim_ahead(&self) -> usize {
        let mean_ns = self.mean_run_ns.load(Ordering::Relaxed);
        if mean_ns == 0 {
            return 0;
        }
        let ahead = self.slots as u128 * CLAIM_AHEAD.as_nanos() / u128::from(mean_ns);
        usize::try_from(ahead).unwrap_or(usize::MAX).min(2 * self.claim_batch)
    }

    /// Notes whether the last claim left rows behind.
    pub fn set_backlog(&self, backlog: bool) {
        self.state.lock().backlog = backlog;
    }

    /// Puts a row into the line.
    pub fn offer(&self, held: Held) {
        self.state.lock().waiting.push_back(Waiting { held, since: Instant::now() });
        self.waiting_changed.notify_one();
    }

    /// The next waiting row, with a free slot to run it in.
    pub fn next_with_slot(self: &Arc<Self>) -> Option<(Held, Slot)> {
        let mut state = self.state.lock();
        if state.free == 0 {
            return None;
        }
        let held = state.take_next()?;
        state.free -= 1;
        Some((held, self.slot()))
    }

    /// Waits for the next row and a slot; `None` once the lane is closed.
    pub fn wait_for_next(self: &Arc<Self>) -> Option<(Held, Slot)> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            if state.free > 0
                && let Some(held) = state.take_next()
            {
                state.free -= 1;
                return Some((held, self.slot()));
            }
            self.waiting_changed.wait(&mut state);
        }
    }

    /// Empties the line once its first row has waited for `patience`: the bodies in the slots run for longer than the last ones
    /// did, and another node may have room. Nothing is claimed ahead again until bodies that have ended say that they are short.
    pub fn give_up_waiting(&self, patience: Duration) -> Vec<Held> {
        let mut state = self.state.lock();
        if state.waiting.front().is_none_or(|first| first.since.elapsed() < patience) {
            return Vec::new();
        }
        let none_ahead = CLAIM_AHEAD.as_nanos() * (self.slots as u128 + 1);
        let mean = u64::try_from(none_ahead.max(patience.as_nanos())).unwrap_or(u64::MAX);
        self.mean_run_ns.fetch_max(mean, Ordering::Relaxed);
        // A freed slot shall wake the dispatcher.
        state.backlog = true;
        state.waiting.drain(..).map(|waiting| waiting.held).collect()
    }

    /// Closes the lane: nothing is reserved or claimed any more. Returns what waited.
    pub fn close(&self) -> Vec<Held> {
        let mut state = self.state.lock();
        state.closed = true;
        self.waiting_changed.notify_all();
        state.waiting.drain(..).map(|waiting| waiting.held).collect()
    }

    /// Takes a body's run time into the running mean.
    pub fn ran(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let mean = self.mean_run_ns.load(Ordering::Relaxed);
        let next = if mean == 0 { took } else { mean - mean / 8 + took / 8 };
        self.mean_run_ns.store(next.max(1), Ordering::Relaxed);
    }

    fn slot(self: &Arc<Self>) -> Slot {
        Slot { lane: Arc::clone(self), standing: Arc::default() }
    }

    fn give_back(&self) {
        let wake = {
            let mut state = self.state.lock();
            state.free += 1;
            state.backlog || !state.waiting.is_empty()
        };
        self.waiting_changed.notify_one();
        if wake {
            self.dispatcher.raise();
        }
    }
}

/// The right to run one attempt at a time; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    lane: Arc<Lane>,
    /// The number of the attempt it is at, or what has become of it.
    standing: Arc<AtomicU64>,
}

impl Slot {
    /// The lane it belongs to.
    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    /// What the watchdog needs to give the slot up for the attempt it is at.
    pub fn handle(&self) -> SlotHandle {
        let attempt = self.standing.load(Ordering::Acquire);
        SlotHandle { lane: Arc::clone(&self.lane), standing: Arc::clone(&self.standing), attempt }
    }

    /// The next waiting row, to be run in this same slot: the attempt in it has ended, and cannot be given up any more.
    pub fn next(&self) -> Option<Held> {
        let to_next = |attempt| (attempt != ABANDONED).then(|| attempt + 1);
        if self.standing.fetch_update(Ordering::AcqRel, Ordering::Acquire, to_next).is_err() {
            return None;
        }
        let mut state = self.lane.state.lock();
        let next = state.take_next();
        let low = state.backlog && state.waiting.len() * 2 <= self.lane.claim_ahead();
        drop(state);
        if low {
            self.lane.dispatcher.raise();
        }
        next
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.standing.swap(GIVEN_BACK, Ordering::AcqRel) == ABANDONED {
            self.lane.abandoned.fetch_sub(1, Ordering::AcqRel);
        } else {
            self.lane.give_back();
        }
    }
}

/// The slot was given back although its body goes on; the body's end gives nothing back.
const ABANDONED: u64 = u64::MAX;
/// The last body has ended and given its slot back.
const GIVEN_BACK: u64 = u64::MAX - 1;

/// The watchdog's hold on a slot during one attempt.
#[derive(Debug, Clone)]
pub struct SlotHandle {
    lane: Arc<Lane>,
    standing: Arc<AtomicU64>,
    attempt: u64,
}

impl SlotHandle {
    /// Gives the slot of a body back that goes on past its time limit; `false` when `most` such threads exist already, and
    /// the body keeps its slot.
    pub fn abandon(&self, most: usize) -> bool {
        let count = &self.lane.abandoned;
        if count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < most).then_some(n + 1)).is_err() {
            return false;
        }
        // The body may have ended meanwhile; then its own end has given the slot back, or the next one runs in it.
        if self.standing.compare_exchange(self.attempt, ABANDONED, Ordering::AcqRel, Ordering::Acquire).is_err() {
            count.fetch_sub(1, Ordering::AcqRel);
            return false;
        }
        self.lane.give_back();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use crate::store::LeaseId;

    const MOST_ABANDONED: usize = 16;

    fn lane(slots: usize) -> (Arc<Lane>, Arc<AtomicUsize>) {
        let abandoned = Arc::new(AtomicUsize::new(0));
        (Lane::new("default".to_owned(), slots, 1000, Arc::default(), Arc::clone(&abandoned)), abandoned)
    }

    fn held(id: i64) -> Held {
        let task = ClaimedTask {
            lease: LeaseId { id, version: 1 },
            task_id: id.to_string(),
            method_name: "task".to_owned(),
            task_parameter: "{}".to_owned(),
            execute_times: 1,
            lost_times: 0,
            charged: true,
            execute_interval_second: 0,
            max_execute_times: None,
            when_dead: None,
            meta: None,
            queue: "default".to_owned(),
            failed_before: false,
            cancel_requested: false,
            unreadable: None,
        };
        Held { task, lease: Lease::new(Moment::now(), Duration::from_secs(10)) }
    }

    #[test]
    fn a_slot_that_already_runs_the_next_attempt_is_not_given_up_for_the_last_one() {
        let (lane, abandoned) = lane(1);
        let slot = lane.reserve().unwrap();
        let first = slot.handle();
        lane.offer(held(2));
        assert!(slot.next().is_some());
        let second = slot.handle();
        assert!(!first.abandon(MOST_ABANDONED), "its attempt has ended");
        assert_eq!((lane.reserve().is_some(), abandoned.load(Ordering::Acquire)), (false, 0));
        assert!(second.abandon(MOST_ABANDONED));
        assert_eq!(abandoned.load(Ordering::Acquire), 1);
        lane.offer(held(3));
        assert!(slot.next().is_none(), "the slot is no longer its own");
        drop(slot);
        assert_eq!(abandoned.load(Ordering::Acquire), 0);
    }

    #[test]
    fn a_line_given_up_is_claimed_again_only_as_slots_come_free() {
        let (lane, _) = lane(2);
        lane.ran(Duration::from_micros(10));
        let (first, second) = (lane.reserve().unwrap(), lane.reserve().unwrap());
        assert_eq!(lane.room(), 1000);
        (1..=5).for_each(|id| lane.offer(held(id)));
        assert!(lane.give_up_waiting(Duration::from_secs(3600)).is_empty());
        let given_up = lane.give_up_waiting(Duration::ZERO);
        assert_eq!(given_up.iter().map(|held| held.task.lease.id).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert_eq!((lane.room(), second.next().is_none()), (0, true));
        drop(first);
        assert_eq!(lane.room(), 1);
        (0..200).for_each(|_| lane.ran(Duration::from_micros(10)));
        assert_eq!(lane.room(), 1000);
    }
}
