//! Stores with one guard taken out, so that the checkers can be seen to notice, and one that only meets with bad luck.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use consistency_core::dispatch::HandOff;
use consistency_core::enqueue::Receipt;
use consistency_core::error::StoreError;
use consistency_core::new_task::NewTask;
use consistency_core::rescue::Rescued;
use consistency_core::store::{
    ClaimRequest, ClaimedTask, LeaseId, OutcomeFuture, Outlook, Renewed, Settled, Settlement, Store, TaskStatus,
};
use consistency_core::task::{NeededType, TxBody};
use diesel::connection::SimpleConnection;
use parking_lot::Mutex;

use crate::any_connection::{AnyConnection, Number};
use crate::backend::Backend;
use crate::database::Database;
use crate::recorder::Latch;

/// What is done to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Nothing.
    None,
    /// It settles a row whatever its version: the fence is gone.
    Unfenced,
    /// Its first look and every rescue take the leases of running rows for over.
    Leaseless,
    /// After its first claim nothing arrives but settlements. No guard is missing: so it is for a node whose network is cut
    /// until its body ends.
    CutOff,
}

/// A store with a sabotage. What a sabotage needs to know or to do beside the store it does on a connection of its own.
pub struct Sabotaged {
    inner: Arc<dyn Store>,
    sabotages: Vec<Sabotage>,
    backend: Backend,
    conn: Mutex<AnyConnection>,
    claimed: AtomicBool,
    /// Raised after every look.
    pub looks: Latch,
}

impl Sabotaged {
    /// `inner`, the store of `database`, with sabotages.
    pub fn wrap(database: &Database, inner: Arc<dyn Store>, sabotages: &[Sabotage]) -> Arc<Sabotaged> {
        let conn = AnyConnection::open(database.backend(), database.address()).expect("a connection");
        Arc::new(Sabotaged {
            inner,
            sabotages: sabotages.to_vec(),
            backend: database.backend(),
            conn: Mutex::new(conn),
            claimed: AtomicBool::new(false),
            looks: Latch::new(),
        })
    }

    fn suffers(&self, sabotage: Sabotage) -> bool {
        self.sabotages.contains(&sabotage)
    }

    /// # Errors
    /// When the network is cut.
    fn reach(&self) -> Result<(), StoreError> {
        if self.suffers(Sabotage::CutOff) && self.claimed.load(Ordering::Acquire) {
            return Err(StoreError::Transient("the network is cut".into()));
        }
        Ok(())
    }

    /// The version the row has now, whoever holds it.
    fn version(&self, id: i64) -> i64 {
        let sql = format!("SELECT version AS value FROM consistency_task WHERE id = {id}");
        let rows: Vec<Number> = self.conn.lock().load(&sql).expect("a version");
        rows.first().expect("a row").value
    }

    fn end_all_leases(&self) {
        let past = match self.backend {
            Backend::Sqlite => "strftime('%Y-%m-%d %H:%M:%f', 'now', '-1 second')",
            Backend::Postgres => "clock_timestamp() - INTERVAL '1 second'",
            Backend::Mysql => "UTC_TIMESTAMP(6) - INTERVAL 1 SECOND",
        };
        let sql = format!("UPDATE consistency_task SET lease_until = {past} WHERE state = 1");
        self.conn.lock().execute(&sql).expect("an UPDATE");
    }
}

impl Store for Sabotaged {
    fn connections(&self) -> Vec<NeededType> {
        self.inner.connections()
    }

    fn insert(&self, rows: &[NewTask], node: &str, lease: Duration) -> Result<Vec<Receipt>, StoreError> {
        self.inner.insert(rows, node, lease)
    }

    fn look(&self, queues: &[String]) -> Result<Outlook, StoreError> {
        self.reach()?;
        let mut outlook = self.inner.look(queues)?;
        // Once: the rows it then takes over itself shall keep their leases.
        if self.suffers(Sabotage::Leaseless) && self.looks.count() == 0 {
            outlook.lease_ends_in = Some(Duration::ZERO);
        }
        self.looks.raise();
        Ok(outlook)
    }

    fn claim(&self, request: &ClaimRequest<'_>) -> Result<Vec<ClaimedTask>, StoreError> {
        self.reach()?;
        let claimed = self.inner.claim(request)?;
        self.claimed.fetch_or(!claimed.is_empty(), Ordering::AcqRel);
        Ok(claimed)
    }

    fn put_back_unheld(&self, node: &str, held: &[i64], since: Duration, lease: Duration) -> Result<usize, StoreError> {
        self.reach()?;
        self.inner.put_back_unheld(node, held, since, lease)
    }

    fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
        let mut settlements = settlements.to_vec();
        if self.suffers(Sabotage::Unfenced) {
            for settlement in &mut settlements {
                settlement.lease.version = self.version(settlement.lease.id);
            }
        }
        self.inner.settle(&settlements)
    }

    fn renew(&self, leases: &[LeaseId], lease: Duration) -> Result<Vec<Renewed>, StoreError> {
        self.reach()?;
        self.inner.renew(leases, lease)
    }

    fn rescue(&self, crash_budget: u32, limit: usize) -> Result<Vec<Rescued>, StoreError> {
        self.reach()?;
        if self.suffers(Sabotage::Leaseless) {
            self.end_all_leases();
        }
        self.inner.rescue(crash_budget, limit)
    }

    fn unknown_names(&self, queues: &[String], names: &[String], limit: usize) -> Result<Vec<String>, StoreError> {
        self.inner.unknown_names(queues, names, limit)
    }

    fn status(&self, task_id: &str) -> Result<Option<TaskStatus>, StoreError> {
        self.inner.status(task_id)
    }

    fn prune(&self, older_than: Duration, limit: usize) -> Result<usize, StoreError> {
        self.inner.prune(older_than, limit)
    }

    fn run_in_transaction<'a>(
        &'a self,
        connection: NeededType,
        lease: LeaseId,
        charge: i64,
        hand_off: &'a dyn HandOff,
        body: &'a mut TxBody<'_>,
    ) -> OutcomeFuture<'a> {
        self.inner.run_in_transaction(connection, lease, charge, hand_off, body)
    }
}

/// A producer that stores the row of an order on a connection of its own, beside the business transaction on `business`, which
/// then is rolled back: nothing ties the two together.
pub fn enqueue_without_the_transaction(
    store: &dyn Store,
    business: &mut impl SimpleConnection,
    order: &str,
    row: NewTask,
) {
    store.insert(&[row], "", Duration::ZERO).expect("the row is stored");
    business.batch_execute("BEGIN").expect("BEGIN");
    business.batch_execute(order).expect("the order");
    business.batch_execute("ROLLBACK").expect("ROLLBACK");
}

/// A producer whose business transaction has ended silently before the flush, as after an ignored deadlock, and that flushes
/// without asking for a proof: the row commits alone.
pub fn enqueue_without_the_proof(store: &dyn Store, business: &mut impl SimpleConnection, order: &str, row: NewTask) {
    business.batch_execute("BEGIN").expect("BEGIN");
    business.batch_execute(order).expect("the order");
    business.batch_execute("ROLLBACK").expect("what nobody noticed");
    store.insert(&[row], "", Duration::ZERO).expect("the row is stored");
}
