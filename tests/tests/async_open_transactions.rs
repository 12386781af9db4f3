//! A transaction that is open already on one of diesel-async's connections: refused with a hint by `transaction`, and what
//! `join` is for.

#![cfg(feature = "async")]

use std::time::{Duration, Instant};

use consistency_core::state::State;
use consistency_diesel::async_prelude::*;
use consistency_diesel::error::TransactionError;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::for_each_async_database;
use consistency_tests::stage::{Probe, Stage, business, give_up};
use diesel::ExpressionMethods;
use diesel::result::{Error, QueryResult};
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};

/// Far below `busy_wait`, which is 10 s.
const AT_ONCE: Duration = Duration::from_secs(5);

#[consistency_task]
async fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

fn text(text: &str) -> Call {
    note(text.to_owned())
}

for_each_async_database! {
    items {
        async fn insert(conn: &mut Conn, id: i32, name: &str) -> QueryResult<usize> {
            diesel::insert_into(business::table).values((business::id.eq(id), business::name.eq(name))).execute(conn).await
        }

        /// Stores `call` in the transaction open on `conn`.
        async fn join(outbox: &Outbox, conn: &mut Conn, call: Call) -> QueryResult<Receipt> {
            outbox.join(conn).await?.enqueue(call).await
        }
    }

    async fn a_transaction_already_open_is_refused_with_a_hint_and_left_alone(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let outer: QueryResult<()> = conn.transaction(async |conn| {
            insert(conn, 1, "kept").await?;
            let mut called = false;
            let asked = Instant::now();
            let refused: QueryResult<Receipt> = stage.outbox.transaction(conn, async |tx| {
                called = true;
                tx.enqueue(text("never")).await
            }).await;
            let error = refused.unwrap_err();
            assert!(matches!(TransactionError::of(&error), Some(TransactionError::AlreadyOpen)), "{error}");
            let message = error.to_string();
            assert!(message.contains("already open") && message.contains("join"), "{message}");
            assert!(asked.elapsed() < AT_ONCE, "it waited for the lock of its own connection: {:?}", asked.elapsed());
            assert!(!called, "the closure ran although there was no transaction for it");
            Ok(())
        }).await;
        outer.unwrap();
        // Neither committed nor rolled back by us, and the connection is as before.
        assert_eq!((stage.names(), stage.tasks()), (vec!["kept".to_owned()], 0));
        let later: QueryResult<Receipt> = stage.outbox.transaction(&mut conn, async |tx| tx.enqueue(text("later")).await).await;
        stage.recorder.wait_for_settled(later.unwrap().task_id(), State::Succeeded);
        assert_eq!(stage.probe.seen(), ["later"]);
    }

    /// Begun with SQL, so that diesel-async knows nothing of it. A plain BEGIN of ours would commit it on MySQL, and join it on
    /// PostgreSQL.
    async fn a_transaction_begun_with_sql_is_refused_and_not_ended(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        for ends_well in [true, false] {
            conn.batch_execute("BEGIN").await.unwrap();
            conn.batch_execute("INSERT INTO business (id, name) VALUES (1, 'not yet')").await.unwrap();
            let refused: QueryResult<()> = stage.outbox.transaction(&mut conn, async |tx| {
                tx.enqueue(text("never")).await?;
                if ends_well { Ok(()) } else { give_up() }
            }).await;
            let error = refused.unwrap_err();
            assert!(matches!(TransactionError::of(&error), Some(TransactionError::AlreadyOpen)), "{error}");
            assert_eq!((stage.names(), stage.tasks()), (vec![], 0), "committed");
            conn.batch_execute("ROLLBACK").await.unwrap();
            assert_eq!((stage.names(), stage.tasks()), (vec![], 0), "not rolled back");
        }
        let later: QueryResult<Receipt> = stage.outbox.transaction(&mut conn, async |tx| tx.enqueue(text("later")).await).await;
        stage.recorder.wait_for_settled(later.unwrap().task_id(), State::Succeeded);
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["later".to_owned()], 1));
    }

    /// It would wait for its own end. Two of the same future, one beside the other, wait for one another's, and that comes.
    async fn on_sqlite_a_transaction_inside_another_is_refused_at_once(database: &Database) {
        if BACKEND != Backend::Sqlite {
            return;
        }
        let stage = Stage::on(database);
        let (mut outer, mut inner) = (database.async_connection::<Conn>().await, database.async_connection::<Conn>().await);
        let asked = Instant::now();
        let ended: QueryResult<Receipt> = stage.outbox.transaction(&mut outer, async |tx| {
            let inner: QueryResult<Receipt> =
                stage.outbox.transaction(&mut inner, async |tx| tx.enqueue(text("never")).await).await;
            let error = inner.unwrap_err();
            assert!(matches!(TransactionError::of(&error), Some(TransactionError::InsideAnother)), "{error}");
            tx.enqueue(text("outer")).await
        }).await;
        ended.unwrap();
        assert!(asked.elapsed() < AT_ONCE, "it waited for itself: {:?}", asked.elapsed());
        let beside = async |conn: &mut Conn, name: &'static str| -> QueryResult<Receipt> {
            stage.outbox.transaction(conn, async |tx| {
                tokio::task::yield_now().await;
                tx.enqueue(text(name)).await
            }).await
        };
        let (one, two) = tokio::join!(beside(&mut outer, "one"), beside(&mut inner, "two"));
        one.unwrap();
        two.unwrap();
        stage.recorder.wait_for_count(3, State::Succeeded);
        assert_eq!((stage.probe.seen_sorted(), stage.tasks()), (["one", "outer", "two"].map(str::to_owned).to_vec(), 3));
    }

    async fn the_helper_inside_itself_is_refused_too(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let ended: QueryResult<Receipt> = stage.outbox.transaction(&mut conn, async |tx| {
            let asked = Instant::now();
            let inner: QueryResult<Receipt> =
                stage.outbox.transaction(tx.connection(), async |tx| tx.enqueue(text("never")).await).await;
            let error = inner.unwrap_err();
            assert!(matches!(TransactionError::of(&error), Some(TransactionError::AlreadyOpen)), "{error}");
            assert!(asked.elapsed() < AT_ONCE, "it waited for its own lock: {:?}", asked.elapsed());
            tx.enqueue(text("outer")).await
        }).await;
        ended.unwrap();
        stage.recorder.wait_for_count(1, State::Succeeded);
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["outer".to_owned()], 1));
    }

    async fn join_stores_pending_and_the_poller_starts_it_after_the_commit(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let receipts = conn.transaction(async |conn| {
            insert(conn, 1, "order").await?;
            let plain = join(&stage.outbox, conn, text("plain")).await?;
            let mut joined = stage.outbox.join(conn).await?;
            let keyed = joined.enqueue(text("keyed").key("k")).await?;
            let delayed = joined.enqueue(text("delayed").delay(Duration::from_millis(1))).await?;
            assert!(joined.enqueue(text("twin").key("k")).await?.is_duplicate());
            assert_eq!((stage.tasks(), stage.probe.seen()), (0, vec![]));
            QueryResult::Ok([plain, keyed, delayed])
        }).await;
        for receipt in receipts.unwrap() {
            stage.recorder.wait_for_settled(receipt.task_id(), State::Succeeded);
            // Claimed, as a row is that nobody held at its insert.
            let row = database.row(receipt.task_id());
            assert_eq!((row.state(), row.execute_times, row.version), (State::Succeeded, 1, 1));
        }
        assert_eq!(stage.probe.seen_sorted(), ["delayed", "keyed", "plain"]);
        assert_eq!((stage.names(), stage.tasks()), (vec!["order".to_owned()], 3));
    }

    async fn join_is_rolled_back_with_the_caller_and_its_savepoints(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let rolled_back = conn.transaction(async |conn| {
            join(&stage.outbox, conn, text("gone")).await?;
            join(&stage.outbox, conn, text("gone").key("k")).await?;
            give_up::<()>()
        }).await;
        assert_eq!((rolled_back, stage.tasks()), (Err(Error::RollbackTransaction), 0));
        let kept = conn.transaction(async |conn| {
            let inner = conn.transaction(async |conn| {
                join(&stage.outbox, conn, text("gone").key("k")).await?;
                give_up::<()>()
            }).await;
            assert_eq!(inner, Err(Error::RollbackTransaction));
            join(&stage.outbox, conn, text("kept").key("k")).await
        }).await;
        kept.unwrap();
        stage.recorder.wait_for_settled("k", State::Succeeded);
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["kept".to_owned()], 1));
    }

    async fn join_without_an_open_transaction_is_refused(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let error = stage.outbox.join(&mut conn).await.map(drop).unwrap_err();
        assert!(matches!(TransactionError::of(&error), Some(TransactionError::NotOpen)), "{error}");
        assert!(error.to_string().contains("outbox.transaction"), "{error}");
        // Nor did it leave one open.
        conn.transaction(async |conn| join(&stage.outbox, conn, text("fine")).await).await.unwrap();
        stage.recorder.wait_for_count(1, State::Succeeded);
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["fine".to_owned()], 1));
    }

    async fn join_notices_that_the_transaction_has_ended_underneath(database: &Database) {
        let stage = Stage::on(database);
        for own_end in ["ROLLBACK", "COMMIT"] {
            let mut conn = database.async_connection::<Conn>().await;
            let mut refused = [None, None];
            let [joined, enqueued] = &mut refused;
            // What diesel-async itself says of the lost transaction differs by database.
            let _: QueryResult<()> = conn.transaction(async |conn| {
                let mut before = stage.outbox.join(conn).await?;
                before.enqueue(text("before").key("before")).await?;
                conn.batch_execute(own_end).await?;
                *joined = stage.outbox.join(conn).await.map(drop).err();
                *enqueued = join(&stage.outbox, conn, text("ghost")).await.err();
                give_up()
            }).await;
            for error in refused {
                let error = error.expect("`join` was refused");
                let found = TransactionError::of(&error);
                assert!(matches!(found, Some(TransactionError::Lost | TransactionError::NotOpen)), "{error}");
            }
            assert_eq!(stage.tasks(), if own_end == "COMMIT" { 1 } else { 0 });
        }
        stage.recorder.wait_for_settled("before", State::Succeeded);
    }
}
