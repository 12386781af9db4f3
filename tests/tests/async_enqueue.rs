//! Calls belong to the transaction on diesel-async's connections too: stored and run when it commits, gone without a trace when
//! it does not, and refused by name where they cannot be stored.

#![cfg(feature = "async")]

use std::sync::Arc;
use std::time::Duration;

use consistency_core::error::EnqueueError;
use consistency_core::state::State;
use consistency_diesel::async_connection::AsyncTaskConnection;
use consistency_diesel::async_prelude::*;
use consistency_diesel::error::enqueue_error;
use consistency_tests::database::Database;
use consistency_tests::for_each_async_database;
use consistency_tests::stage::{Probe, Stage, business, give_up};
use diesel::ExpressionMethods;
use diesel::result::{Error, QueryResult};
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde::{Deserialize, Serialize, Serializer};
use tokio::sync::Mutex;

#[consistency_task]
async fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

/// Loses something on its way through the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Session {
    user: String,
    number: f64,
    #[serde(skip)]
    cache: Option<String>,
}

#[consistency_task]
fn immediate(session: Session, #[inject] probe: &Probe) {
    probe.saw(format!("{} {:?} {:?}", session.user, session.number, session.cache));
}

#[consistency_task(run_on = caller)]
async fn on_caller(session: &Session, #[inject] probe: &Probe) {
    probe.saw(format!("{} {:?} {:?}", session.user, session.number, session.cache));
}

/// Refuses to be written.
#[derive(Debug, Clone, Deserialize)]
struct Secret;

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a secret is not for the table"))
    }
}

#[consistency_task(name = "async_enqueue.leak")]
fn leak(secret: Secret) {
    let _ = secret;
}

fn text(text: &str) -> Call {
    note(text.to_owned())
}

/// Every way a call can be stored.
fn every_kind(prefix: &str) -> Vec<Call> {
    let named = |kind: &str| note(format!("{prefix}-{kind}"));
    vec![
        named("plain"),
        named("keyed").key(format!("{prefix}-key")),
        named("delayed").delay(Duration::from_millis(1)),
        named("ordered").ordered_by(format!("{prefix}-order")),
    ]
}

/// The connection works; nothing but the witness it stores has been stored or has run, or will.
async fn assert_nothing_but_a_witness<C: AsyncTaskConnection>(stage: &Stage<'_>, conn: &mut C) {
    let witness: QueryResult<_> = stage.outbox.transaction(conn, async |tx| tx.enqueue(text("witness")).await).await;
    let witness = witness.unwrap();
    stage.recorder.wait_for_settled(witness.task_id(), State::Succeeded);
    stage.outbox.shutdown().await;
    assert_eq!(stage.probe.seen(), ["witness"]);
    assert_eq!((stage.names(), stage.tasks()), (vec![], 1));
}

#[derive(Debug)]
enum ShopError {
    SoldOut,
    Database(Error),
}

impl From<Error> for ShopError {
    fn from(error: Error) -> Self {
        ShopError::Database(error)
    }
}

for_each_async_database! {
    items {
        /// A business row and a call of every kind.
        async fn place(tx: &mut TaskTx<'_, Conn>, id: i32, name: &str) -> QueryResult<Vec<Receipt>> {
            diesel::insert_into(business::table).values((business::id.eq(id), business::name.eq(name))).execute(tx).await?;
            let mut receipts = Vec::new();
            for call in every_kind(name) {
                receipts.push(tx.enqueue(call).await?);
            }
            Ok(receipts)
        }
    }

    async fn a_rolled_back_transaction_leaves_no_row_and_no_run(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let rolled_back = stage.outbox.transaction(&mut conn, async |tx| {
            place(tx, 1, "gone").await?;
            give_up::<()>()
        }).await;
        assert_eq!(rolled_back, Err(Error::RollbackTransaction));
        assert_nothing_but_a_witness(&stage, &mut conn).await;
    }

    async fn a_committed_transaction_has_its_rows_and_their_runs(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let receipts = stage.outbox.transaction(&mut conn, async |tx| place(tx, 1, "kept").await).await.unwrap();
        for receipt in &receipts {
            assert!(!receipt.is_duplicate());
            stage.recorder.wait_for_settled(receipt.task_id(), State::Succeeded);
            let row = database.row(receipt.task_id());
            assert_eq!((row.state(), row.execute_times, row.error_message), (State::Succeeded, 1, None));
        }
        assert_eq!(receipts[1].task_id(), "kept-key");
        assert_eq!(stage.probe.seen_sorted(), ["kept-delayed", "kept-keyed", "kept-ordered", "kept-plain"]);
        assert_eq!((stage.names(), stage.tasks()), (vec!["kept".to_owned()], 4));
    }

    async fn an_error_in_the_closure_rolls_back_and_the_connection_stays_usable(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let refused: Result<(), ShopError> = stage.outbox.transaction(&mut conn, async |tx| {
            place(tx, 1, "gone").await?;
            Err(ShopError::SoldOut)
        }).await;
        assert!(matches!(refused, Err(ShopError::SoldOut)), "{refused:?}");
        let broken: Result<(), ShopError> = stage.outbox.transaction(&mut conn, async |tx| {
            tx.enqueue(text("gone")).await?;
            diesel::sql_query("SELECT nonsense FROM nowhere").execute(tx).await?;
            Ok(())
        }).await;
        assert!(matches!(broken, Err(ShopError::Database(Error::DatabaseError(..)))), "{broken:?}");
        assert_nothing_but_a_witness(&stage, &mut conn).await;
    }

    async fn a_panic_in_the_closure_rolls_back_and_the_connection_stays_usable(database: &Database) {
        let stage = Stage::on(database);
        let conn = Arc::new(Mutex::new(database.async_connection::<Conn>().await));
        for depth in ["before the first await", "in the middle", "in a savepoint"] {
            let (outbox, conn) = (stage.outbox.clone(), Arc::clone(&conn));
            let panicked = tokio::spawn(async move {
                let mut conn = conn.lock().await;
                outbox.transaction(&mut *conn, async |tx| -> QueryResult<()> {
                    assert!(depth != "before the first await", "{depth}");
                    place(tx, 1, "gone").await?;
                    assert!(depth != "in the middle", "{depth}");
                    tx.transaction(async |tx| {
                        tx.enqueue(text("gone")).await?;
                        panic!("{depth}")
                    }).await
                }).await
            });
            let payload = panicked.await.unwrap_err().into_panic();
            assert_eq!(payload.downcast_ref::<String>().map(String::as_str), Some(depth));
        }
        assert_nothing_but_a_witness(&stage, &mut *conn.lock().await).await;
    }

    async fn two_calls_are_stored_both_or_not_at_all(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        for commits in [false, true] {
            let pairs = [(text("a"), text("b")), (text("c").key("c"), text("d")), (text("e"), text("f").key("f"))];
            for (first, second) in pairs {
                let ended = stage.outbox.transaction(&mut conn, async |tx| {
                    tx.enqueue(first).await?;
                    tx.enqueue(second).await?;
                    if commits { Ok(()) } else { give_up() }
                }).await;
                assert_eq!(ended.is_ok(), commits);
            }
            assert_eq!(stage.tasks(), if commits { 6 } else { 0 });
        }
        stage.recorder.wait_for_count(6, State::Succeeded);
        assert_eq!(stage.probe.seen_sorted(), ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(stage.tasks(), 6);
    }

    async fn a_second_connection_sees_nothing_before_the_commit(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let hidden = stage.outbox.transaction(&mut conn, async |tx| {
            place(tx, 1, "hidden").await?;
            assert_eq!((stage.tasks(), stage.names()), (0, vec![]));
            assert!(stage.outbox.status("hidden-key").await.unwrap().is_none());
            assert_eq!(stage.probe.seen(), Vec::<String>::new());
            QueryResult::Ok(())
        }).await;
        hidden.unwrap();
        assert_eq!((stage.tasks(), stage.names()), (4, vec!["hidden".to_owned()]));
        stage.recorder.wait_for_count(4, State::Succeeded);
    }

    async fn a_flush_larger_than_one_statement_is_stored_whole_or_not_at_all(database: &Database) {
        let calls = 2_100;
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        for commits in [false, true] {
            let ended = stage.outbox.transaction(&mut conn, async |tx| {
                for number in 0..calls {
                    tx.enqueue(note(format!("{number:04}"))).await?;
                }
                if commits { Ok(()) } else { give_up() }
            }).await;
            assert_eq!((ended.is_ok(), stage.tasks()), (commits, if commits { calls } else { 0 }));
        }
        stage.recorder.wait_for_count(calls as usize, State::Succeeded);
        let expected: Vec<String> = (0..calls).map(|number| format!("{number:04}")).collect();
        assert_eq!(stage.probe.seen_sorted(), expected);
        assert_eq!(database.count("consistency_task", "state = 2 AND execute_times = 1"), calls);
    }

    async fn a_refused_call_names_the_reason_and_the_transaction_goes_on(database: &Database) {
        let stage = Stage::with(database, |builder| builder.max_argument_bytes(1_000));
        let mut conn = database.async_connection::<Conn>().await;
        let stored: QueryResult<Receipt> = stage.outbox.transaction(&mut conn, async |tx| {
            for call in [text(&"x".repeat(1_000)), text(&"x".repeat(1_000)).key("k")] {
                let error = tx.enqueue(call).await.unwrap_err();
                assert!(matches!(enqueue_error(&error), Some(EnqueueError::TooLarge { .. })), "{error:?}");
                assert!(error.to_string().contains("max_argument_bytes"), "{error}");
            }
            let error = tx.enqueue(leak(Secret)).await.unwrap_err();
            assert!(matches!(enqueue_error(&error), Some(EnqueueError::Unserializable { .. })), "{error:?}");
            assert!(error.to_string().contains("async_enqueue.leak"), "{error}");
            let error = tx.enqueue(text("x").priority(10)).await.unwrap_err();
            assert!(matches!(enqueue_error(&error), Some(EnqueueError::BadModifier { .. })), "{error:?}");
            diesel::insert_into(business::table).values((business::id.eq(1), business::name.eq("other"))).execute(tx).await?;
            tx.enqueue(text("kept")).await
        }).await;
        stage.recorder.wait_for_settled(stored.unwrap().task_id(), State::Succeeded);
        assert_eq!(stage.probe.seen(), ["kept"]);
        assert_eq!((stage.names(), stage.tasks()), (vec!["other".to_owned()], 1));
    }

    async fn arguments_arrive_by_way_of_the_table_on_every_path(database: &Database) {
        let stage = Stage::on(database);
        let user = format!("NUL \0 😀 \\ ' \" % $1 ? {}", "\u{10ffff}ß".repeat(20_000));
        let given = Session { user: user.clone(), number: -0.0, cache: Some("warm".to_owned()) };
        // By the flush, by the insert that is not the flush, and as part of the caller's future.
        stage.run_async::<Conn>(immediate(given.clone())).await;
        stage.run_async::<Conn>(immediate(given.clone()).key("keyed")).await;
        stage.run_async::<Conn>(on_caller(&given)).await;
        let arrived = format!("{user} -0.0 None");
        assert_eq!(stage.probe.seen(), [arrived.as_str(); 3]);
    }
}
