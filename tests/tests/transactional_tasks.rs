//! `#[tx]` tasks: their writes, their completion and what they enqueue are one transaction; and `cx.enqueue`, which goes with
//! the attempt's success.

use std::time::Duration;

use consistency_core::state::State;
use consistency_diesel::blocking_connection::BlockingConnection;
use consistency_diesel::error::TransactionError;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::stage::{Probe, Stage, give_up};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;

#[consistency_task]
fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

fn text(text: &str) -> Call {
    note(text.to_owned())
}

/// Enqueues on its way; the first attempt fails after that.
#[consistency_task(retry_every = "10ms")]
fn parent(#[context] cx: &TaskContext) -> anyhow::Result<()> {
    cx.enqueue(note(format!("child of attempt {}", cx.attempt())))?;
    cx.enqueue(text("keyed child").key("child"))?;
    cx.enqueue(text("late child").delay(Duration::from_millis(1)))?;
    anyhow::ensure!(cx.attempt() > 1, "the first attempt fails");
    Ok(())
}

/// The same, panicking, and `async`.
#[consistency_task(retry_every = "10ms")]
async fn async_parent(#[context] cx: &TaskContext) -> anyhow::Result<()> {
    cx.enqueue(note(format!("child of attempt {}", cx.attempt())))?;
    tokio::task::yield_now().await;
    assert!(cx.attempt() > 1, "the first attempt panics");
    Ok(())
}

/// A call it must not make is refused to it, and it goes on.
#[consistency_task(retry_every = "10ms")]
fn careless_parent(#[context] cx: &TaskContext, #[inject] probe: &Probe) -> anyhow::Result<()> {
    let refused = cx.enqueue(text("refused").priority(10)).unwrap_err();
    probe.saw(refused.to_string());
    cx.enqueue(text("taken"))?;
    Ok(())
}

fn insert(conn: &mut impl SimpleConnection, id: i32, name: &str) -> QueryResult<()> {
    conn.batch_execute(&format!("INSERT INTO business (id, name) VALUES ({id}, '{name}')"))
}

/// The tasks here take a connection of one type; `TaskTx` is all they share.
fn write_and_enqueue<C: BlockingConnection>(tx: &mut TaskTx<C>, attempt: u32) -> QueryResult<()> {
    insert(tx, 1, &format!("attempt {attempt}"))?;
    tx.enqueue(note(format!("plain of attempt {attempt}")))?;
    tx.enqueue(note(format!("keyed of attempt {attempt}")).key("child"))?;
    tx.transaction(|tx| {
        insert(tx, 2, "dropped")?;
        tx.enqueue(text("dropped"))?;
        tx.enqueue(text("dropped").key("dropped"))?;
        give_up::<()>()
    })
    .unwrap_err();
    Ok(())
}

for_each_database! {
    items {
        #[consistency_task(retry_every = "10ms")]
        fn take(#[tx] tx: &mut TaskTx<Conn>, #[context] cx: &TaskContext) -> anyhow::Result<()> {
            write_and_enqueue(tx, cx.attempt())?;
            anyhow::ensure!(cx.attempt() > 2, "attempt {} fails", cx.attempt());
            Ok(())
        }

        #[consistency_task(retry_every = "10ms")]
        fn panic_in_tx(#[tx] tx: &mut TaskTx<Conn>, #[context] cx: &TaskContext) -> QueryResult<()> {
            write_and_enqueue(tx, cx.attempt())?;
            assert!(cx.attempt() > 1, "the first attempt panics");
            Ok(())
        }

        /// Enqueues by both ways.
        #[consistency_task(retry_every = "10ms")]
        fn both_ways(#[tx] tx: &mut TaskTx<Conn>, #[context] cx: &TaskContext) -> anyhow::Result<()> {
            cx.enqueue(note(format!("context, attempt {}", cx.attempt())))?;
            tx.enqueue(note(format!("transaction, attempt {}", cx.attempt())))?;
            anyhow::ensure!(cx.attempt() > 1, "the first attempt fails");
            Ok(())
        }

        /// Its first attempt ends the transaction under itself.
        #[consistency_task(retry_every = "10ms")]
        fn end_it(#[tx] tx: &mut TaskTx<Conn>, #[context] cx: &TaskContext) -> QueryResult<()> {
            insert(tx, 1, &format!("attempt {}", cx.attempt()))?;
            if cx.attempt() == 1 {
                tx.batch_execute("ROLLBACK")?;
            }
            tx.enqueue(note(format!("attempt {}", cx.attempt()))).map(drop)
        }

        #[consistency_task(run_on = caller, retry_every = "10ms")]
        fn on_callers_connection(
            fails: bool,
            #[tx] tx: &mut TaskTx<Conn>,
            #[context] cx: &TaskContext,
            #[inject] probe: &Probe,
        ) -> anyhow::Result<()> {
            if cx.attempt() == 1 {
                // A table only the caller's own connection can see.
                diesel::sql_query("INSERT INTO private_to_the_caller (id) VALUES (1)").execute(tx)?;
                anyhow::ensure!(!fails, "told to fail");
            }
            probe.saw(format!("ran {}", cx.attempt()));
            Ok(())
        }

        fn at<'d>(database: &'d Database, name: &str) -> Stage<'d> {
            Stage::with(database, |builder| builder.only([note::NAME, name]))
        }
    }

    fn what_a_task_enqueues_is_stored_with_its_success_and_not_with_a_failure(database: &Database) {
        let stage = at(database, parent::NAME);
        let task_id = stage.run::<Conn>(parent());
        stage.recorder.wait_for_count(4, State::Succeeded);
        assert_eq!(stage.probe.seen_sorted(), ["child of attempt 2", "keyed child", "late child"]);
        assert_eq!((database.row(&task_id).execute_times, stage.tasks()), (2, 4));
        assert_eq!(database.row("child").state(), State::Succeeded);
    }

    fn what_an_async_task_enqueues_is_not_stored_when_it_panics(database: &Database) {
        let stage = at(database, async_parent::NAME);
        stage.run::<Conn>(async_parent());
        stage.recorder.wait_for_count(2, State::Succeeded);
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["child of attempt 2".to_owned()], 2));
    }

    fn a_refused_call_inside_a_task_leaves_the_task_its_choice(database: &Database) {
        let stage = at(database, careless_parent::NAME);
        stage.run::<Conn>(careless_parent());
        stage.recorder.wait_for_count(2, State::Succeeded);
        let seen = stage.probe.seen();
        assert!(seen[0].contains("priority 10") && seen[1] == "taken", "{seen:?}");
        assert_eq!(stage.tasks(), 2);
    }

    fn a_child_whose_key_exists_changes_nothing(database: &Database) {
        let stage = at(database, parent::NAME);
        stage.run::<Conn>(text("was there before").key("child"));
        stage.run::<Conn>(parent());
        stage.recorder.wait_for_count(4, State::Succeeded);
        assert_eq!(stage.probe.seen_sorted(), ["child of attempt 2", "late child", "was there before"]);
    }

    fn failed_attempts_leave_nothing_and_the_good_one_leaves_its_effect_once(database: &Database) {
        let stage = at(database, take::NAME);
        let task_id = stage.run::<Conn>(take());
        stage.recorder.wait_for_count(3, State::Succeeded);
        assert_eq!(stage.recorder.count(State::Failed), 2);
        assert_eq!(stage.names(), ["attempt 3"]);
        assert_eq!(stage.probe.seen_sorted(), ["keyed of attempt 3", "plain of attempt 3"]);
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.error_message), (State::Succeeded, 3, None));
        assert_eq!(stage.tasks(), 3);
    }

    fn a_panic_leaves_nothing_either(database: &Database) {
        let stage = at(database, panic_in_tx::NAME);
        let task_id = stage.run::<Conn>(panic_in_tx());
        stage.recorder.wait_for_count(3, State::Succeeded);
        assert_eq!(stage.names(), ["attempt 2"]);
        assert_eq!(stage.probe.seen_sorted(), ["keyed of attempt 2", "plain of attempt 2"]);
        assert_eq!((database.row(&task_id).execute_times, stage.tasks()), (2, 3));
    }

    fn writes_and_completion_are_seen_by_others_at_the_same_moment(database: &Database) {
        let stage = at(database, take::NAME);
        let task_id = stage.commit::<Conn>(take());
        // One statement, so one moment: a written row without its completed task must never be seen, nor the reverse.
        consistency_tests::recorder::wait_until("the task to succeed", || {
            let written = "(SELECT COUNT(*) FROM business) * 10";
            let completed = format!("(SELECT COUNT(*) FROM consistency_task WHERE task_id = '{task_id}' AND state = 2)");
            let seen = database.texts(&format!("SELECT CAST({written} + {completed} AS CHAR(5)) AS value"));
            assert!(["0", "11"].contains(&seen[0].trim()), "{seen:?}");
            seen[0].trim() == "11"
        });
    }

    fn a_task_may_enqueue_through_its_context_and_its_transaction(database: &Database) {
        let stage = at(database, both_ways::NAME);
        stage.run::<Conn>(both_ways());
        stage.recorder.wait_for_count(3, State::Succeeded);
        assert_eq!(stage.probe.seen_sorted(), ["context, attempt 2", "transaction, attempt 2"]);
        assert_eq!(stage.tasks(), 3);
    }

    fn a_task_that_ends_its_transaction_itself_fails_and_leaves_no_ghost(database: &Database) {
        let stage = at(database, end_it::NAME);
        let task_id = stage.run::<Conn>(end_it());
        stage.recorder.wait_for_count(2, State::Succeeded);
        assert_eq!((stage.names(), stage.probe.seen()), (vec!["attempt 2".to_owned()], vec!["attempt 2".to_owned()]));
        assert_eq!((database.row(&task_id).execute_times, stage.tasks()), (2, 2));
        let lost = TransactionError::Lost.to_string();
        stage.recorder.wait_for("the reason in the event", |events| events.iter().any(|event| {
            matches!(event, consistency_core::event::Event::Settled { error: Some(error), .. } if error.contains(&lost))
        }));
    }

    fn on_the_callers_thread_it_uses_the_callers_own_connection(database: &Database) {
        let stage = at(database, on_callers_connection::NAME);
        let mut conn = database.connection::<Conn>();
        conn.batch_execute("CREATE TEMPORARY TABLE private_to_the_caller (id INTEGER NOT NULL)").unwrap();
        let receipt = stage.outbox.transaction(&mut conn, |tx| tx.enqueue(on_callers_connection(false))).unwrap();
        assert_eq!(stage.probe.thread_of("ran 1"), Some(std::thread::current().id()));
        let private = |conn: &mut Conn| -> i64 {
            let count = diesel::dsl::sql::<diesel::sql_types::BigInt>("(SELECT COUNT(*) FROM private_to_the_caller)");
            diesel::select(count).get_result(conn).unwrap()
        };
        assert_eq!((private(&mut conn), database.row(receipt.task_id()).state()), (1, State::Succeeded));
        assert_eq!(database.row(receipt.task_id()).execute_times, 1);
        // One that fails there is rolled back there, stored, and left to the poller; the connection goes on.
        let receipt = stage.outbox.transaction(&mut conn, |tx| tx.enqueue(on_callers_connection(true))).unwrap();
        assert_eq!((private(&mut conn), stage.recorder.count(State::Failed)), (1, 1));
        assert_eq!(stage.outbox.transaction(&mut conn, |_| QueryResult::Ok(7)), Ok(7));
        stage.recorder.wait_for_settled(receipt.task_id(), State::Succeeded);
        assert_ne!(stage.probe.thread_of("ran 2"), Some(std::thread::current().id()));
        assert_eq!(database.row(receipt.task_id()).execute_times, 2);
    }
}
