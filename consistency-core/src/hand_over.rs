//! What a committing transaction asks of a running node: slots before the flush, the start of its rows after the commit.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::Moment;
use crate::dispatch::{CallerRun, HandOff, Reservation};
use crate::enqueue::EnqueueRules;
use crate::lane::{Held, Slot};
use crate::ledger::Lease;
use crate::new_task::NewTask;
use crate::runtime::Runtime;
use crate::store::ClaimedTask;
use crate::task::{Body, RunOn};

impl HandOff for Runtime {
    fn node(&self) -> &str {
        &self.executor.node
    }

    fn lease(&self) -> Duration {
        self.executor.settings.lease
    }

    fn rules(&self) -> &Arc<EnqueueRules> {
        &self.executor.rules
    }

    fn reserve(&self, rows: &mut [NewTask]) -> Reservation {
        let mut slots: Vec<Slot> = Vec::new();
        for row in rows.iter_mut().filter(|row| row.is_plain_immediate()) {
            let known = self.executor.registry.find(&row.method_name).is_some();
            if !known || self.stopping.load(Ordering::Acquire) {
                continue;
            }
            if row.runs_on_caller() {
                row.leased = true;
            } else if let Some(slot) =
                self.lanes.iter().find(|lane| lane.queue() == row.queue).and_then(|lane| lane.reserve())
            {
                slots.push(slot);
                row.leased = true;
            }
        }
        Reservation { taken: Moment::now(), slots }
    }

    fn hand_off(&self, reservation: Reservation, rows: Vec<ClaimedTask>) -> Vec<CallerRun> {
        let Reservation { taken, slots } = reservation;
        let mut slots = slots.into_iter();
        let mut for_caller = Vec::new();
        for task in rows {
            let lease = Lease::new(taken, self.executor.settings.lease);
            self.executor.ledger.hold(task.lease, Arc::clone(&lease));
            if self.stopping.load(Ordering::Acquire) {
                self.executor.release(&task, "the runtime stops");
                continue;
            }
            let on_caller = self
                .executor
                .registry
                .find(&task.method_name)
                .is_some_and(|definition| definition.options.run_on == RunOn::Caller);
            if on_caller {
                for_caller.push(CallerRun { task, lease });
            } else if let Some(slot) = slots.next() {
                self.start_in(Held { task, lease }, slot);
            } else {
                self.executor.release(&task, "no slot was held for it");
            }
        }
        for_caller
    }

    fn perhaps_committed(&self, reservation: Reservation, rows: Vec<ClaimedTask>) {
        // The slots are given back: most often nothing is there, and it takes a lease to be sure.
        self.executor.keep_undecided(rows, reservation.taken);
    }

    fn wake(&self) {
        self.wake.raise();
        if let Some(announce) = &self.announce {
            announce();
        }
    }
}

impl Runtime {
    fn start_in(&self, held: Held, slot: Slot) {
        match self.me.upgrade() {
            Some(me) => self.executor.drive(held, slot, &(me as Arc<dyn HandOff>)),
            None => self.executor.release(&held.task, "the runtime stops"),
        }
    }

    /// Runs a committed row on this thread and waits for its outcome; inside a Tokio runtime an `async` body goes to a
    /// worker instead, because it cannot be blocked on there.
    pub fn run_on_caller(self: &Arc<Self>, run: CallerRun) {
        let held = Held { task: run.task, lease: run.lease };
        let is_async = self.executor.body(&held.task).is_some_and(Body::is_async);
        if is_async && tokio::runtime::Handle::try_current().is_ok() {
            match self.lanes.iter().find(|lane| lane.queue() == held.task.queue) {
                Some(lane) => self.executor.line_up(lane, held),
                None => self.executor.release(&held.task, "its queue is not served here"),
            }
        } else {
            self.executor.run_inline(held, &**self);
        }
    }

    /// Runs a committed row as part of the caller's future, before the transaction helper returns.
    pub async fn run_on_async_caller(self: &Arc<Self>, run: CallerRun) {
        let held = Held { task: run.task, lease: run.lease };
        let hand_off: Arc<dyn HandOff> = Arc::clone(self) as Arc<dyn HandOff>;
        self.executor.run_inline_async(held, &hand_off).await;
    }
}
