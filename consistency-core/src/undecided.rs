//! Rows that a transaction stored as this node's own and whose COMMIT nobody saw end: each is started as soon as a renewal of
//! its lease shows that it is there, and forgotten when the lease is over without.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::clock::Moment;
use crate::executor::Executor;
use crate::lane::{Held, Lane};
use crate::ledger::Lease;
use crate::store::{ClaimedTask, LeaseId, Renewed};

/// Most rows one statement asks for.
const ASK_BATCH: usize = 1000;
/// The shortest pause between two questions; it grows with the age of the rows.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Such rows, until each is decided.
#[derive(Debug, Default)]
pub(crate) struct Undecided {
    state: Mutex<State>,
    /// Held while somebody asks: who comes second, to stop or to take rows back, finds everything decided that could be.
    asking: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    rows: Vec<Row>,
    ask_at: Option<Instant>,
}

#[derive(Debug)]
struct Row {
    task: ClaimedTask,
    /// Not after its lease began.
    stored: Moment,
}

impl Undecided {
    /// When to ask for them next; `None` while there are none.
    pub(crate) fn ask_at(&self) -> Option<Instant> {
        self.state.lock().ask_at
    }

    /// Takes all out, to be asked for.
    fn take(&self) -> Vec<Row> {
        std::mem::take(&mut *self.state.lock()).rows
    }

    fn keep(&self, rows: Vec<Row>, ask_at: Instant) {
        if rows.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        state.rows.extend(rows);
        state.ask_at = Some(state.ask_at.map_or(ask_at, |sooner| sooner.min(ask_at)));
    }
}

impl Executor {
    /// Keeps rows that were stored, leased, not before `stored`, and are perhaps committed.
    pub(crate) fn keep_undecided(&self, tasks: Vec<ClaimedTask>, stored: Moment) {
        self.undecided.keep(tasks.into_iter().map(|task| Row { task, stored }).collect(), Instant::now());
        self.watchdog.raise();
    }

    /// Asks for all that is undecided, and puts what is there into the line of its queue.
    pub(crate) fn decide(&self, lanes: &[Arc<Lane>]) {
        let _asking = self.undecided.asking.lock();
        let mut asked = self.undecided.take();
        let mut left = Vec::new();
        while !asked.is_empty() {
            let part = asked.split_off(asked.len().saturating_sub(ASK_BATCH));
            left.extend(self.decide_part(part, lanes));
        }
        // COMMIT may still be under way: most likely in the first moments.
        let age = left.iter().map(|row| row.stored.until(Moment::now())).min().unwrap_or_default();
        let beat = self.settings.heartbeat;
        self.undecided.keep(left, Instant::now() + (age / 4).max(ASK_AGAIN).min(beat));
    }

    /// Returns what stays undecided.
    fn decide_part(&self, part: Vec<Row>, lanes: &[Arc<Lane>]) -> Vec<Row> {
        let sent = Moment::now();
        let ids: Vec<LeaseId> = part.iter().map(|row| row.task.lease).collect();
        let renewed = match self.store.renew(&ids, self.settings.lease) {
            Ok(renewed) => renewed,
            Err(error) => {
                // The heartbeat meets it too, and reports it.
                tracing::debug!(%error, "it is not known yet whether a transaction's tasks are committed");
                return part;
            }
        };
        let answers: HashMap<i64, Renewed> = renewed.into_iter().map(|answer| (answer.id, answer)).collect();
        let mut left = Vec::new();
        for Row { mut task, stored } in part {
            match answers.get(&task.lease.id) {
                Some(answer) if answer.extended => {
                    task.cancel_requested |= answer.cancel_requested;
                    self.start_late(task, sent, lanes);
                }
                // Somebody has it locked.
                Some(_) => left.push(Row { task, stored }),
                None if stored.until(Moment::now()) < self.settings.lease => left.push(Row { task, stored }),
                None => {}
            }
        }
        left
    }

    /// Has a row run that turned out to be there, under a lease renewed by a statement sent at `sent`.
    fn start_late(&self, task: ClaimedTask, sent: Moment, lanes: &[Arc<Lane>]) {
        let lease = Lease::new(sent, self.settings.lease);
        self.ledger.hold(task.lease, Arc::clone(&lease));
        let Some(lane) = lanes.iter().find(|lane| lane.queue() == task.queue) else {
            return self.release(&task, "its queue is not served here");
        };
        self.line_up(lane, Held { task, lease });
    }
}
