//! Futures of the helper that are given up in the middle: while the closure waits, in a statement, in COMMIT. Nothing of them
//! becomes durable but a whole COMMIT, and the connection says clearly that it is of no more use.

#![cfg(feature = "async")]

use std::future::pending;
use std::sync::Arc;

use consistency_core::state::State;
use consistency_diesel::async_prelude::*;
use consistency_diesel::connection::AsTaskConnection;
use consistency_diesel::error::TransactionError;
use consistency_tests::async_stage::on_one_thread;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::for_each_async_database;
use consistency_tests::recorder::wait_until;
use consistency_tests::stage::{Probe, Stage, business};
use diesel::ExpressionMethods;
use diesel::result::{Error, QueryResult};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, bb8, deadpool, mobc,
};
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};
use tokio::sync::{Mutex, Notify};

#[consistency_task]
async fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

fn text(text: &str) -> Call {
    note(text.to_owned())
}

for_each_async_database! {
    items {
        /// Opens a transaction, writes and enqueues in every way, and is given up while it waits for something else.
        async fn give_up_inside<G>(stage: &Stage<'_>, guard: &mut G, id: i32)
        where
            G: AsTaskConnection<Connection = Conn> + Send,
        {
            let inside = Notify::new();
            let transaction = stage.outbox.transaction(guard, async |tx| {
                diesel::insert_into(business::table).values((business::id.eq(id), business::name.eq("gone"))).execute(tx).await?;
                tx.enqueue(text("gone")).await?;
                tx.enqueue(text("gone").key(format!("gone-{id}"))).await?;
                inside.notify_one();
                pending::<QueryResult<()>>().await
            });
            tokio::select! {
                ended = transaction => panic!("{ended:?}"),
                () = inside.notified() => {}
            }
        }

        /// Neither we nor diesel-async take the connection for more.
        async fn assert_refused(stage: &Stage<'_>, conn: &mut Conn) {
            let ours: QueryResult<Receipt> = stage.outbox.transaction(conn, async |tx| tx.enqueue(text("never")).await).await;
            let error = ours.unwrap_err();
            assert!(matches!(TransactionError::of(&error), Some(TransactionError::BrokenConnection)), "{error}");
            let own = conn.transaction(async |_| QueryResult::Ok(())).await;
            assert!(matches!(own, Err(Error::BrokenTransactionManager)), "{own:?}");
            let joined = stage.outbox.join(conn).await.map(drop).unwrap_err();
            assert!(matches!(TransactionError::of(&joined), Some(TransactionError::Lost)), "{joined}");
        }

        /// The guard commits, and nothing else is stored or runs.
        async fn assert_works<G>(stage: &Stage<'_>, mut guard: G)
        where
            G: AsTaskConnection<Connection = Conn> + Send,
        {
            let witness: QueryResult<Receipt> =
                stage.outbox.transaction(&mut guard, async |tx| tx.enqueue(text("witness")).await).await;
            stage.recorder.wait_for_settled(witness.unwrap().task_id(), State::Succeeded);
            assert_eq!((stage.probe.seen(), stage.names(), stage.tasks()), (vec!["witness".to_owned()], vec![], 1));
        }

        /// Nothing but a witness is stored or runs.
        async fn assert_nothing_but_a_witness(stage: &Stage<'_>) {
            assert_works(stage, stage.database.async_connection::<Conn>().await).await;
        }
    }

    async fn given_up_while_the_closure_waits_it_leaves_nothing_and_its_connection_is_refused(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        give_up_inside(&stage, &mut conn, 1).await;
        assert_refused(&stage, &mut conn).await;
        // Nor does it hold SQLite's lock, though it is not closed.
        assert_nothing_but_a_witness(&stage).await;
        drop(conn);
    }

    async fn on_a_current_thread_runtime_it_is_the_same(database: &Database) {
        let stage = Stage::on(database);
        on_one_thread(|| async {
            let mut conn = database.async_connection::<Conn>().await;
            give_up_inside(&stage, &mut conn, 1).await;
            assert_refused(&stage, &mut conn).await;
        });
        assert_nothing_but_a_witness(&stage).await;
    }

    async fn given_up_in_the_middle_of_a_statement_it_leaves_nothing_and_its_connection_is_refused(database: &Database) {
        let stage = Stage::on(database);
        database.execute("INSERT INTO business (id, name) VALUES (1, 'before')");
        let conn = Arc::new(Mutex::new(database.async_connection::<Conn>().await));
        let mut other = database.async_connection::<Conn>().await;
        // On the servers it waits for a row; on SQLite, where nobody can hold one, it takes long.
        let (statement, running) = match BACKEND {
            Backend::Sqlite => (
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000)
                 UPDATE business SET name = (SELECT MAX(i) FROM n) WHERE id = 1",
                None,
            ),
            Backend::Postgres => (
                "UPDATE business SET name = 'late' WHERE id = 1",
                Some("COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"),
            ),
            Backend::Mysql => (
                "UPDATE business SET name = 'late' WHERE id = 1",
                Some("COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND INFO LIKE 'UPDATE business SET name = ''late''%'"),
            ),
        };
        if running.is_some() {
            other.batch_execute("BEGIN").await.unwrap();
            other.batch_execute("UPDATE business SET name = 'held' WHERE id = 1").await.unwrap();
        }
        let (inside, outbox) = (Arc::new(Notify::new()), stage.outbox.clone());
        let transaction = tokio::spawn({
            let (inside, conn) = (Arc::clone(&inside), Arc::clone(&conn));
            async move {
                let mut conn = conn.lock().await;
                outbox.transaction(&mut *conn, async |tx| {
                    diesel::insert_into(business::table).values((business::id.eq(2), business::name.eq("gone"))).execute(tx).await?;
                    tx.enqueue(text("gone")).await?;
                    tx.enqueue(text("gone").key("gone")).await?;
                    inside.notify_one();
                    tx.batch_execute(statement).await
                }).await
            }
        });
        inside.notified().await;
        if let Some(running) = running {
            wait_until("the statement to wait", || database.number(running) == 1);
        }
        transaction.abort();
        assert!(transaction.await.unwrap_err().is_cancelled());
        assert_refused(&stage, &mut *conn.lock().await).await;
        drop(conn);
        if running.is_some() {
            other.batch_execute("ROLLBACK").await.unwrap();
        }
        stage.run_async::<Conn>(text("witness")).await;
        assert_eq!((stage.probe.seen(), stage.names(), stage.tasks()), (vec!["witness".to_owned()], vec!["before".to_owned()], 1));
    }

    /// On SQLite, where writers wait for their turn before they say anything.
    async fn given_up_while_it_waits_for_its_turn_it_has_not_happened(database: &Database) {
        if BACKEND != Backend::Sqlite {
            return;
        }
        let stage = Stage::on(database);
        let [mut first, mut second, mut third] =
            [database.async_connection::<Conn>().await, database.async_connection().await, database.async_connection().await];
        let ended: QueryResult<()> = stage.outbox.transaction(&mut first, async |tx| {
            let waiting = stage.outbox.transaction(&mut second, async |_| -> QueryResult<()> { panic!("it had its turn") });
            let behind = stage.outbox.transaction(&mut third, async |_| -> QueryResult<()> { panic!("it had its turn") });
            tokio::select! {
                biased;
                _ = waiting => {}
                _ = behind => {}
                () = tokio::task::yield_now() => {}
            }
            tx.enqueue(text("first")).await.map(drop)
        }).await;
        ended.unwrap();
        for (conn, name) in [(&mut second, "second"), (&mut third, "third")] {
            let stored: QueryResult<Receipt> = stage.outbox.transaction(conn, async |tx| tx.enqueue(text(name)).await).await;
            stored.unwrap();
        }
        stage.recorder.wait_for_count(3, State::Succeeded);
        assert_eq!(stage.probe.seen_sorted(), ["first", "second", "third"]);
    }

    async fn deadpool_throws_the_connection_of_a_cancelled_transaction_away(database: &Database) {
        let stage = Stage::on(database);
        let manager = AsyncDieselConnectionManager::new(database.address());
        let pool: deadpool::Pool<Conn> = deadpool::Pool::builder(manager).max_size(1).build().unwrap();
        for id in 1..3 {
            give_up_inside(&stage, &mut pool.get().await.unwrap(), id).await;
        }
        assert_works(&stage, pool.get().await.unwrap()).await;
    }

    async fn bb8_throws_the_connection_of_a_cancelled_transaction_away(database: &Database) {
        let stage = Stage::on(database);
        let manager = AsyncDieselConnectionManager::new(database.address());
        let pool: bb8::Pool<Conn> = bb8::Pool::builder().max_size(1).build(manager).await.unwrap();
        for id in 1..3 {
            give_up_inside(&stage, &mut pool.get().await.unwrap(), id).await;
        }
        assert_works(&stage, pool.get().await.unwrap()).await;
    }

    /// diesel-async keeps exactly the broken ones in a pool of mobc; one that checks them with a transaction does not.
    async fn mobc_throws_the_connection_of_a_cancelled_transaction_away_if_it_checks_with_one(database: &Database) {
        let stage = Stage::on(database);
        let mut config = ManagerConfig::<Conn>::default();
        config.recycling_method = RecyclingMethod::CustomFunction(Box::new(|conn| {
            Box::pin(conn.transaction(async |_| QueryResult::Ok(())))
        }));
        let manager = AsyncDieselConnectionManager::new_with_config(database.address(), config);
        let pool: mobc::Pool<Conn> = mobc::Pool::builder().max_open(1).build(manager);
        for id in 1..3 {
            give_up_inside(&stage, &mut pool.get().await.unwrap(), id).await;
        }
        assert_works(&stage, pool.get().await.unwrap()).await;
    }
}
