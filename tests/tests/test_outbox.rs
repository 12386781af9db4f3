//! The outbox for tests of applications: inline or by hand, through the table, inside a test transaction, failures told.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use consistency_core::error::Problem;
use consistency_diesel::error::enqueue_error;
use consistency_diesel::prelude::*;
use consistency_diesel::test_outbox::{TestOutbox, TestReport};
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::stage::{Probe, give_up};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use serde::{Deserialize, Serialize};

#[consistency_task]
fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

#[consistency_task]
async fn async_note(text: String, #[inject] probe: &Probe) {
    tokio::time::sleep(Duration::from_millis(1)).await;
    probe.saw(text);
}

#[consistency_task(name = "test_outbox.fails", retry_every = "1h")]
fn fails(reason: String) -> Result<(), String> {
    Err(reason)
}

#[consistency_task(name = "test_outbox.panics", max_attempts = 1)]
fn panics() {
    panic!("in the body");
}

#[consistency_task]
fn chain(length: u32, #[context] cx: &TaskContext, #[inject] probe: &Probe) -> anyhow::Result<()> {
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
fn open_session(session: Session, #[inject] probe: &Probe) {
    probe.saw(format!("{} {:?}", session.user, session.cache));
}

fn text(text: &str) -> Call {
    note(text.to_owned())
}

for_each_database! {
    items {
        #[consistency_task(name = "test_outbox.take", retry_every = "1h")]
        fn take(fails: bool, #[tx] tx: &mut TaskTx<Conn>) -> anyhow::Result<()> {
            tx.batch_execute("INSERT INTO effect (id) VALUES (1)")?;
            tx.enqueue(text("child of the transaction"))?;
            anyhow::ensure!(!fails, "told to fail");
            Ok(())
        }

        /// A migrated database with a table of the application's own, an outbox without threads, and a connection.
        fn prepared(database: &Database, inline: bool) -> (TestOutbox, Probe, Conn) {
            database.migrate();
            database.execute("CREATE TABLE effect (id INTEGER NOT NULL)");
            let probe = Probe::default();
            let builder = Outbox::for_test::<Conn>().inject(probe.clone());
            let outbox = if inline { builder.inline() } else { builder }.build().unwrap();
            (outbox, probe, database.connection::<Conn>())
        }

        /// Counted on the test's own connection, which sees what is not committed.
        fn count(conn: &mut Conn, from: &str) -> i64 {
            let count = format!("(SELECT COUNT(*) FROM {from})");
            diesel::select(diesel::dsl::sql::<diesel::sql_types::BigInt>(&count)).get_result(conn).unwrap()
        }

        fn effects(conn: &mut Conn) -> i64 {
            count(conn, "effect")
        }

        fn task_rows(conn: &mut Conn, condition: &str) -> i64 {
            count(conn, &format!("consistency_task WHERE {condition}"))
        }
    }

    fn by_hand_nothing_runs_before_it_is_asked_for(database: &Database) {
        let (outbox, probe, mut conn) = prepared(database, false);
        outbox.transaction(&mut conn, |tx| {
            tx.enqueue(text("a"))?;
            tx.enqueue(text("b").key("b"))?;
            tx.enqueue(async_note("c".to_owned()))?;
            tx.enqueue(text("later").delay(Duration::from_secs(3600)))
        }).unwrap();
        assert_eq!((probe.seen(), task_rows(&mut conn, "state = 0")), (vec![], 4));
        let report = outbox.run_pending(&mut conn).unwrap();
        assert_eq!(report, TestReport { succeeded: 3, failures: vec![] });
        assert_eq!(probe.seen_sorted(), ["a", "b", "c"]);
        assert_eq!((task_rows(&mut conn, "state = 2"), task_rows(&mut conn, "state = 0")), (3, 1));
        assert_eq!(outbox.run_pending(&mut conn).unwrap(), TestReport::default());
    }

    fn inline_everything_due_has_run_when_the_transaction_returns(database: &Database) {
        let (outbox, probe, mut conn) = prepared(database, true);
        outbox.transaction(&mut conn, |tx| {
            tx.enqueue(chain(3))?;
            assert_eq!(probe.seen(), Vec::<String>::new(), "ran before the commit");
            QueryResult::Ok(())
        }).unwrap();
        assert_eq!(probe.seen(), ["3 to go", "2 to go", "1 to go", "0 to go"]);
        assert_eq!(task_rows(&mut conn, "state = 2"), 4);
        outbox.transaction(&mut conn, |tx| {
            tx.enqueue(chain(3))?;
            give_up::<()>()
        }).unwrap_err();
        assert_eq!((probe.seen().len(), task_rows(&mut conn, "1 = 1")), (4, 4));
    }

    fn everything_happens_inside_a_test_transaction_and_goes_with_it(database: &Database) {
        let (outbox, probe, mut conn) = prepared(database, false);
        conn.begin_test_transaction().unwrap();
        outbox.transaction(&mut conn, |tx| {
            tx.transaction(|tx| {
                tx.enqueue(text("dropped"))?;
                give_up::<()>()
            }).unwrap_err();
            tx.enqueue(text("plain"))?;
            tx.enqueue(text("keyed").key("k"))?;
            tx.enqueue(take(false))
        }).unwrap();
        // A second transaction, rolled back through its savepoint; the first one's rows stay.
        outbox.transaction(&mut conn, |tx| {
            tx.enqueue(text("dropped"))?;
            give_up::<()>()
        }).unwrap_err();
        assert_eq!(task_rows(&mut conn, "1 = 1"), 3);
        let report = outbox.run_pending(&mut conn).unwrap();
        assert_eq!(report, TestReport { succeeded: 4, failures: vec![] });
        assert_eq!(probe.seen_sorted(), ["child of the transaction", "keyed", "plain"]);
        assert_eq!((task_rows(&mut conn, "state = 2"), effects(&mut conn)), (4, 1));
        // Nobody else has seen any of it.
        assert_eq!(database.count("consistency_task", "1 = 1"), 0);
        drop(conn);
        assert_eq!((database.count("consistency_task", "1 = 1"), database.count("effect", "1 = 1")), (0, 0));
    }

    fn a_panicking_closure_inside_a_test_transaction_takes_only_its_own(database: &Database) {
        let (outbox, probe, mut conn) = prepared(database, true);
        conn.begin_test_transaction().unwrap();
        outbox.transaction(&mut conn, |tx| tx.enqueue(text("kept"))).unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            outbox.transaction(&mut conn, |tx| -> QueryResult<()> {
                tx.enqueue(text("dropped").key("dropped"))?;
                panic!("in the closure")
            })
        }));
        assert!(panicked.is_err());
        outbox.transaction(&mut conn, |tx| tx.enqueue(text("also kept"))).unwrap();
        assert_eq!((probe.seen(), task_rows(&mut conn, "1 = 1")), (vec!["kept".to_owned(), "also kept".to_owned()], 2));
    }

    fn arguments_go_through_the_table_as_they_do_in_earnest(database: &Database) {
        let (outbox, probe, mut conn) = prepared(database, true);
        let session = Session { user: "ann".to_owned(), cache: Some("warm".to_owned()) };
        outbox.transaction(&mut conn, |tx| tx.enqueue(open_session(session))).unwrap();
        assert_eq!(probe.seen(), ["ann None"]);
    }

    fn failures_are_told_by_name_and_reason_and_stand_in_the_table(database: &Database) {
        let (outbox, _, mut conn) = prepared(database, false);
        outbox.transaction(&mut conn, |tx| {
            tx.enqueue(fails("the reason".to_owned()))?;
            tx.enqueue(panics())?;
            tx.enqueue(take(true))?;
            tx.enqueue(text("fine"))
        }).unwrap();
        let mut report = outbox.run_pending(&mut conn).unwrap();
        report.failures.sort();
        let names: Vec<&str> = report.failures.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((report.succeeded, names), (1, vec!["test_outbox.fails", "test_outbox.panics", "test_outbox.take"]));
        assert_eq!(report.failures[0].1, "the reason");
        assert!(report.failures[1].1.contains("in the body"), "{report:?}");
        assert_eq!(report.failures[2].1, "told to fail");
        assert_eq!((task_rows(&mut conn, "state = 3 AND error_message = 'the reason'"), effects(&mut conn)), (1, 0));
        assert_eq!((task_rows(&mut conn, "state = 4"), task_rows(&mut conn, "state = 3 AND execute_times = 1")), (1, 2));
        // Due again in an hour, so nothing more to do.
        assert_eq!(outbox.run_pending(&mut conn).unwrap(), TestReport::default());
    }

    fn it_works_inside_a_tokio_test_too(database: &Database) {
        let (outbox, probe, mut conn) = prepared(database, true);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            outbox.transaction(&mut conn, |tx| tx.enqueue(async_note("awaited".to_owned()))).unwrap();
        });
        assert_eq!(probe.seen(), ["awaited"]);
    }

    fn the_same_checks_hold_as_in_earnest(database: &Database) {
        let missing = Outbox::for_test::<Conn>().build().unwrap_err();
        let missing = missing.problems().iter().filter(|problem| matches!(problem, Problem::MissingState { .. })).count();
        assert_eq!(missing, 4, "note, async_note, chain and open_session want a probe");
        let (outbox, _, mut conn) = prepared(database, true);
        let refused = outbox.transaction(&mut conn, |tx| tx.enqueue(text("never").priority(10))).unwrap_err();
        assert!(enqueue_error(&refused).is_some(), "{refused:?}");
        assert_eq!(task_rows(&mut conn, "1 = 1"), 0);
    }
}
