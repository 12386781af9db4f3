//! Tests of the service: each in a transaction that is never committed, with tasks that run when the test says so.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails that way")]

mod mailbox;

use std::sync::Arc;

use booking::error::BookingError;
use booking::mail::Mailer;
use booking::schema::{TABLES, guest_points};
use booking::service::{book, check_out};
use consistency_diesel::prelude::*;
use consistency_diesel::test_outbox::{TestOutbox, TestReport};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::mailbox::Mailbox;

diesel::table! {
    /// The columns of the outbox's table that these tests look at.
    consistency_task (id) {
        /// Ascending in the order in which the rows were stored.
        id -> BigInt,
        /// The idempotency key.
        task_id -> Text,
        /// The task's name.
        method_name -> Text,
        /// The arguments, as a JSON object.
        task_parameter -> Text,
        /// See the README: 0 is pending, 2 succeeded, 3 failed.
        state -> SmallInt,
    }
}

/// A hotel of one test's own.
struct Hotel {
    conn: SqliteConnection,
    outbox: TestOutbox,
    mailbox: Arc<Mailbox>,
    file: String,
    _folder: TempDir,
}

impl Hotel {
    /// With a test transaction open on its connection. SQLite has one writer, so each test gets a file; on a server all tests
    /// can share one database, as `async_service.rs` shows.
    fn open() -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("hotel.db").to_str().unwrap().to_owned();
        // As a deployment does: the migrations, then the application's own tables.
        drop(Outbox::builder(format!("sqlite://{file}")).enqueue_only().migrate().start_blocking().unwrap());
        let mut conn = SqliteConnection::establish(&file).unwrap();
        conn.batch_execute(TABLES).unwrap();
        conn.begin_test_transaction().unwrap();

        let mailbox = Arc::<Mailbox>::default();
        let mailer: Arc<dyn Mailer> = Arc::clone(&mailbox) as _;
        let outbox = Outbox::for_test::<SqliteConnection>().inject(mailer).build().unwrap();
        Self { conn, outbox, mailbox, file, _folder: folder }
    }

    fn book(&mut self, room: i32, night: &str, guest: &str) -> Result<(), BookingError> {
        book(&mut self.conn, &self.outbox, room, night, guest)
    }

    fn run_pending(&mut self) -> TestReport {
        self.outbox.run_pending(&mut self.conn).unwrap()
    }

    /// Name and arguments of every task in this state.
    fn tasks(&mut self, state: i16) -> Vec<(String, Value)> {
        let rows: Vec<(String, String)> = consistency_task::table
            .filter(consistency_task::state.eq(state))
            .order(consistency_task::id)
            .select((consistency_task::method_name, consistency_task::task_parameter))
            .load(&mut self.conn)
            .unwrap();
        rows.into_iter().map(|(name, arguments)| (name, serde_json::from_str(&arguments).unwrap())).collect()
    }
}

const PENDING: i16 = 0;
const SUCCEEDED: i16 = 2;
const FAILED: i16 = 3;

#[test]
fn a_booking_is_stored_with_its_confirmation_which_nobody_has_sent_yet() {
    let mut hotel = Hotel::open();
    hotel.book(101, "2026-12-24", "ann@example.org").unwrap();
    let arguments = json!({ "to": "ann@example.org", "text": "room 101 is yours on 2026-12-24" });
    assert_eq!(hotel.tasks(PENDING), [("booking.mail".to_owned(), arguments)]);
    assert_eq!(hotel.mailbox.texts(), [""; 0]);
}

#[test]
fn a_room_that_is_taken_is_refused_and_nothing_is_enqueued() {
    let mut hotel = Hotel::open();
    hotel.book(101, "2026-12-24", "ann@example.org").unwrap();
    let refused = hotel.book(101, "2026-12-24", "bob@example.org").unwrap_err();
    assert!(matches!(refused, BookingError::Taken), "{refused:?}");
    // The test's transaction goes on: each of the service's is a savepoint in it.
    hotel.book(102, "2026-12-24", "bob@example.org").unwrap();
    assert_eq!(hotel.run_pending(), TestReport { succeeded: 2, failures: vec![] });
    assert_eq!(hotel.mailbox.texts(), ["room 101 is yours on 2026-12-24", "room 102 is yours on 2026-12-24"]);
}

#[test]
fn a_departure_credits_the_night_once_and_says_so() {
    let mut hotel = Hotel::open();
    for night in ["2026-12-24", "2026-12-25"] {
        hotel.book(101, night, "ann@example.org").unwrap();
        check_out(&mut hotel.conn, &hotel.outbox, 101, night).unwrap();
        let refused = check_out(&mut hotel.conn, &hotel.outbox, 101, night).unwrap_err();
        assert!(matches!(refused, BookingError::NotBooked), "{refused:?}");
    }
    // Two confirmations, two credits, and the two mails the credits enqueue.
    assert_eq!(hotel.run_pending(), TestReport { succeeded: 6, failures: vec![] });
    let points: i32 =
        guest_points::table.find("ann@example.org").select(guest_points::points).first(&mut hotel.conn).unwrap();
    assert_eq!(points, 20);
    assert_eq!(hotel.mailbox.texts().iter().filter(|text| *text == "you have 10 points more").count(), 2);
    assert_eq!(hotel.run_pending(), TestReport::default());
}

#[test]
fn a_mail_that_is_not_taken_is_reported_and_waits_for_its_next_attempt() {
    let mut hotel = Hotel::open();
    hotel.mailbox.refuse("the mailbox is full");
    hotel.book(101, "2026-12-24", "ann@example.org").unwrap();
    let failures = vec![("booking.mail".to_owned(), "the mailbox is full".to_owned())];
    assert_eq!(hotel.run_pending(), TestReport { succeeded: 0, failures });
    assert_eq!(hotel.tasks(FAILED).len(), 1);
    // Due again in five minutes, so there is nothing to do; the mend of the README makes it due now.
    assert_eq!(hotel.run_pending(), TestReport::default());
    hotel.mailbox.accept();
    let due = "UPDATE consistency_task SET state = 0, next_execute_time = strftime('%Y-%m-%d %H:%M:%f', 'now')";
    hotel.conn.batch_execute(&format!("{due} WHERE state = 3")).unwrap();
    assert_eq!(hotel.run_pending(), TestReport { succeeded: 1, failures: vec![] });
    let key: String = consistency_task::table.select(consistency_task::task_id).first(&mut hotel.conn).unwrap();
    assert_eq!(hotel.mailbox.keys(), [key]);
}

#[test]
fn an_inline_outbox_has_run_everything_when_the_service_returns() {
    let mut hotel = Hotel::open();
    let mailer: Arc<dyn Mailer> = Arc::clone(&hotel.mailbox) as _;
    hotel.outbox = Outbox::for_test::<SqliteConnection>().inject(mailer).inline().build().unwrap();
    hotel.book(101, "2026-12-24", "ann@example.org").unwrap();
    assert_eq!(hotel.mailbox.texts(), ["room 101 is yours on 2026-12-24"]);
    assert_eq!(hotel.tasks(SUCCEEDED).len(), 1);
}

#[test]
fn a_test_leaves_nothing_behind() {
    let Hotel { mut conn, outbox, file, _folder, .. } = Hotel::open();
    book(&mut conn, &outbox, 101, "2026-12-24", "ann@example.org").unwrap();
    check_out(&mut conn, &outbox, 101, "2026-12-24").unwrap();
    assert_eq!(outbox.run_pending(&mut conn).unwrap().succeeded, 3);
    drop(conn);
    let mut conn = SqliteConnection::establish(&file).unwrap();
    let count = |conn: &mut SqliteConnection, table: &str| -> i64 {
        diesel::select(diesel::dsl::sql::<diesel::sql_types::BigInt>(&format!("(SELECT COUNT(*) FROM {table})")))
            .get_result(conn)
            .unwrap()
    };
    assert_eq!(["booking", "guest_points", "consistency_task"].map(|table| count(&mut conn, table)), [0, 0, 0]);
}
