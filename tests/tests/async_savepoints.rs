//! diesel-async's savepoints inside the helper: one that is rolled back drops exactly its own calls, whichever way they are
//! stored.

#![cfg(feature = "async")]

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use consistency_core::state::State;
use consistency_diesel::async_prelude::*;
use consistency_diesel::error::TransactionError;
use consistency_tests::database::Database;
use consistency_tests::for_each_async_database;
use consistency_tests::stage::{Probe, Stage, business, give_up};
use diesel::ExpressionMethods;
use diesel::result::{DatabaseErrorKind, Error, QueryResult};
use diesel_async::{AsyncConnection, RunQueryDsl, TransactionManager};
use futures_util::FutureExt;

#[consistency_task]
async fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

/// Waits for the three calls of each of `levels`; nothing else was stored or has run.
async fn assert_exactly(stage: &Stage<'_>, levels: &[&str]) {
    stage.recorder.wait_for_count(levels.len() * 3, State::Succeeded);
    stage.outbox.shutdown().await;
    let kinds = ["delayed", "keyed", "plain"];
    let mut expected: Vec<String> =
        levels.iter().flat_map(|level| kinds.map(|kind| format!("{level}-{kind}"))).collect();
    expected.sort();
    assert_eq!(stage.probe.seen_sorted(), expected);
    assert_eq!(stage.tasks(), expected.len() as i64);
}

#[track_caller]
fn assert_lost(ended: QueryResult<()>) {
    let error = ended.unwrap_err();
    assert!(matches!(TransactionError::of(&error), Some(TransactionError::Lost)), "{error}");
}

for_each_async_database! {
    items {
        /// Stores one call of each kind, named after `level`.
        async fn enqueue_each(tx: &mut TaskTx<'_, Conn>, level: &str) -> QueryResult<()> {
            tx.enqueue(note(format!("{level}-plain"))).await?;
            tx.enqueue(note(format!("{level}-keyed")).key(format!("{level}-key"))).await?;
            tx.enqueue(note(format!("{level}-delayed")).delay(Duration::from_millis(1))).await?;
            Ok(())
        }

        type Manager<'tx> = <TaskTx<'tx, Conn> as AsyncConnection>::TransactionManager;
    }

    async fn a_rolled_back_savepoint_drops_exactly_its_own_calls(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let ended: QueryResult<()> = stage.outbox.transaction(&mut conn, async |tx| {
            enqueue_each(tx, "before").await?;
            let inner = tx.transaction(async |tx| {
                enqueue_each(tx, "inner").await?;
                give_up::<()>()
            }).await;
            assert_eq!(inner, Err(Error::RollbackTransaction));
            enqueue_each(tx, "after").await
        }).await;
        ended.unwrap();
        assert_exactly(&stage, &["before", "after"]).await;
    }

    async fn savepoints_in_savepoints_drop_or_keep_level_by_level(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let ended: QueryResult<()> = stage.outbox.transaction(&mut conn, async |tx| {
            enqueue_each(tx, "outer").await?;
            // Released inside, rolled back around: gone. Rolled back inside, released around: half gone.
            tx.transaction(async |tx| {
                enqueue_each(tx, "x1").await?;
                tx.transaction(async |tx| enqueue_each(tx, "x2").await).await?;
                give_up::<()>()
            }).await.unwrap_err();
            tx.transaction(async |tx| {
                enqueue_each(tx, "kept1").await?;
                tx.transaction(async |tx| {
                    enqueue_each(tx, "x3").await?;
                    give_up::<()>()
                }).await.unwrap_err();
                tx.transaction(async |tx| enqueue_each(tx, "kept2").await).await?;
                enqueue_each(tx, "kept3").await
            }).await
        }).await;
        ended.unwrap();
        assert_exactly(&stage, &["outer", "kept1", "kept2", "kept3"]).await;
    }

    async fn a_key_of_a_rolled_back_savepoint_is_free_again(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let receipt: QueryResult<Receipt> = stage.outbox.transaction(&mut conn, async |tx| {
            tx.transaction(async |tx| {
                tx.enqueue(note("dropped".to_owned()).key("once")).await?;
                give_up::<()>()
            }).await.unwrap_err();
            tx.enqueue(note("kept".to_owned()).key("once")).await
        }).await;
        assert_eq!(receipt, Ok(Receipt::Enqueued("once".to_owned())));
        stage.recorder.wait_for_settled("once", State::Succeeded);
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["kept".to_owned()], 1));
    }

    async fn released_savepoints_of_a_rolled_back_transaction_leave_nothing(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let rolled_back = stage.outbox.transaction(&mut conn, async |tx| {
            tx.transaction(async |tx| {
                enqueue_each(tx, "a").await?;
                tx.transaction(async |tx| enqueue_each(tx, "b").await).await
            }).await?;
            give_up::<()>()
        }).await;
        assert_eq!(rolled_back, Err(Error::RollbackTransaction));
        assert_eq!(stage.tasks(), 0);
        stage.outbox.transaction(&mut conn, async |tx| enqueue_each(tx, "witness").await).await.unwrap();
        assert_exactly(&stage, &["witness"]).await;
    }

    async fn a_violation_inside_a_savepoint_is_survived_on_every_database(database: &Database) {
        let stage = Stage::on(database);
        database.execute("INSERT INTO business (id, name) VALUES (1, 'taken')");
        let mut conn = database.async_connection::<Conn>().await;
        let ended: QueryResult<usize> = stage.outbox.transaction(&mut conn, async |tx| {
            enqueue_each(tx, "outer").await?;
            let violated = tx.transaction(async |tx| {
                enqueue_each(tx, "inner").await?;
                diesel::insert_into(business::table).values((business::id.eq(1), business::name.eq("twin"))).execute(tx).await
            }).await;
            assert!(matches!(violated, Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _))), "{violated:?}");
            diesel::insert_into(business::table).values((business::id.eq(2), business::name.eq("second"))).execute(tx).await
        }).await;
        ended.unwrap();
        assert_eq!(stage.names(), ["second", "taken"]);
        assert_exactly(&stage, &["outer"]).await;
    }

    /// diesel-async's `transaction` does not catch panics, so one that is caught around it leaves its savepoint open.
    async fn a_savepoint_left_open_by_a_caught_panic_never_half_commits(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let ended = stage.outbox.transaction(&mut conn, async |tx| {
            enqueue_each(tx, "outer").await?;
            let inner = tx.transaction(async |tx| -> QueryResult<()> {
                enqueue_each(tx, "inner").await?;
                panic!("inside the savepoint")
            });
            assert!(AssertUnwindSafe(inner).catch_unwind().await.is_err());
            QueryResult::Ok(())
        }).await;
        assert_lost(ended);
        stage.outbox.transaction(&mut conn, async |tx| enqueue_each(tx, "witness").await).await.unwrap();
        assert_exactly(&stage, &["witness"]).await;
    }

    async fn a_savepoint_begun_by_hand_and_left_open_never_half_commits(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let ended = stage.outbox.transaction(&mut conn, async |tx| {
            enqueue_each(tx, "outer").await?;
            Manager::begin_transaction(tx).await?;
            enqueue_each(tx, "inner").await
        }).await;
        assert_lost(ended);
        stage.outbox.transaction(&mut conn, async |tx| enqueue_each(tx, "witness").await).await.unwrap();
        assert_exactly(&stage, &["witness"]).await;
    }

    /// The calls enqueued since would outlive what was written with them.
    async fn a_savepoint_ended_on_the_connection_inside_never_half_commits(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        for rolls_back in [true, false] {
            let ended = stage.outbox.transaction(&mut conn, async |tx| {
                enqueue_each(tx, "outer").await?;
                Manager::begin_transaction(tx).await?;
                diesel::insert_into(business::table).values((business::id.eq(1), business::name.eq("inner"))).execute(tx).await?;
                tx.enqueue(note("inner".to_owned())).await?;
                if rolls_back {
                    <Conn as AsyncConnection>::TransactionManager::rollback_transaction(tx.connection()).await
                } else {
                    <Conn as AsyncConnection>::TransactionManager::commit_transaction(tx.connection()).await
                }
            }).await;
            assert_lost(ended);
            assert_eq!((stage.names(), stage.tasks()), (vec![], 0));
        }
        stage.outbox.transaction(&mut conn, async |tx| enqueue_each(tx, "witness").await).await.unwrap();
        assert_exactly(&stage, &["witness"]).await;
    }

    async fn the_closure_cannot_end_the_transaction_through_diesel(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let ended: QueryResult<()> = stage.outbox.transaction(&mut conn, async |tx| {
            let committed = Manager::commit_transaction(tx).await;
            assert!(matches!(committed, Err(Error::NotInTransaction)), "{committed:?}");
            let rolled_back = Manager::rollback_transaction(tx).await;
            assert!(matches!(rolled_back, Err(Error::NotInTransaction)), "{rolled_back:?}");
            enqueue_each(tx, "kept").await
        }).await;
        ended.unwrap();
        assert_exactly(&stage, &["kept"]).await;
    }

    /// Between its savepoints the closure may wait for anything, on whichever thread it goes on.
    async fn savepoints_work_in_a_spawned_future(database: &Database) {
        let stage = Stage::on(database);
        let (outbox, mut conn) = (stage.outbox.clone(), database.async_connection::<Conn>().await);
        let level = Arc::new("kept".to_owned());
        let ended = tokio::spawn(async move {
            outbox.transaction(&mut conn, async |tx| {
                tx.transaction(async |tx| {
                    tokio::task::yield_now().await;
                    enqueue_each(tx, &level).await?;
                    tokio::task::yield_now().await;
                    QueryResult::Ok(())
                }).await
            }).await
        });
        ended.await.unwrap().unwrap();
        assert_exactly(&stage, &["kept"]).await;
    }
}
