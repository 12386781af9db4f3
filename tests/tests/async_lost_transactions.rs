//! A transaction on one of diesel-async's connections that ended underneath: an error the closure ignored, a COMMIT of the
//! user's own, a connection that was cut. Its drivers know less of that than Diesel's own. Whatever happened, no task is stored
//! without its business row, and nothing is called committed that is not.

#![cfg(feature = "async")]

use std::sync::Arc;

use consistency_core::state::State;
use consistency_diesel::async_connection::AsyncTaskConnection;
use consistency_diesel::async_prelude::*;
use consistency_diesel::error::TransactionError;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::for_each_async_database;
use consistency_tests::stage::{Probe, Stage, business};
use diesel::ExpressionMethods;
use diesel::result::{Error, QueryResult};
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};
use tokio::sync::Notify;

#[consistency_task]
async fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

fn text(text: &str) -> Call {
    note(text.to_owned())
}

/// What a closure does about tasks after its transaction has ended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    Nothing,
    Plain,
    Keyed,
}

const EACH: [Then; 3] = [Then::Nothing, Then::Plain, Then::Keyed];

impl Then {
    fn call(self) -> Option<Call> {
        match self {
            Then::Nothing => None,
            Then::Plain => Some(text("ghost")),
            Then::Keyed => Some(text("ghost").key("ghost")),
        }
    }
}

fn insert(id: i32, name: &str) -> String {
    format!("INSERT INTO business (id, name) VALUES ({id}, '{name}')")
}

#[track_caller]
fn assert_lost(ended: &QueryResult<()>) {
    let found = ended.as_ref().map_err(TransactionError::of);
    assert!(matches!(found, Err(Some(TransactionError::Lost))), "{ended:?}");
}

/// The connection works again, or says clearly that it does not; nothing but the witness is stored or has run.
async fn assert_usable_or_broken<C: AsyncTaskConnection>(stage: &Stage<'_>, conn: &mut C) {
    let witness: QueryResult<_> = stage.outbox.transaction(conn, async |tx| tx.enqueue(text("witness")).await).await;
    let witness = match witness {
        Ok(receipt) => receipt.task_id().to_owned(),
        Err(error) => {
            assert!(matches!(TransactionError::of(&error), Some(TransactionError::BrokenConnection)), "{error}");
            stage.commit_async::<C>(text("witness")).await
        }
    };
    stage.recorder.wait_for_settled(&witness, State::Succeeded);
    stage.outbox.shutdown().await;
    assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["witness".to_owned()], 1));
}

for_each_async_database! {
    items {
        async fn enqueue(tx: &mut TaskTx<'_, Conn>, then: Then) -> QueryResult<()> {
            match then.call() {
                Some(call) => tx.enqueue(call).await.map(drop),
                None => Ok(()),
            }
        }

        /// One of two transactions that take each other's row, and ignore every error.
        async fn rival(outbox: Outbox, mut conn: Conn, [me, other]: [i32; 2], name: &str, meet: [Arc<Notify>; 2], keyed: bool) -> QueryResult<()> {
            let call = if keyed { text(name).key(name) } else { text(name) };
            let [tell, told] = meet;
            outbox.transaction(&mut conn, async |tx| {
                tx.batch_execute(&insert(me + 10, name)).await?;
                tx.batch_execute(&format!("UPDATE business SET name = '{name}' WHERE id = {me}")).await?;
                tell.notify_one();
                told.notified().await;
                // The one that loses hears of it here, and does not care.
                let _ = tx.batch_execute(&format!("UPDATE business SET name = '{name}' WHERE id = {other}")).await;
                let _ = tx.enqueue(call).await;
                Ok(())
            }).await
        }

        #[consistency_task(name = "ends_itself", retry_every = "10ms", max_attempts = 6)]
        async fn ends_itself(#[context] cx: &TaskContext, #[tx] tx: &mut TaskTx<'_, Conn>) -> QueryResult<()> {
            let attempt = cx.attempt();
            tx.batch_execute(&insert(attempt as i32, "written")).await?;
            let ends = ["ROLLBACK", "COMMIT", "ROLLBACK; BEGIN"];
            if let Some(end) = ends.get(attempt as usize - 1) {
                for part in end.split("; ") {
                    tx.batch_execute(part).await?;
                }
            }
            Ok(())
        }
    }

    /// SQLite has one writer and so no deadlocks.
    async fn a_swallowed_deadlock_stores_neither_the_task_nor_the_business_row(database: &Database) {
        if BACKEND == Backend::Sqlite {
            return;
        }
        let stage = Stage::on(database);
        for keyed in [false, true] {
            database.execute("INSERT INTO business (id, name) VALUES (1, 'x'), (2, 'y')");
            let (a_there, b_there) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let [first, second] = [database.async_connection().await, database.async_connection().await];
            let meet = [Arc::clone(&a_there), Arc::clone(&b_there)];
            let a = tokio::spawn(rival(stage.outbox.clone(), first, [1, 2], "a", meet, keyed));
            let b = tokio::spawn(rival(stage.outbox.clone(), second, [2, 1], "b", [b_there, a_there], keyed));
            let (a, b) = (a.await.unwrap(), b.await.unwrap());
            let (winner, loser) = if a.is_ok() { ("a", b) } else { ("b", a) };
            assert!(loser.is_err(), "both are said to be committed");
            // Its rows, in both places and no other.
            assert_eq!(stage.names(), [winner, winner, winner]);
            stage.recorder.wait_for_count(1 + usize::from(keyed), State::Succeeded);
            assert_eq!((stage.probe.seen().last().map(String::as_str), stage.tasks()), (Some(winner), 1 + i64::from(keyed)));
            database.execute("DELETE FROM business");
        }
    }

    async fn a_swallowed_violation_ends_the_transaction_on_postgresql_alone(database: &Database) {
        let stage = Stage::on(database);
        database.execute(&insert(1, "taken"));
        for (id, then) in (2..).zip(EACH) {
            let mut conn = database.async_connection::<Conn>().await;
            let ended: QueryResult<()> = stage.outbox.transaction(&mut conn, async |tx| {
                diesel::insert_into(business::table).values((business::id.eq(id), business::name.eq("second"))).execute(tx).await?;
                let twin = (business::id.eq(1), business::name.eq("twin"));
                diesel::insert_into(business::table).values(twin).execute(tx).await.unwrap_err();
                enqueue(tx, then).await
            }).await;
            assert_eq!(ended.is_ok(), BACKEND != Backend::Postgres, "{then:?}: {ended:?}");
        }
        if BACKEND == Backend::Postgres {
            assert_eq!((stage.names(), stage.tasks()), (vec!["taken".to_owned()], 0));
        } else {
            stage.recorder.wait_for_count(2, State::Succeeded);
            assert_eq!((stage.names().len(), stage.tasks()), (4, 2));
        }
    }

    async fn an_own_commit_in_the_closure_leaves_no_ghost_task(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        for (id, then) in (1..).zip(EACH) {
            let ended = stage.outbox.transaction(&mut conn, async |tx| {
                tx.batch_execute(&insert(id, "by hand")).await?;
                tx.batch_execute("COMMIT").await?;
                enqueue(tx, then).await
            }).await;
            assert_lost(&ended);
            assert_eq!(stage.tasks(), 0);
        }
        assert_eq!(stage.names(), ["by hand", "by hand", "by hand"]);
        assert_usable_or_broken(&stage, &mut conn).await;
    }

    async fn an_own_rollback_in_the_closure_leaves_no_ghost_task(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        for then in EACH {
            let ended = stage.outbox.transaction(&mut conn, async |tx| {
                tx.batch_execute(&insert(1, "gone")).await?;
                // Stored at once, and gone with the rest.
                tx.enqueue(text("before").key("before")).await?;
                tx.batch_execute("ROLLBACK").await?;
                enqueue(tx, then).await
            }).await;
            assert_lost(&ended);
        }
        assert_eq!((stage.names(), stage.tasks()), (vec![], 0));
        assert_usable_or_broken(&stage, &mut conn).await;
    }

    /// The level around a savepoint knows nothing of the ROLLBACK inside it.
    async fn an_own_rollback_inside_a_savepoint_leaves_no_ghost_task(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        for then in EACH {
            let ended = stage.outbox.transaction(&mut conn, async |tx| {
                tx.batch_execute(&insert(1, "gone")).await?;
                tx.enqueue(text("before")).await?;
                let inner = tx.transaction(async |tx| {
                    tx.batch_execute("ROLLBACK").await?;
                    enqueue(tx, then).await
                }).await;
                inner.expect_err("the savepoint is gone");
                enqueue(tx, then).await
            }).await;
            assert_lost(&ended);
        }
        assert_eq!((stage.names(), stage.tasks()), (vec![], 0));
        assert_usable_or_broken(&stage, &mut conn).await;
    }

    /// Nothing shows that it is another transaction but the proof that went with the first.
    async fn an_own_rollback_and_begin_in_the_closure_leaves_no_ghost_task(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let again: &[&str] = match BACKEND {
            Backend::Sqlite => &["ROLLBACK; BEGIN"],
            Backend::Postgres => &["ROLLBACK; BEGIN", "ROLLBACK AND CHAIN"],
            Backend::Mysql => &["ROLLBACK; START TRANSACTION", "ROLLBACK AND CHAIN"],
        };
        for (again, then) in again.iter().flat_map(|again| EACH.map(|then| (again, then))) {
            let ended = stage.outbox.transaction(&mut conn, async |tx| {
                tx.batch_execute(&insert(1, "gone")).await?;
                tx.batch_execute(again).await?;
                enqueue(tx, then).await
            }).await;
            assert_lost(&ended);
        }
        assert_eq!((stage.names(), stage.tasks()), (vec![], 0));
        assert_usable_or_broken(&stage, &mut conn).await;
    }

    async fn a_task_that_ends_its_transaction_itself_is_not_taken_for_done(database: &Database) {
        let stage = Stage::on(database);
        let task_id = stage.run_async::<Conn>(ends_itself()).await;
        assert_eq!(database.row(&task_id).execute_times, 4);
        // What it committed by hand, and what came with its completion.
        assert_eq!((database.count("business", "id = 2"), database.count("business", "id = 4"), stage.names().len()), (1, 1, 2));
    }

    async fn an_error_of_the_database_at_the_flush_is_the_callers_and_nothing_is_stored(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        database.execute("ALTER TABLE consistency_task RENAME TO consistency_away");
        let ended: QueryResult<Receipt> = stage.outbox.transaction(&mut conn, async |tx| {
            tx.batch_execute(&insert(1, "gone")).await?;
            tx.enqueue(text("gone")).await
        }).await;
        assert!(matches!(ended, Err(Error::DatabaseError(..))), "{ended:?}");
        database.execute("ALTER TABLE consistency_away RENAME TO consistency_task");
        assert_eq!((stage.names(), stage.tasks()), (vec![], 0));
        assert_usable_or_broken(&stage, &mut conn).await;
    }

    /// A SQLite database is a file in this process: no connection to it can be cut.
    async fn a_connection_cut_in_the_closure_is_the_callers_error_and_nothing_is_stored(database: &Database) {
        let (whoami, kill): (&str, fn(i64) -> String) = match BACKEND {
            Backend::Sqlite => return,
            Backend::Postgres => ("pg_backend_pid()::bigint", |me| format!("SELECT pg_terminate_backend({me})")),
            Backend::Mysql => ("CAST(CONNECTION_ID() AS SIGNED)", |me| format!("KILL {me}")),
        };
        let stage = Stage::on(database);
        for then in EACH {
            let mut conn = database.async_connection::<Conn>().await;
            let ended = stage.outbox.transaction(&mut conn, async |tx| {
                tx.batch_execute(&insert(1, "gone")).await?;
                tx.enqueue(text("gone")).await?;
                let me: i64 = diesel::select(diesel::dsl::sql::<diesel::sql_types::BigInt>(whoami)).get_result(tx).await?;
                database.execute(&kill(me));
                enqueue(tx, then).await
            }).await;
            assert!(ended.is_err(), "{then:?}: {ended:?}");
            assert_eq!((stage.names(), stage.tasks()), (vec![], 0));
            let again = stage.outbox.transaction(&mut conn, async |tx| enqueue(tx, Then::Plain).await).await;
            assert!(!again.unwrap_err().to_string().is_empty());
        }
        stage.run_async::<Conn>(text("witness")).await;
        stage.outbox.shutdown().await;
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["witness".to_owned()], 1));
    }
}
