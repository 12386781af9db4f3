//! The outbox for tests of applications on diesel-async's connections: inline or by hand, through the table, inside a test
//! transaction, bodies of both worlds, and on the one thread of a `#[tokio::test]`.

#![cfg(feature = "async")]

use std::time::Duration;

use consistency_core::error::Problem;
use consistency_diesel::async_prelude::*;
use consistency_diesel::error::enqueue_error;
use consistency_diesel::test_outbox::{TestOutbox, TestReport};
use consistency_tests::async_stage::on_one_thread;
use consistency_tests::database::Database;
use consistency_tests::for_each_async_database;
use consistency_tests::recorder::Latch;
use consistency_tests::stage::Probe;
use diesel::result::{Error, QueryResult};
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};

#[consistency_task]
fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

#[consistency_task]
async fn async_note(text: String, #[inject] probe: &Probe) {
    tokio::task::yield_now().await;
    probe.saw(text);
}

/// Blocks its thread until another future lets it go.
#[consistency_task]
fn blocks(#[inject] probe: &Probe, #[inject] go: &Latch) {
    probe.saw("blocks");
    go.wait_for(1);
    probe.saw("let go");
}

#[consistency_task(name = "async_test_outbox.fails", retry_every = "1h")]
async fn fails(reason: String) -> Result<(), String> {
    Err(reason)
}

#[consistency_task(name = "async_test_outbox.panics", max_attempts = 1)]
async fn panics() {
    tokio::task::yield_now().await;
    panic!("in the body");
}

#[consistency_task]
async fn chain(length: u32, #[context] cx: &TaskContext, #[inject] probe: &Probe) -> anyhow::Result<()> {
    probe.saw(format!("{length} to go"));
    if length > 0 {
        cx.enqueue(chain(length - 1))?;
    }
    Ok(())
}

#[derive(Debug, Serialize, Deserialize)]
struct Session {
    user: String,
    #[serde(skip)]
    cache: Option<String>,
}

#[consistency_task]
async fn open_session(session: Session, #[inject] probe: &Probe) {
    probe.saw(format!("{} {:?}", session.user, session.cache));
}

fn text(text: &str) -> Call {
    note(text.to_owned())
}

struct Set<C> {
    outbox: TestOutbox,
    probe: Probe,
    go: Latch,
    conn: C,
}

for_each_async_database! {
    items {
        #[consistency_task(name = "async_test_outbox.take", retry_every = "1h")]
        async fn take(fails: bool, #[tx] tx: &mut TaskTx<'_, Conn>) -> anyhow::Result<()> {
            tx.batch_execute("INSERT INTO effect (id) VALUES (1)").await?;
            tx.enqueue(text("child of the transaction")).await?;
            let dropped = tx.transaction(async |tx| {
                tx.batch_execute("INSERT INTO effect (id) VALUES (2)").await?;
                tx.enqueue(text("dropped")).await?;
                Err::<(), _>(Error::RollbackTransaction)
            }).await;
            assert_eq!(dropped, Err(Error::RollbackTransaction));
            anyhow::ensure!(!fails, "told to fail");
            Ok(())
        }

        #[consistency_task(name = "async_test_outbox.panics_in_tx", max_attempts = 1)]
        async fn panics_in_tx(#[tx] tx: &mut TaskTx<'_, Conn>) -> QueryResult<()> {
            tx.transaction(async |tx| -> QueryResult<()> {
                tx.batch_execute("INSERT INTO effect (id) VALUES (3)").await?;
                panic!("in the transaction")
            }).await
        }

        /// A migrated database with a table of the application's own, an outbox without threads, and a connection.
        async fn prepared(database: &Database, inline: bool) -> Set<Conn> {
            database.migrate();
            database.execute("CREATE TABLE effect (id INTEGER NOT NULL)");
            let (probe, go) = (Probe::default(), Latch::new());
            let builder = Outbox::for_test::<Conn>().inject(probe.clone()).inject(go.clone());
            let outbox = if inline { builder.inline() } else { builder }.build().unwrap();
            Set { outbox, probe, go, conn: database.async_connection::<Conn>().await }
        }

        /// Counted on the test's own connection, which sees what is not committed.
        async fn count(conn: &mut Conn, from: &str) -> i64 {
            let count = format!("(SELECT COUNT(*) FROM {from})");
            diesel::select(diesel::dsl::sql::<diesel::sql_types::BigInt>(&count)).get_result(conn).await.unwrap()
        }

        /// Commits `call` alone.
        async fn store(set: &mut Set<Conn>, call: Call) {
            let stored = set.outbox.transaction(&mut set.conn, async |tx| tx.enqueue(call).await).await;
            let stored: QueryResult<_> = stored;
            stored.unwrap();
        }

        /// Everything the report says, and everything in the table, of one outbox used in every way.
        async fn in_a_test_transaction(set: Set<Conn>) {
            let Set { outbox, probe, mut conn, .. } = set;
            conn.begin_test_transaction().await.unwrap();
            let stored = outbox.transaction(&mut conn, async |tx| {
                let dropped = tx.transaction(async |tx| {
                    tx.enqueue(text("dropped")).await?;
                    Err::<(), _>(Error::RollbackTransaction)
                }).await;
                assert_eq!(dropped, Err(Error::RollbackTransaction));
                tx.enqueue(text("plain")).await?;
                tx.enqueue(async_note("keyed".to_owned()).key("k")).await?;
                tx.enqueue(take(false)).await
            }).await;
            let stored: QueryResult<_> = stored;
            stored.unwrap();
            // A second transaction, rolled back through its savepoint; the first one's rows stay.
            let dropped = outbox.transaction(&mut conn, async |tx| {
                tx.enqueue(text("dropped")).await?;
                Err::<(), _>(Error::RollbackTransaction)
            }).await;
            assert_eq!(dropped, Err(Error::RollbackTransaction));
            assert_eq!(count(&mut conn, "consistency_task").await, 3);
            let report = outbox.run_pending(&mut conn).await.unwrap();
            assert_eq!(report, TestReport { succeeded: 4, failures: vec![] });
            assert_eq!(probe.seen_sorted(), ["child of the transaction", "keyed", "plain"]);
            assert_eq!(count(&mut conn, "consistency_task WHERE state = 2").await, 4);
            assert_eq!(count(&mut conn, "effect").await, 1);
        }
    }

    async fn by_hand_nothing_runs_before_it_is_asked_for(database: &Database) {
        let Set { outbox, probe, mut conn, .. } = prepared(database, false).await;
        let stored = outbox.transaction(&mut conn, async |tx| {
            tx.enqueue(text("a")).await?;
            tx.enqueue(text("b").key("b")).await?;
            tx.enqueue(async_note("c".to_owned())).await?;
            tx.enqueue(text("later").delay(Duration::from_secs(3600))).await
        }).await;
        let stored: QueryResult<_> = stored;
        stored.unwrap();
        assert_eq!((probe.seen(), count(&mut conn, "consistency_task WHERE state = 0").await), (vec![], 4));
        let report = outbox.run_pending(&mut conn).await.unwrap();
        assert_eq!(report, TestReport { succeeded: 3, failures: vec![] });
        assert_eq!(probe.seen_sorted(), ["a", "b", "c"]);
        assert_eq!(count(&mut conn, "consistency_task WHERE state = 2").await, 3);
        assert_eq!(outbox.run_pending(&mut conn).await.unwrap(), TestReport::default());
    }

    async fn inline_everything_due_has_run_when_the_transaction_is_ready(database: &Database) {
        let Set { outbox, probe, mut conn, .. } = prepared(database, true).await;
        let stored: QueryResult<()> = outbox.transaction(&mut conn, async |tx| {
            tx.enqueue(chain(3)).await?;
            assert_eq!(probe.seen(), Vec::<String>::new(), "ran before the commit");
            Ok(())
        }).await;
        stored.unwrap();
        assert_eq!(probe.seen(), ["3 to go", "2 to go", "1 to go", "0 to go"]);
        assert_eq!(count(&mut conn, "consistency_task WHERE state = 2").await, 4);
        let dropped = outbox.transaction(&mut conn, async |tx| {
            tx.enqueue(chain(3)).await?;
            Err::<(), _>(Error::RollbackTransaction)
        }).await;
        assert_eq!(dropped, Err(Error::RollbackTransaction));
        assert_eq!((probe.seen().len(), count(&mut conn, "consistency_task").await), (4, 4));
    }

    async fn everything_happens_inside_a_test_transaction_and_goes_with_it(database: &Database) {
        in_a_test_transaction(prepared(database, false).await).await;
        // Nobody else has seen any of it.
        assert_eq!((database.count("consistency_task", "1 = 1"), database.count("effect", "1 = 1")), (0, 0));
    }

    async fn it_works_on_the_one_thread_of_a_tokio_test(database: &Database) {
        on_one_thread(|| async { in_a_test_transaction(prepared(database, false).await).await });
        assert_eq!(database.count("consistency_task", "1 = 1"), 0);
    }

    async fn a_body_that_blocks_does_not_block_the_thread_of_a_tokio_test(database: &Database) {
        let seen = on_one_thread(|| async {
            let mut set = prepared(database, true).await;
            let (probe, go) = (set.probe.clone(), set.go.clone());
            // On this very thread, so that it comes to it only while the body is waited for.
            let other = async {
                while probe.seen().is_empty() {
                    tokio::task::yield_now().await;
                }
                go.raise();
            };
            tokio::join!(store(&mut set, blocks()), other);
            set.probe.seen()
        });
        assert_eq!(seen, ["blocks", "let go"]);
    }

    async fn a_panicking_closure_inside_a_test_transaction_takes_only_its_own(database: &Database) {
        let mut set = prepared(database, true).await;
        set.conn.begin_test_transaction().await.unwrap();
        store(&mut set, text("kept")).await;
        let panicking = set.outbox.transaction(&mut set.conn, async |tx| -> QueryResult<()> {
            tx.enqueue(text("dropped").key("dropped")).await?;
            panic!("in the closure")
        });
        let panicked = std::panic::AssertUnwindSafe(panicking).catch_unwind().await;
        assert!(panicked.is_err());
        store(&mut set, text("also kept")).await;
        assert_eq!(set.probe.seen(), ["kept", "also kept"]);
        assert_eq!(count(&mut set.conn, "consistency_task").await, 2);
    }

    async fn arguments_go_through_the_table_as_they_do_in_earnest(database: &Database) {
        let mut set = prepared(database, true).await;
        store(&mut set, open_session(Session { user: "ann".to_owned(), cache: Some("warm".to_owned()) })).await;
        assert_eq!(set.probe.seen(), ["ann None"]);
    }

    async fn failures_are_told_by_name_and_reason_and_stand_in_the_table(database: &Database) {
        let Set { outbox, mut conn, .. } = prepared(database, false).await;
        let stored = outbox.transaction(&mut conn, async |tx| {
            tx.enqueue(fails("the reason".to_owned())).await?;
            tx.enqueue(panics()).await?;
            tx.enqueue(panics_in_tx()).await?;
            tx.enqueue(take(true)).await?;
            tx.enqueue(text("fine")).await
        }).await;
        let stored: QueryResult<_> = stored;
        stored.unwrap();
        let mut report = outbox.run_pending(&mut conn).await.unwrap();
        report.failures.sort();
        let names: Vec<_> = report.failures.iter().map(|(name, _)| name.trim_start_matches("async_test_outbox.")).collect();
        assert_eq!((report.succeeded, names), (1, vec!["fails", "panics", "panics_in_tx", "take"]));
        let reasons = ["the reason", "in the body", "in the transaction", "told to fail"];
        for ((_, error), reason) in report.failures.iter().zip(reasons) {
            assert!(error.contains(reason), "{report:?}");
        }
        assert_eq!(count(&mut conn, "consistency_task WHERE state = 3 AND error_message = 'the reason'").await, 1);
        assert_eq!(count(&mut conn, "consistency_task WHERE state = 4").await, 2);
        assert_eq!(count(&mut conn, "consistency_task WHERE state = 3 AND execute_times = 1").await, 2);
        assert_eq!(count(&mut conn, "effect").await, 0);
        // Due again in an hour, so nothing more to do.
        assert_eq!(outbox.run_pending(&mut conn).await.unwrap(), TestReport::default());
    }

    async fn the_same_checks_hold_as_in_earnest(database: &Database) {
        let missing = Outbox::for_test::<Conn>().build().unwrap_err();
        let missing = missing.problems().iter().filter(|problem| matches!(problem, Problem::MissingState { .. })).count();
        assert_eq!(missing, 6, "five want a probe, one of them a latch too");
        let Set { outbox, mut conn, .. } = prepared(database, true).await;
        let refused = outbox.transaction(&mut conn, async |tx| tx.enqueue(text("never").priority(10)).await).await;
        let refused: QueryResult<_> = refused;
        assert!(enqueue_error(&refused.unwrap_err()).is_some());
        assert_eq!(count(&mut conn, "consistency_task").await, 0);
    }
}
