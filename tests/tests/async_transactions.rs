//! The transaction helper on diesel-async's connections: what commits runs, what does not leaves nothing, wherever its future
//! is polled, and whatever is borrowed.

use std::sync::Arc;

use consistency_core::state::State;
use consistency_diesel::async_prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_async_database;
use consistency_tests::stage::{Probe, Stage, business};
use diesel::ExpressionMethods;
use diesel::result::Error;
use diesel_async::{AsyncConnection, RunQueryDsl};

#[consistency_task]
async fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

/// An error of the application's own.
#[derive(Debug)]
enum AppError {
    Database(#[allow(dead_code)] Error),
    SoldOut,
}

impl From<Error> for AppError {
    fn from(error: Error) -> Self {
        AppError::Database(error)
    }
}

for_each_async_database! {
    items {
        /// Writes a business row in the transaction that completes the task.
        #[consistency_task(name = "write")]
        async fn write(id: i32, name: &str, #[tx] tx: &mut TaskTx<'_, Conn>) -> diesel::QueryResult<()> {
            insert(tx, id, name).await
        }

        async fn insert(tx: &mut TaskTx<'_, Conn>, id: i32, name: &str) -> diesel::QueryResult<()> {
            diesel::insert_into(business::table)
                .values((business::id.eq(id), business::name.eq(name)))
                .execute(tx)
                .await
                .map(drop)
        }
    }

    async fn what_is_committed_runs_with_its_business_row(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let name = String::from("bolt");
        let mut counted = 0;
        let count = &mut counted;
        let stored = stage.outbox.transaction(&mut conn, async |tx| {
            insert(tx, 1, &name).await?;
            *count += 1;
            tx.enqueue(note(name.clone())).await?;
            Ok::<_, AppError>(name.len())
        }).await;
        assert_eq!(stored.unwrap(), 4);
        assert_eq!(counted, 1);
        stage.probe.wait_for(1);
        assert_eq!((stage.names(), stage.probe.seen()), (vec![name.clone()], vec![name]));
    }

    async fn an_error_of_the_callers_own_rolls_back(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let stored = stage.outbox.transaction(&mut conn, async |tx| {
            insert(tx, 1, "bolt").await?;
            tx.enqueue(note("bolt".to_owned())).await?;
            Err::<(), _>(AppError::SoldOut)
        }).await;
        assert!(matches!(stored, Err(AppError::SoldOut)));
        assert_eq!((stage.tasks(), stage.names()), (0, vec![]));
        stage.run_async::<Conn>(note("witness".to_owned())).await;
        assert_eq!(stage.probe.seen(), ["witness"]);
    }

    async fn the_helper_can_be_spawned(database: &Database) {
        let stage = Stage::on(database);
        let (outbox, mut conn) = (stage.outbox.clone(), database.async_connection::<Conn>().await);
        let name = Arc::new(String::from("nut"));
        let stored = tokio::spawn(async move {
            outbox.transaction(&mut conn, async |tx| {
                insert(tx, 1, &name).await?;
                tx.enqueue(note(name.to_string())).await
            }).await
        });
        let receipt: Result<_, Error> = stored.await.unwrap();
        stage.recorder.wait_for_settled(receipt.unwrap().task_id(), State::Succeeded);
        assert_eq!((stage.names(), stage.probe.seen()), (vec!["nut".to_owned()], vec!["nut".to_owned()]));
    }

    async fn a_rolled_back_savepoint_drops_exactly_its_own_calls(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let stored = stage.outbox.transaction(&mut conn, async |tx| {
            tx.enqueue(note("outer".to_owned())).await?;
            let inner = tx.transaction(async |tx| {
                insert(tx, 1, "inner").await?;
                tx.enqueue(note("inner".to_owned())).await?;
                tx.enqueue(note("inner keyed".to_owned()).key("inner")).await?;
                Err::<(), _>(Error::RollbackTransaction)
            }).await;
            assert_eq!(inner, Err(Error::RollbackTransaction));
            tx.transaction(async |tx| {
                insert(tx, 2, "kept").await?;
                tx.enqueue(note("kept".to_owned())).await
            }).await
        }).await;
        let stored: Result<_, Error> = stored;
        stored.unwrap();
        stage.recorder.wait_for_count(2, State::Succeeded);
        assert_eq!(stage.probe.seen_sorted(), ["kept", "outer"]);
        assert_eq!((stage.tasks(), stage.names()), (2, vec!["kept".to_owned()]));
    }

    async fn a_transactional_task_writes_and_completes_at_once(database: &Database) {
        let stage = Stage::on(database);
        stage.run_async::<Conn>(write(1, "bolt")).await;
        assert_eq!(stage.names(), ["bolt"]);
        assert_eq!(database.count("consistency_task", "state = 2"), 1);
    }
}
