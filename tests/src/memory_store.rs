//! The smallest store that keeps the contract: rows in a map, one lock, a clock that can be moved on.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime};

use consistency_core::dispatch::HandOff;
use consistency_core::enqueue::{ExistingTask, Receipt};
use consistency_core::error::StoreError;
use consistency_core::new_task::NewTask;
use consistency_core::rescue::Rescued;
use consistency_core::state::State;
use consistency_core::store::{
    ClaimRequest, ClaimedTask, Head, LeaseId, OutcomeFuture, Outlook, Renewed, Settled, Settlement, Share, Store,
    TaskStatus, TransactionOutcome,
};
use consistency_core::task::{NeededType, TxBody};
use parking_lot::Mutex;

use crate::memory_row::{MemoryRow, Micros, micros};

/// Rows in memory. Nothing survives it; it shows what the contract asks for, and nothing else.
#[derive(Debug, Default)]
pub struct MemoryStore {
    table: Mutex<Table>,
}

#[derive(Debug, Default, Clone)]
struct Table {
    rows: BTreeMap<i64, MemoryRow>,
    last_id: i64,
    moved_on: Duration,
    unfenced: bool,
}

impl Clone for MemoryStore {
    fn clone(&self) -> Self {
        Self { table: Mutex::new(self.table.lock().clone()) }
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store that writes the outcome of any node that ever held a running row, whatever its version. For tests that are to notice it.
    pub fn without_fence() -> Self {
        Self { table: Mutex::new(Table { unfenced: true, ..Table::default() }) }
    }

    /// Shows every row with its id, to be read or written as a person does with SQL, and the store's clock.
    pub(crate) fn edit(&self, mut edit: impl FnMut(i64, &mut MemoryRow, Micros)) {
        let mut table = self.table.lock();
        let now = table.now();
        table.rows.iter_mut().for_each(|(id, row)| edit(*id, row, now));
    }

    /// Moves its clock on.
    pub fn advance(&self, by: Duration) {
        self.table.lock().moved_on += by;
    }

    /// Asks to cancel a task, as a person does with SQL.
    pub fn request_cancel(&self, id: i64) {
        if let Some(row) = self.table.lock().rows.get_mut(&id) {
            row.cancel_requested = true;
        }
    }
}

impl MemoryStore {
    /// Has a dead or cancelled row due again with all attempts anew, as a person does with SQL.
    pub fn put_back(&self, id: i64) {
        let mut table = self.table.lock();
        let now = table.now();
        if let Some(row) = table.rows.get_mut(&id).filter(|row| matches!(row.state, State::Dead | State::Cancelled)) {
            row.put_back(now);
        }
    }
}

impl Table {
    fn now(&self) -> Micros {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        micros(since_epoch + self.moved_on)
    }

    fn find(&self, task_id: &str) -> Option<(&i64, &MemoryRow)> {
        self.rows.iter().find(|(_, row)| row.new.task_id == task_id)
    }

    /// Stores a row unless its handle is taken.
    fn insert(&mut self, new: &NewTask, node: &str, lease: Duration) -> Receipt {
        if let Some((id, row)) = self.find(&new.task_id) {
            return Receipt::Duplicate(ExistingTask { id: *id, task_id: new.task_id.clone(), state: row.state });
        }
        let row = MemoryRow::inserted(new.clone(), node, lease, self.now());
        self.last_id += 1;
        self.rows.insert(self.last_id, row);
        Receipt::Enqueued(new.task_id.clone())
    }

    /// The ids of the rows a claim may take now, in the order it takes them.
    fn claimable(&self, request: &ClaimRequest<'_>) -> Vec<i64> {
        let now = self.now();
        // A running row holds its key alone; else the oldest one that waits does, which comes first by id.
        let key_of = |row: &MemoryRow| row.new.order_key.clone();
        let running = self.rows.values().filter(|row| row.state == State::Running);
        let mut held_keys: HashSet<String> = running.filter_map(key_of).collect();
        let mut found = Vec::new();
        for (id, row) in &self.rows {
            let is_head = match &row.new.order_key {
                Some(key) if row.when_dead().is_some_and(|policy| policy.holds_key(row.state)) => {
                    held_keys.insert(key.clone())
                }
                _ => true,
            };
            if is_head && row.state.is_claimable() && row.due <= now && row.fits(request) {
                found.push((row.due, *id));
            }
        }
        found.sort_unstable();
        found.into_iter().take(request.limit).map(|(_, id)| id).collect()
    }

    fn held(&mut self, lease: LeaseId) -> Option<&mut MemoryRow> {
        self.rows.get_mut(&lease.id).filter(|row| row.state == State::Running && row.version == lease.version)
    }

    fn settle(&mut self, settlement: &Settlement) -> Settled {
        let now = self.now();
        let mut lease = settlement.lease;
        if let Some(row) = self.rows.get(&lease.id).filter(|_| self.unfenced) {
            lease.version = row.version;
        }
        if let Some(row) = self.held(lease) {
            row.settle(settlement, now);
        } else {
            // Written by a call whose answer got lost, or not ours any more.
            let before = self.rows.get(&settlement.lease.id).is_some_and(|row| row.was_settled_by(settlement));
            if !before {
                return Settled::Lost;
            }
        }
        for row in &settlement.follow_ups {
            self.insert(row, "", Duration::ZERO);
        }
        Settled::Written
    }
}

impl Store for MemoryStore {
    fn connections(&self) -> Vec<NeededType> {
        Vec::new()
    }

    fn insert(&self, rows: &[NewTask], node: &str, lease: Duration) -> Result<Vec<Receipt>, StoreError> {
        let mut table = self.table.lock();
        Ok(rows.iter().map(|row| table.insert(row, node, lease)).collect())
    }

    fn look(&self, queues: &[String]) -> Result<Outlook, StoreError> {
        let table = self.table.lock();
        let mut first: BTreeMap<(&str, i16, Share), Micros> = BTreeMap::new();
        for row in table.rows.values().filter(|row| row.state.is_claimable() && queues.contains(&row.new.queue)) {
            let due = first.entry((&row.new.queue, row.new.priority, row.share())).or_insert(row.due);
            *due = row.due.min(*due);
        }
        let now = table.now();
        let head = |((queue, priority, share), due): ((&str, i16, Share), Micros)| Head {
            queue: queue.to_owned(),
            priority,
            share,
            wait: until(due, now),
        };
        let leases = table.rows.values().filter(|row| row.state == State::Running).map(|row| row.lease_until);
        let lease_ends_in = leases.min().map(|end| until(end, now));
        Ok(Outlook { heads: first.into_iter().map(head).collect(), lease_ends_in })
    }

    fn claim(&self, request: &ClaimRequest<'_>) -> Result<Vec<ClaimedTask>, StoreError> {
        let mut table = self.table.lock();
        let now = table.now();
        let ids = table.claimable(request);
        let claim = |id: i64| table.rows.get_mut(&id).map(|row| row.claim(id, request, now));
        Ok(ids.into_iter().filter_map(claim).collect())
    }

    fn put_back_unheld(&self, node: &str, held: &[i64], since: Duration, lease: Duration) -> Result<usize, StoreError> {
        let mut table = self.table.lock();
        let now = table.now();
        let ends_after = now + micros(lease) - micros(since);
        let unheld = table.rows.iter_mut().filter(|(id, row)| row.is_unheld(**id, node, held, ends_after));
        Ok(unheld.map(|(_, row)| row.unclaim(now)).count())
    }

    fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
        let mut table = self.table.lock();
        Ok(settlements.iter().map(|settlement| table.settle(settlement)).collect())
    }

    fn renew(&self, leases: &[LeaseId], lease: Duration) -> Result<Vec<Renewed>, StoreError> {
        let mut table = self.table.lock();
        let until = table.now() + micros(lease);
        let renew = |id: &LeaseId| {
            table.held(*id).map(|row| {
                row.lease_until = until;
                Renewed { id: id.id, cancel_requested: row.cancel_requested, extended: true }
            })
        };
        Ok(leases.iter().filter_map(renew).collect())
    }

    fn rescue(&self, crash_budget: u32, limit: usize) -> Result<Vec<Rescued>, StoreError> {
        let mut table = self.table.lock();
        let now = table.now();
        let expired = table.rows.iter_mut().filter(|(_, row)| row.state == State::Running && row.lease_until <= now);
        Ok(expired.take(limit).map(|(id, row)| row.rescue(*id, crash_budget)).collect())
    }

    fn unknown_names(&self, queues: &[String], names: &[String], limit: usize) -> Result<Vec<String>, StoreError> {
        let table = self.table.lock();
        let now = table.now();
        let claimable = table.rows.values().filter(|row| row.state.is_claimable() && queues.contains(&row.new.queue));
        let due = claimable.filter(|row| row.due <= now);
        let unknown: HashSet<&String> =
            due.map(|row| &row.new.method_name).filter(|name| !names.contains(name)).collect();
        Ok(unknown.into_iter().take(limit).cloned().collect())
    }

    fn status(&self, task_id: &str) -> Result<Option<TaskStatus>, StoreError> {
        let table = self.table.lock();
        let now = table.now();
        Ok(table.find(task_id).map(|(id, row)| row.status(*id, until(row.due, now))))
    }

    fn prune(&self, older_than: Duration, limit: usize) -> Result<usize, StoreError> {
        let mut table = self.table.lock();
        let limit_time = table.now() - micros(older_than);
        let old = table.rows.iter().filter(|(_, row)| row.state.is_finished() && row.changed < limit_time);
        let ids: Vec<i64> = old.map(|(id, _)| *id).take(limit).collect();
        for id in &ids {
            table.rows.remove(id);
        }
        Ok(ids.len())
    }

    fn run_in_transaction<'a>(
        &'a self,
        _connection: NeededType,
        _lease: LeaseId,
        _charge: i64,
        _hand_off: &'a dyn HandOff,
        _body: &'a mut TxBody<'_>,
    ) -> OutcomeFuture<'a> {
        let error = StoreError::Fatal("the store in memory has no transactions".into());
        Box::pin(std::future::ready(TransactionOutcome::NotStarted(error)))
    }
}

fn until(due: Micros, now: Micros) -> Duration {
    Duration::from_micros(u64::try_from(due - now).unwrap_or(0))
}
