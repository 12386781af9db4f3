//! The whole way on diesel-async's connections, in one look: what is committed runs, wherever its future is polled, and writes
//! in a transaction of its own.

#![cfg(feature = "async")]

use std::sync::Arc;
use std::time::Duration;

use consistency_core::state::State;
use consistency_diesel::async_prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_async_database;
use consistency_tests::stage::{Probe, Stage, business};
use diesel::ExpressionMethods;
use diesel::result::Error;
use diesel_async::RunQueryDsl;

#[consistency_task]
async fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
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
            Ok::<_, Error>(name.len())
        }).await;
        assert_eq!(stored.unwrap(), 4);
        assert_eq!(counted, 1);
        stage.probe.wait_for(1);
        assert_eq!((stage.names(), stage.probe.seen()), (vec![name.clone()], vec![name]));
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

    async fn a_transactional_task_writes_and_completes_at_once(database: &Database) {
        let stage = Stage::on(database);
        stage.run_async::<Conn>(write(1, "bolt")).await;
        assert_eq!(stage.names(), ["bolt"]);
        assert_eq!(database.count("consistency_task", "state = 2"), 1);
    }

    async fn questions_are_answered_awaited_and_in_the_middle_of_a_future(database: &Database) {
        let stage = Stage::on(database);
        let task_id = stage.run_async::<Conn>(note("asked for".to_owned())).await;
        let awaited = stage.outbox.status(&task_id).await.unwrap().unwrap();
        assert_eq!((awaited.state, Some(awaited.clone())), (State::Succeeded, stage.outbox.status_blocking(&task_id).unwrap()));
        assert_eq!(stage.outbox.prune_blocking(Duration::from_secs(3600), 10).unwrap(), 0);
        assert_eq!(stage.outbox.prune(Duration::ZERO, 10).await.unwrap(), 1);
    }
}
