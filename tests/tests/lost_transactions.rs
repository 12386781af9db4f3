//! A transaction that ended underneath: an error the closure ignored, a COMMIT of the user's own, a connection that was cut.
//! Whatever happened, no task is stored without its business row.

use std::sync::mpsc;
use std::thread;

use consistency_core::state::State;
use consistency_diesel::blocking_connection::BlockingConnection;
use consistency_diesel::error::TransactionError;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::DEADLINE;
use consistency_tests::stage::{Probe, Stage, business};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::result::Error;

#[consistency_task]
fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

fn text(text: &str) -> Call {
    note(text.to_owned())
}

fn insert(id: i32, name: &str) -> String {
    format!("INSERT INTO business (id, name) VALUES ({id}, '{name}')")
}

#[track_caller]
fn assert_lost<T: std::fmt::Debug>(ended: &QueryResult<T>) {
    let found = ended.as_ref().map_err(TransactionError::of);
    assert!(matches!(found, Err(Some(TransactionError::Lost))), "{ended:?}");
}

/// The connection works again, or says clearly that it does not; nothing but the witness is stored or has run.
#[track_caller]
fn assert_usable_or_broken<C: BlockingConnection>(stage: &Stage<'_>, conn: &mut C) {
    let witness = match stage.outbox.transaction(conn, |tx| tx.enqueue(text("witness"))) {
        Ok(receipt) => receipt.task_id().to_owned(),
        Err(error) => {
            assert!(matches!(TransactionError::of(&error), Some(TransactionError::BrokenConnection)), "{error}");
            stage.commit::<C>(text("witness"))
        }
    };
    stage.recorder.wait_for_settled(&witness, State::Succeeded);
    stage.outbox.shutdown_blocking();
    assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["witness".to_owned()], 1));
}

/// Two transactions that take each other's row: the database ends one of them. Both closures ignore every error.
fn deadlock<C>(stage: &Stage<'_>, call: impl Fn(&str) -> Call + Sync) -> [(QueryResult<()>, C); 2]
where
    C: BlockingConnection + Send,
{
    let call = &call;
    thread::scope(|scope| {
        let (tell_a, told_a) = mpsc::channel();
        let (tell_b, told_b) = mpsc::channel();
        let run = |me: i32, other: i32, name: &'static str, tell: mpsc::Sender<()>, told: mpsc::Receiver<()>| {
            let mut conn = stage.database.connection::<C>();
            scope.spawn(move || {
                let ended = stage.outbox.transaction(&mut conn, |tx| {
                    tx.batch_execute(&insert(me + 10, name))?;
                    tx.batch_execute(&format!("UPDATE business SET name = '{name}' WHERE id = {me}"))?;
                    tell.send(()).unwrap();
                    told.recv_timeout(DEADLINE).unwrap();
                    // The one that loses hears of it here, and does not care.
                    tx.batch_execute(&format!("UPDATE business SET name = '{name}' WHERE id = {other}")).ok();
                    tx.enqueue(call(name)).ok();
                    Ok(())
                });
                (ended, conn)
            })
        };
        let a = run(1, 2, "a", tell_a, told_b);
        let b = run(2, 1, "b", tell_b, told_a);
        [a.join().unwrap(), b.join().unwrap()]
    })
}

fn assert_only_the_winner_is_stored<C>(stage: &Stage<'_>, ended: [(QueryResult<()>, C); 2])
where
    C: BlockingConnection,
{
    let [(a, conn_a), (b, conn_b)] = ended;
    let (winner, loser, mut conn) = if a.is_ok() { ("a", b, conn_b) } else { ("b", a, conn_a) };
    assert_lost(&loser);
    stage.recorder.wait_for_count(1, State::Succeeded);
    // Its rows, in both places and no other.
    assert_eq!(stage.names(), [winner, winner, winner]);
    assert_eq!((stage.probe.seen(), stage.tasks()), (vec![winner.to_owned()], 1));
    let again = stage.outbox.transaction(&mut conn, |tx| tx.enqueue(text("again"))).unwrap();
    stage.recorder.wait_for_settled(again.task_id(), State::Succeeded);
    assert_eq!(stage.tasks(), 2);
}

for_each_database! {
    /// SQLite has one writer and so no deadlocks.
    fn a_swallowed_deadlock_stores_neither_the_task_nor_the_business_row(database: &Database) {
        if BACKEND != Backend::Sqlite {
            let stage = Stage::on(database);
            database.execute("INSERT INTO business (id, name) VALUES (1, 'x'), (2, 'y')");
            let ended = deadlock::<Conn>(&stage, text);
            assert_only_the_winner_is_stored(&stage, ended);
        }
    }

    fn a_swallowed_deadlock_refuses_keyed_calls_too(database: &Database) {
        if BACKEND != Backend::Sqlite {
            let stage = Stage::on(database);
            database.execute("INSERT INTO business (id, name) VALUES (1, 'x'), (2, 'y')");
            let ended = deadlock::<Conn>(&stage, |name| text(name).key(format!("key-{name}")));
            assert_only_the_winner_is_stored(&stage, ended);
        }
    }

    fn a_swallowed_unique_violation_ends_the_transaction_on_postgresql_alone(database: &Database) {
        let stage = Stage::on(database);
        database.execute(&insert(1, "taken"));
        let mut conn = database.connection::<Conn>();
        let ended = stage.outbox.transaction(&mut conn, |tx| {
            diesel::insert_into(business::table).values((business::id.eq(2), business::name.eq("second"))).execute(tx)?;
            tx.enqueue(text("before"))?;
            let twin = diesel::insert_into(business::table).values((business::id.eq(1), business::name.eq("twin"))).execute(tx);
            assert!(twin.is_err());
            tx.enqueue(text("after")).map(drop)
        });
        if BACKEND == Backend::Postgres {
            assert_lost(&ended);
            assert_eq!(stage.names(), ["taken"]);
            assert_usable_or_broken(&stage, &mut conn);
        } else {
            ended.unwrap();
            stage.recorder.wait_for_count(2, State::Succeeded);
            assert_eq!(stage.probe.seen_sorted(), ["after", "before"]);
            assert_eq!((stage.names(), stage.tasks()), (vec!["second".to_owned(), "taken".to_owned()], 2));
        }
    }

    fn an_own_commit_in_the_closure_leaves_no_ghost_task(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        for (id, keyed) in [(1, false), (2, true)] {
            let ended = stage.outbox.transaction(&mut conn, |tx| {
                tx.batch_execute(&insert(id, "committed by hand"))?;
                tx.batch_execute("COMMIT")?;
                tx.enqueue(if keyed { text("ghost").key("ghost") } else { text("ghost") })
            });
            assert_lost(&ended);
            assert_eq!(stage.tasks(), 0);
        }
        assert_eq!(stage.names(), ["committed by hand", "committed by hand"]);
        assert_usable_or_broken(&stage, &mut conn);
    }

    fn an_own_rollback_in_the_closure_leaves_no_ghost_task(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        for keyed in [false, true] {
            let ended = stage.outbox.transaction(&mut conn, |tx| {
                tx.batch_execute(&insert(1, "gone"))?;
                // Stored at once, and gone with the rest.
                tx.enqueue(text("before").key("before"))?;
                tx.batch_execute("ROLLBACK")?;
                tx.enqueue(if keyed { text("ghost").key("ghost") } else { text("ghost") })
            });
            assert_lost(&ended);
        }
        assert_eq!((stage.names(), stage.tasks()), (vec![], 0));
        assert_usable_or_broken(&stage, &mut conn);
    }

    /// The level around a savepoint knows nothing of the ROLLBACK inside it.
    fn an_own_rollback_inside_a_savepoint_leaves_no_ghost_task(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        for keyed in [false, true] {
            let ended = stage.outbox.transaction(&mut conn, |tx| {
                tx.batch_execute(&insert(1, "gone"))?;
                tx.enqueue(text("before"))?;
                let inner = tx.transaction(|tx| {
                    tx.batch_execute("ROLLBACK")?;
                    tx.enqueue(if keyed { text("ghost").key("ghost") } else { text("ghost") })
                });
                inner.expect_err("the savepoint is gone");
                tx.enqueue(text("after"))
            });
            assert_lost(&ended);
        }
        assert_eq!((stage.names(), stage.tasks()), (vec![], 0));
        assert_usable_or_broken(&stage, &mut conn);
    }

    /// Nothing shows that it is another transaction but the savepoint that went with the first.
    fn an_own_rollback_and_begin_in_the_closure_leaves_no_ghost_task(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        let again: &[&str] = match BACKEND {
            Backend::Sqlite => &["ROLLBACK; BEGIN"],
            Backend::Postgres => &["ROLLBACK; BEGIN", "ROLLBACK AND CHAIN"],
            Backend::Mysql => &["ROLLBACK; START TRANSACTION", "ROLLBACK AND CHAIN"],
        };
        for (again, keyed) in again.iter().flat_map(|again| [(again, false), (again, true)]) {
            let ended = stage.outbox.transaction(&mut conn, |tx| {
                tx.batch_execute(&insert(1, "gone"))?;
                tx.batch_execute(again)?;
                tx.enqueue(if keyed { text("ghost").key("ghost") } else { text("ghost") })
            });
            assert_lost(&ended);
            // Stored at once, gone with the first, and nothing is left to be written.
            let ended = stage.outbox.transaction(&mut conn, |tx| {
                let receipt = tx.enqueue(text("gone").key("gone"))?;
                tx.batch_execute(again)?;
                Ok(receipt)
            });
            assert_lost(&ended);
        }
        assert_eq!((stage.names(), stage.tasks()), (vec![], 0));
        assert_usable_or_broken(&stage, &mut conn);
    }

    /// A SQLite database is a file in this process: no connection to it can be cut.
    fn a_connection_cut_in_the_closure_is_the_callers_error_and_nothing_is_stored(database: &Database) {
        let (whoami, kill): (&str, fn(i64) -> String) = match BACKEND {
            Backend::Sqlite => return,
            Backend::Postgres => ("pg_backend_pid()::bigint", |me| format!("SELECT pg_terminate_backend({me})")),
            Backend::Mysql => ("CONNECTION_ID()", |me| format!("KILL {me}")),
        };
        for keyed in [false, true] {
            let stage = Stage::with(database, |builder| builder.only([note::NAME]));
            let mut conn = database.connection::<Conn>();
            let ended = stage.outbox.transaction(&mut conn, |tx| {
                tx.batch_execute(&insert(1, "gone"))?;
                tx.enqueue(text("gone"))?;
                let me: i64 = diesel::select(diesel::dsl::sql::<diesel::sql_types::BigInt>(whoami)).get_result(tx)?;
                database.execute(&kill(me));
                tx.enqueue(if keyed { text("ghost").key("ghost") } else { text("ghost") })
            });
            assert!(ended.is_err(), "{ended:?}");
            assert_eq!((stage.names(), stage.tasks()), (vec![], 0));
            let error = stage.outbox.transaction(&mut conn, |tx| tx.enqueue(text("ghost"))).unwrap_err();
            assert!(!error.to_string().is_empty());
            stage.run::<Conn>(text("witness"));
            stage.outbox.shutdown_blocking();
            assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["witness".to_owned()], 1));
            database.execute("DROP TABLE business");
            database.execute("DELETE FROM consistency_task");
        }
    }

    fn an_error_of_the_database_at_the_flush_is_the_callers_and_nothing_is_stored(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        database.execute("ALTER TABLE consistency_task RENAME TO consistency_away");
        let ended = stage.outbox.transaction(&mut conn, |tx| {
            tx.batch_execute(&insert(1, "gone"))?;
            tx.enqueue(text("gone"))
        });
        assert!(matches!(ended, Err(Error::DatabaseError(..))), "{ended:?}");
        database.execute("ALTER TABLE consistency_away RENAME TO consistency_task");
        assert_eq!((stage.names(), stage.tasks()), (vec![], 0));
        assert_usable_or_broken(&stage, &mut conn);
    }
}
