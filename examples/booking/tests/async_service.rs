//! Tests of the asynchronous service: as those of the other one, on one PostgreSQL database that all of them could share.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails that way")]

mod mailbox;

use std::sync::Arc;

use booking::async_service::{book, check_out};
use booking::error::BookingError;
use booking::mail::Mailer;
use booking::schema::TABLES;
use consistency_diesel::async_prelude::*;
use consistency_diesel::test_outbox::{TestOutbox, TestReport};
use consistency_tests::backend::Backend;
use consistency_tests::database::{Database, on_fresh};
use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::mailbox::Mailbox;

/// A connection with a test transaction open on it, and an outbox that runs tasks on that connection.
async fn hotel(database: &Database) -> (AsyncPgConnection, TestOutbox, Arc<Mailbox>) {
    let mut conn = AsyncPgConnection::establish(database.address()).await.unwrap();
    conn.begin_test_transaction().await.unwrap();
    let mailbox = Arc::<Mailbox>::default();
    let mailer: Arc<dyn Mailer> = Arc::clone(&mailbox) as _;
    let outbox = Outbox::for_test::<AsyncPgConnection>().inject(mailer).build().unwrap();
    (conn, outbox, mailbox)
}

/// Runs `test` on a database with the outbox's and the application's tables.
fn on_postgres(name: &str, test: impl AsyncFnOnce(&Database)) {
    on_fresh(Backend::Postgres, name, |database| {
        database.migrate();
        database.execute(TABLES);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(test(database));
    });
}

#[test]
fn a_stay_is_confirmed_credited_and_leaves_nothing_behind() {
    on_postgres("a_stay", async |database| {
        let (mut conn, outbox, mailbox) = hotel(database).await;
        book(&mut conn, &outbox, 101, "2026-12-24", "ann@example.org").await.unwrap();
        let refused = book(&mut conn, &outbox, 101, "2026-12-24", "bob@example.org").await.unwrap_err();
        assert!(matches!(refused, BookingError::Taken), "{refused:?}");
        check_out(&mut conn, &outbox, 101, "2026-12-24").await.unwrap();
        assert_eq!(mailbox.texts(), [""; 0]);

        let report = outbox.run_pending(&mut conn).await.unwrap();
        assert_eq!(report, TestReport { succeeded: 3, failures: vec![] });
        assert_eq!(mailbox.texts(), ["room 101 is yours on 2026-12-24", "you have 10 points more"]);

        drop(conn);
        let left = ["booking", "guest_points", "consistency_task"].map(|table| database.count(table, "true"));
        assert_eq!(left, [0, 0, 0]);
    });
}

#[test]
fn tests_side_by_side_in_one_database_see_nothing_of_each_other() {
    on_postgres("side_by_side", async |database| {
        let (mut one, one_outbox, one_mailbox) = hotel(database).await;
        let (mut other, other_outbox, other_mailbox) = hotel(database).await;
        book(&mut one, &one_outbox, 101, "2026-12-24", "ann@example.org").await.unwrap();
        other_mailbox.refuse("the mailbox is full");
        // Another room: of two who book the same one, the second waits until the first has ended.
        book(&mut other, &other_outbox, 102, "2026-12-24", "bob@example.org").await.unwrap();

        let failures = vec![("booking.mail".to_owned(), "the mailbox is full".to_owned())];
        let report = other_outbox.run_pending(&mut other).await.unwrap();
        assert_eq!(report, TestReport { succeeded: 0, failures });
        let report = one_outbox.run_pending(&mut one).await.unwrap();
        assert_eq!(report, TestReport { succeeded: 1, failures: vec![] });
        assert_eq!(one_mailbox.texts(), ["room 101 is yours on 2026-12-24"]);
    });
}
