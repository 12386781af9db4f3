//! Each outbox runs its own tasks on its own database, refuses those of the other, and leaves alone what it finds of them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails that way")]

use std::sync::Arc;

use consistency_diesel::core::error::EnqueueError;
use consistency_diesel::error::enqueue_error;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::recorder::wait_until;
use diesel::SqliteConnection;
use diesel::connection::SimpleConnection;
use diesel::result::QueryResult;
use two_outboxes::audit::{Audit, record};
use two_outboxes::orders::{Orders, ship};

/// The two databases, looked at from outside, and the application on them.
struct Scene {
    orders: Orders,
    audit: Arc<Audit>,
    orders_file: Database,
    audit_file: Database,
}

impl Scene {
    fn new() -> Self {
        let (orders_file, audit_file) =
            (Database::fresh(Backend::Sqlite).unwrap(), Database::fresh(Backend::Sqlite).unwrap());
        let audit = Arc::new(Audit::open(audit_file.address()).unwrap());
        let orders = Orders::open(orders_file.address(), Arc::clone(&audit)).unwrap();
        Self { orders, audit, orders_file, audit_file }
    }

    /// Waits until the trail has that many entries.
    #[track_caller]
    fn wait_for_entries(&self, count: i64) {
        wait_until("the trail to hear of it", || self.audit_file.count("audit_entry", "true") >= count);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.orders.database().close();
        self.audit.database().close();
    }
}

/// How many tasks of this name are in the database, and how many of them have succeeded.
fn tasks(database: &Database, name: &str) -> (i64, i64) {
    let count = |also: &str| database.count("consistency_task", &format!("method_name LIKE '{name}' AND {also}"));
    (count("true"), count("state = 2"))
}

#[test]
fn each_outbox_runs_its_own_tasks_on_its_own_database() {
    let scene = Scene::new();
    let placed: Vec<i64> = (0..20).map(|_| scene.orders.place("bolt").unwrap()).collect();
    scene.wait_for_entries(40);
    wait_until("the last report to be settled", || tasks(&scene.orders_file, "order.%") == (60, 60));
    wait_until("the last entry to be settled", || tasks(&scene.audit_file, "audit.%") == (40, 40));
    assert_eq!((tasks(&scene.orders_file, "audit.%"), tasks(&scene.audit_file, "order.%")), ((0, 0), (0, 0)));
    assert_eq!(scene.orders_file.count("orders", "shipped"), 20);
    // Of every order first this, then that.
    let entries = scene.audit.entries().unwrap();
    for order_id in placed {
        let subject = format!("order {order_id}");
        let events: Vec<&str> =
            entries.iter().filter(|(about, _)| *about == subject).map(|(_, event)| event.as_str()).collect();
        assert_eq!(events, ["placed", "shipped"], "{subject}");
    }
}

#[test]
fn a_call_for_the_other_outbox_is_refused_by_name_and_the_transaction_goes_on() {
    let scene = Scene::new();
    let refused = scene.orders.database().transaction(|tx| {
        tx.batch_execute("INSERT INTO orders (sku) VALUES ('bolt')")?;
        let refused = tx.enqueue(record("order 1", "not here")).unwrap_err();
        QueryResult::Ok(refused)
    });
    let refused = refused.unwrap();
    let reason = enqueue_error(&refused).expect("it was refused before it reached the database");
    assert!(matches!(reason, EnqueueError::NotServed { task: "audit.record" }), "{reason:?}");
    assert_eq!(
        reason.to_string(),
        "task `audit.record` is not served by this outbox; add it to `only([..])` or register it"
    );
    // Refused was the call alone; whoever passes the error on with `?` stores nothing.
    assert_eq!(scene.orders_file.count("orders", "true"), 1);
    let refused: QueryResult<Receipt> = scene.audit.database().transaction(|tx| {
        tx.batch_execute("INSERT INTO audit_entry (subject, event) VALUES ('order 1', 'gone')")?;
        tx.enqueue(ship(1))
    });
    let refused = refused.unwrap_err();
    assert!(matches!(enqueue_error(&refused), Some(EnqueueError::NotServed { task: "order.ship" })), "{refused:?}");
    assert_eq!(scene.audit_file.count("audit_entry", "true"), 0);
    assert_eq!((tasks(&scene.orders_file, "%"), tasks(&scene.audit_file, "%")), ((0, 0), (0, 0)));
}

#[test]
fn a_row_of_the_others_task_is_left_alone_while_its_own_run() {
    let scene = Scene::new();
    // Stored by a program that does not keep them apart.
    let careless = scene.orders_file.outbox().enqueue_only().start_blocking().unwrap();
    let mut conn = scene.orders_file.connection::<SqliteConnection>();
    careless.transaction(&mut conn, |tx| tx.enqueue(record("order 1", "stray"))).unwrap();
    scene.orders.place("bolt").unwrap();
    scene.wait_for_entries(2);
    assert_eq!(scene.orders_file.count("consistency_task", "method_name = 'audit.record' AND state = 0"), 1);
    assert_eq!(scene.orders_file.count("consistency_task", "method_name = 'audit.record' AND execute_times = 0"), 1);
    assert_eq!(scene.audit_file.count("audit_entry", "event = 'stray'"), 0);
}

#[test]
fn an_event_carried_twice_is_recorded_once() {
    let scene = Scene::new();
    let first = scene.audit.note("order 1", "placed", "key of the report").unwrap();
    assert!(matches!(first, Receipt::Enqueued(_)), "{first:?}");
    scene.wait_for_entries(1);
    let second = scene.audit.note("order 1", "placed", "key of the report").unwrap();
    assert!(matches!(second, Receipt::Duplicate(_)), "{second:?}");
    scene.audit.note("order 2", "placed", "another key").unwrap();
    scene.wait_for_entries(2);
    assert_eq!(scene.audit_file.texts("SELECT subject AS value FROM audit_entry ORDER BY id"), ["order 1", "order 2"]);
}
