//! A key is unique on diesel-async's connections too: a second call with it changes nothing and names the first, within one
//! transaction and between several.

#![cfg(feature = "async")]

use std::sync::Arc;

use consistency_core::enqueue::ExistingTask;
use consistency_core::state::State;
use consistency_diesel::async_connection::AsyncTaskConnection;
use consistency_diesel::async_prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_async_database;
use consistency_tests::stage::{Probe, Stage, give_up};
use diesel::result::QueryResult;
use tokio::sync::Notify;

#[consistency_task]
async fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

/// Says that it runs, then waits to be let go.
#[consistency_task]
async fn held(text: String, #[inject] probe: &Probe, #[inject] release: &Arc<Notify>) {
    probe.saw(text);
    release.notified().await;
}

fn text(text: &str) -> Call {
    note(text.to_owned())
}

fn stage(database: &Database) -> (Stage<'_>, Arc<Notify>) {
    let release = Arc::new(Notify::new());
    (Stage::with(database, |builder| builder.inject(Arc::clone(&release))), release)
}

for_each_async_database! {
    async fn the_same_key_twice_in_one_transaction_is_stored_once(database: &Database) {
        let (stage, _) = stage(database);
        let mut conn = database.async_connection::<Conn>().await;
        let (first, second) = stage.outbox.transaction(&mut conn, async |tx| {
            let first = tx.enqueue(text("first").key("order-1")).await?;
            let second = tx.enqueue(text("second").key("order-1")).await?;
            // A duplicate leaves the transaction usable, on PostgreSQL too.
            tx.enqueue(text("other")).await?;
            QueryResult::Ok((first, second))
        }).await.unwrap();
        stage.recorder.wait_for_count(2, State::Succeeded);
        assert_eq!(first, Receipt::Enqueued("order-1".to_owned()));
        let row = database.row("order-1");
        let twin = ExistingTask { id: row.id, task_id: "order-1".to_owned(), state: State::Pending };
        assert_eq!(second, Receipt::Duplicate(twin));
        assert_eq!(stage.probe.seen_sorted(), ["first", "other"]);
        assert_eq!((row.task_parameter, stage.tasks()), (r#"{"text":"first"}"#.to_owned(), 2));
    }

    async fn a_duplicate_tells_the_id_and_the_state_of_the_task_that_holds_the_key(database: &Database) {
        let (stage, release) = stage(database);
        let mut conn = database.async_connection::<Conn>().await;
        stage.commit_async::<Conn>(held("first".to_owned()).key("k")).await;
        stage.probe.wait_for(1);
        let id = database.row("k").id;
        for state in [State::Running, State::Succeeded] {
            let again: QueryResult<Receipt> =
                stage.outbox.transaction(&mut conn, async |tx| tx.enqueue(text("twin").key("k")).await).await;
            assert_eq!(again, Ok(Receipt::Duplicate(ExistingTask { id, task_id: "k".to_owned(), state })));
            release.notify_one();
            stage.recorder.wait_for_settled("k", State::Succeeded);
        }
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["first".to_owned()], 1));
        assert_eq!(database.row("k").version, 1, "a duplicate changes nothing");
    }

    async fn of_two_transactions_at_once_the_second_waits_and_finds_the_duplicate(database: &Database) {
        let (stage, _) = stage(database);
        let first_id = concurrently::<Conn>(&stage, true).await;
        stage.recorder.wait_for_settled("shared", State::Succeeded);
        assert_eq!(first_id, Some(database.row("shared").id));
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["first".to_owned()], 1));
    }

    async fn of_two_transactions_at_once_the_second_gets_the_key_the_first_gave_up(database: &Database) {
        let (stage, _) = stage(database);
        assert_eq!(concurrently::<Conn>(&stage, false).await, None);
        stage.recorder.wait_for_settled("shared", State::Succeeded);
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["second".to_owned()], 1));
    }

    async fn many_futures_with_one_key_store_one_task(database: &Database) {
        let (stage, _) = stage(database);
        let mut futures = Vec::new();
        for number in 0..8 {
            let (outbox, mut conn) = (stage.outbox.clone(), database.async_connection::<Conn>().await);
            futures.push(tokio::spawn(async move {
                let call = note(format!("future {number}")).key("one");
                outbox.transaction(&mut conn, async |tx| tx.enqueue(call).await).await
            }));
        }
        let mut stored = 0;
        for future in futures {
            let receipt: QueryResult<Receipt> = future.await.unwrap();
            stored += usize::from(!receipt.unwrap().is_duplicate());
        }
        assert_eq!((stored, stage.tasks()), (1, 1));
        stage.recorder.wait_for_settled("one", State::Succeeded);
        assert_eq!(stage.probe.seen().len(), 1);
    }
}

/// Two transactions enqueue the same key: the second begins while the first is open. Returns the id the second was told of.
async fn concurrently<C: AsyncTaskConnection>(stage: &Stage<'_>, first_commits: bool) -> Option<i64> {
    let mut first = stage.database.async_connection::<C>().await;
    let mut second = stage.database.async_connection::<C>().await;
    let outbox = stage.outbox.clone();
    let begun = Arc::new(Notify::new());
    let begin = Arc::clone(&begun);
    let waiting = tokio::spawn(async move {
        begun.notified().await;
        outbox.transaction(&mut second, async |tx| tx.enqueue(text("second").key("shared")).await).await
    });
    let ended = stage.outbox.transaction(&mut first, async |tx| {
        tx.enqueue(text("first").key("shared")).await?;
        begin.notify_one();
        // It waits for our lock (on SQLite for the write lock); whether it already does makes no difference.
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "the second transaction did not wait for the first");
        if first_commits { Ok(()) } else { give_up() }
    });
    assert_eq!(ended.await.is_ok(), first_commits);
    let receipt: QueryResult<Receipt> = waiting.await.unwrap();
    match receipt.unwrap() {
        Receipt::Duplicate(existing) => Some(existing.id),
        Receipt::Enqueued(_) => None,
    }
}
