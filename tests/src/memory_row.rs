//! One row of the store in memory, and the changes it goes through.

use std::time::Duration;

use consistency_core::new_task::{NewTask, is_first_version};
use consistency_core::rescue::Rescued;
use consistency_core::retry::{Loss, after_loss};
use consistency_core::state::State;
use consistency_core::store::{ClaimRequest, ClaimedTask, LeaseId, Losses, Settlement, Share, TaskStatus};
use consistency_core::task::{ExecuteMode, RunOn};
use consistency_core::when_dead::WhenDead;

/// A time in microseconds since 1970, or a length of time.
pub(crate) type Micros = i64;

/// A length of time in microseconds.
pub(crate) fn micros(duration: Duration) -> Micros {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A stored row.
#[derive(Debug, Clone)]
pub(crate) struct MemoryRow {
    pub(crate) new: NewTask,
    pub(crate) state: State,
    pub(crate) due: Micros,
    pub(crate) changed: Micros,
    pub(crate) version: i64,
    pub(crate) execute_times: i64,
    pub(crate) lost_times: i64,
    pub(crate) error: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) lease_until: Micros,
    pub(crate) cancel_requested: bool,
}

impl MemoryRow {
    pub(crate) fn inserted(new: NewTask, node: &str, lease: Duration, now: Micros) -> MemoryRow {
        let leased = new.leased;
        MemoryRow {
            state: if leased { State::Running } else { State::Pending },
            due: new.due_at_us.unwrap_or(now + new.delay_us),
            changed: now,
            version: if leased { new.first_version } else { 0 },
            execute_times: i64::from(leased && new.max_execute_times.is_some()),
            lost_times: 0,
            error: None,
            owner: leased.then(|| node.to_owned()),
            lease_until: now + micros(lease),
            cancel_requested: false,
            new,
        }
    }

    /// Whose it is.
    pub(crate) fn share(&self) -> Share {
        let serial =
            self.new.execute_mode == ExecuteMode::Scheduled as i16 && self.new.thread_way == RunOn::Caller as i16;
        if serial { Share::SchedulingThread } else { Share::Workers }
    }

    /// Whether a claim asks for rows like this one.
    pub(crate) fn fits(&self, request: &ClaimRequest<'_>) -> bool {
        self.new.queue == request.queue
            && self.new.priority == request.priority
            && request.share == self.share()
            && request.names.contains(&self.new.method_name)
    }

    /// What becomes of its ordering key when it is given up.
    pub(crate) fn when_dead(&self) -> Option<WhenDead> {
        self.new.order_key.as_ref().and_then(|_| WhenDead::from_code(i64::from(self.new.order_policy)))
    }

    pub(crate) fn claim(&mut self, id: i64, request: &ClaimRequest<'_>, now: Micros) -> ClaimedTask {
        self.state = State::Running;
        self.version += 1;
        self.execute_times += 1;
        self.owner = Some(request.node.to_owned());
        self.lease_until = now + micros(request.lease);
        self.changed = now;
        ClaimedTask {
            lease: LeaseId { id, version: self.version },
            task_id: self.new.task_id.clone(),
            method_name: self.new.method_name.clone(),
            task_parameter: self.new.task_parameter.clone(),
            execute_times: self.execute_times,
            charged: true,
            execute_interval_second: self.new.execute_interval_second,
            max_execute_times: self.new.max_execute_times,
            when_dead: self.when_dead(),
            meta: self.new.meta.clone(),
            queue: self.new.queue.clone(),
            failed_before: self.error.is_some(),
            cancel_requested: self.cancel_requested,
            lost_times: self.lost_times,
            unreadable: None,
        }
    }

    /// Whether its claim by `node` was committed later than `since`, and this is not in `held`.
    pub(crate) fn is_unheld(&self, id: i64, node: &str, held: &[i64], ends_after: Micros) -> bool {
        self.state == State::Running
            && self.owner.as_deref() == Some(node)
            && self.lease_until >= ends_after
            && !is_first_version(self.version)
            && !held.contains(&id)
    }

    /// Takes its claim back.
    pub(crate) fn unclaim(&mut self, now: Micros) {
        self.state = match () {
            () if self.cancel_requested => State::Cancelled,
            () if self.error.is_some() => State::Failed,
            () => State::Pending,
        };
        self.execute_times = (self.execute_times - 1).max(0);
        self.owner = None;
        self.changed = now;
    }

    pub(crate) fn settle(&mut self, settlement: &Settlement, now: Micros) {
        self.state = match settlement.state {
            State::Failed | State::Pending if self.cancel_requested => State::Cancelled,
            state => state,
        };
        self.error = match (settlement.state, &settlement.error) {
            (State::Succeeded, _) => None,
            (_, Some(error)) => Some(error.clone()),
            (_, None) => self.error.take(),
        };
        if let Some(delay) = settlement.due_in {
            self.due = now + micros(delay);
        }
        self.execute_times += settlement.charge;
        match settlement.losses {
            Losses::Kept => {}
            Losses::OneMore => self.lost_times += 1,
            Losses::Cleared => self.lost_times = 0,
        }
        self.owner = None;
        self.changed = now;
    }

    /// Whether this settlement is what the row shows, because it was written before.
    pub(crate) fn was_settled_by(&self, settlement: &Settlement) -> bool {
        let cancelled = self.state == State::Cancelled && matches!(settlement.state, State::Failed | State::Pending);
        self.version == settlement.lease.version && (self.state == settlement.state || cancelled)
    }

    pub(crate) fn rescue(&mut self, id: i64, crash_budget: u32) -> Rescued {
        self.lost_times += 1;
        let loss = Loss {
            cancel_requested: self.cancel_requested,
            execute_times: self.execute_times,
            max_execute_times: self.new.max_execute_times,
            lost_times: self.lost_times,
            when_dead: self.when_dead(),
        };
        self.state = after_loss(&loss, crash_budget);
        // Whatever the lost node still writes must not be taken for what is written here.
        self.version += 1;
        let node = self.owner.take().unwrap_or_default();
        self.error = Some(format!("the worker died or lost touch: node {node} let its lease run out"));
        Rescued {
            id,
            task_id: self.new.task_id.clone(),
            method_name: self.new.method_name.clone(),
            node,
            state: self.state,
            lost_times: self.lost_times,
        }
    }

    pub(crate) fn put_back(&mut self, now: Micros) {
        self.state = State::Pending;
        self.execute_times = 0;
        self.lost_times = 0;
        self.cancel_requested = false;
        self.due = now;
    }

    pub(crate) fn status(&self, id: i64, due_in: Duration) -> TaskStatus {
        TaskStatus {
            id,
            task_id: self.new.task_id.clone(),
            method_name: self.new.method_name.clone(),
            state: self.state,
            execute_times: self.execute_times,
            lost_times: self.lost_times,
            error_message: self.error.clone(),
            lease_owner: self.owner.clone(),
            due_in,
        }
    }
}
