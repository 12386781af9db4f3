//! `async` `#[tx]` tasks: their writes, their completion and what they enqueue are one transaction, so that each has its effect
//! exactly once, whatever its attempts go through.

#![cfg(feature = "async")]

use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::async_prelude::*;
use consistency_diesel::error::TransactionError;
use consistency_tests::database::Database;
use consistency_tests::for_each_async_database;
use consistency_tests::recorder::wait_until;
use consistency_tests::stage::{Probe, Stage, business};
use diesel::result::{Error, QueryResult};
use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};

#[consistency_task(name = "note")]
async fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

fn text(text: &str) -> Call {
    note(text.to_owned())
}

diesel::table! {
    stock (sku) {
        sku -> Integer,
        quantity -> Integer,
    }
}

for_each_async_database! {
    items {
        async fn insert(tx: &mut TaskTx<'_, Conn>, id: i32, name: &str) -> QueryResult<()> {
            let row = (business::id.eq(id), business::name.eq(name));
            diesel::insert_into(business::table).values(row).execute(tx).await.map(drop)
        }

        /// Writes and enqueues in every way, also in a savepoint it gives up.
        async fn write_and_enqueue(tx: &mut TaskTx<'_, Conn>, attempt: u32) -> QueryResult<()> {
            insert(tx, 1, &format!("attempt {attempt}")).await?;
            tx.enqueue(note(format!("plain of attempt {attempt}"))).await?;
            tx.enqueue(note(format!("keyed of attempt {attempt}")).key("child")).await?;
            let dropped = tx.transaction(async |tx| {
                insert(tx, 2, "dropped").await?;
                tx.enqueue(text("dropped")).await?;
                tx.enqueue(text("dropped").key("dropped")).await?;
                Err::<(), _>(Error::RollbackTransaction)
            }).await;
            assert_eq!(dropped, Err(Error::RollbackTransaction));
            Ok(())
        }

        #[consistency_task(name = "take", retry_every = "10ms")]
        async fn take(#[tx] tx: &mut TaskTx<'_, Conn>, #[context] cx: &TaskContext) -> anyhow::Result<()> {
            write_and_enqueue(tx, cx.attempt()).await?;
            anyhow::ensure!(cx.attempt() > 2, "attempt {} fails", cx.attempt());
            Ok(())
        }

        #[consistency_task(name = "panic_in_tx", retry_every = "10ms")]
        async fn panic_in_tx(#[tx] tx: &mut TaskTx<'_, Conn>, #[context] cx: &TaskContext) -> QueryResult<()> {
            write_and_enqueue(tx, cx.attempt()).await?;
            tokio::task::yield_now().await;
            assert!(cx.attempt() > 1, "the first attempt panics");
            Ok(())
        }

        /// Panics with a savepoint open.
        #[consistency_task(name = "panic_in_savepoint", retry_every = "10ms")]
        async fn panic_in_savepoint(#[tx] tx: &mut TaskTx<'_, Conn>, #[context] cx: &TaskContext) -> QueryResult<()> {
            insert(tx, 1, "outer").await?;
            tx.transaction(async |tx| {
                insert(tx, 2, "inner").await?;
                tx.enqueue(text("inner")).await?;
                assert!(cx.attempt() > 1, "the first attempt panics");
                QueryResult::Ok(())
            }).await
        }

        /// Enqueues by both ways.
        #[consistency_task(name = "both_ways", retry_every = "10ms")]
        async fn both_ways(#[tx] tx: &mut TaskTx<'_, Conn>, #[context] cx: &TaskContext) -> anyhow::Result<()> {
            cx.enqueue(note(format!("context, attempt {}", cx.attempt())))?;
            tx.enqueue(note(format!("transaction, attempt {}", cx.attempt()))).await?;
            let refused = tx.enqueue(text("refused").priority(10)).await;
            anyhow::ensure!(refused.is_err(), "a call it must not make was taken");
            anyhow::ensure!(cx.attempt() > 1, "the first attempt fails");
            Ok(())
        }

        /// Its first attempt ends the transaction under itself.
        #[consistency_task(name = "end_it", retry_every = "10ms")]
        async fn end_it(#[tx] tx: &mut TaskTx<'_, Conn>, #[context] cx: &TaskContext) -> QueryResult<()> {
            insert(tx, 1, &format!("attempt {}", cx.attempt())).await?;
            if cx.attempt() == 1 {
                tx.batch_execute("ROLLBACK").await?;
            }
            tx.enqueue(note(format!("attempt {}", cx.attempt()))).await.map(drop)
        }

        /// Savepoints in savepoints, kept and dropped by level.
        #[consistency_task(name = "levels")]
        async fn levels(#[tx] tx: &mut TaskTx<'_, Conn>) -> QueryResult<()> {
            tx.enqueue(text("outside")).await?;
            tx.transaction(async |tx| {
                insert(tx, 1, "first level").await?;
                tx.enqueue(text("first level")).await?;
                let dropped = tx.transaction(async |tx| {
                    tx.transaction(async |tx| {
                        insert(tx, 2, "third level").await?;
                        tx.enqueue(text("third level")).await
                    }).await?;
                    tx.enqueue(text("second level").key("second")).await?;
                    Err::<(), _>(Error::RollbackTransaction)
                }).await;
                assert_eq!(dropped, Err(Error::RollbackTransaction));
                tx.transaction(async |tx| tx.enqueue(text("second level, kept").key("second")).await).await
            }).await?;
            // What a savepoint survives, its task survives.
            let violation = tx.transaction(async |tx| insert(tx, 1, "taken").await).await;
            assert!(matches!(violation, Err(Error::DatabaseError(..))), "{violation:?}");
            insert(tx, 3, "after").await
        }

        /// Takes one from stock; the first attempt of every third fails after that, of every other third it panics.
        #[consistency_task(name = "sell", retry_every = "5ms")]
        async fn sell(number: u32, #[tx] tx: &mut TaskTx<'_, Conn>, #[context] cx: &TaskContext) -> anyhow::Result<()> {
            let one_less = stock::quantity.eq(stock::quantity - 1);
            diesel::update(stock::table.find(1)).set(one_less).execute(&mut *tx).await?;
            tx.enqueue(note(number.to_string())).await?;
            if cx.attempt() == 1 {
                assert!(number % 3 != 1, "told to panic");
                anyhow::ensure!(number % 3 != 2, "told to fail");
            }
            Ok(())
        }
    }

    async fn failed_attempts_leave_nothing_and_the_good_one_leaves_its_effect_once(database: &Database) {
        let stage = Stage::on(database);
        let task_id = stage.run_async::<Conn>(take()).await;
        stage.recorder.wait_for_count(3, State::Succeeded);
        assert_eq!(stage.recorder.count(State::Failed), 2);
        assert_eq!(stage.names(), ["attempt 3"]);
        assert_eq!(stage.probe.seen_sorted(), ["keyed of attempt 3", "plain of attempt 3"]);
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.error_message), (State::Succeeded, 3, None));
        assert_eq!(stage.tasks(), 3);
    }

    async fn a_failed_attempt_is_rolled_back_before_its_row_says_so(database: &Database) {
        let stage = Stage::on(database);
        let task_id = stage.commit_async::<Conn>(take()).await;
        // A written row never stands beside a failed task, nor is one ever without its completed task.
        wait_until("the task to succeed", || {
            let written = "(SELECT COUNT(*) FROM business) * 10";
            let completed = format!("(SELECT COUNT(*) FROM consistency_task WHERE task_id = '{task_id}' AND state = 2)");
            let seen = database.texts(&format!("SELECT CAST({written} + {completed} AS CHAR(5)) AS value"));
            assert!(["0", "11"].contains(&seen[0].trim()), "{seen:?}");
            seen[0].trim() == "11"
        });
    }

    async fn a_panic_leaves_nothing_either(database: &Database) {
        let stage = Stage::on(database);
        let task_id = stage.run_async::<Conn>(panic_in_tx()).await;
        stage.recorder.wait_for_count(3, State::Succeeded);
        assert_eq!(stage.names(), ["attempt 2"]);
        assert_eq!(stage.probe.seen_sorted(), ["keyed of attempt 2", "plain of attempt 2"]);
        assert_eq!((database.row(&task_id).execute_times, stage.tasks()), (2, 3));
    }

    async fn a_panic_inside_a_savepoint_leaves_nothing_of_any_level(database: &Database) {
        let stage = Stage::with(database, |builder| builder.transaction_connections(1));
        let task_id = stage.run_async::<Conn>(panic_in_savepoint()).await;
        stage.recorder.wait_for_count(2, State::Succeeded);
        assert_eq!((stage.names(), stage.probe.seen()), (vec!["inner".to_owned(), "outer".to_owned()], vec!["inner".to_owned()]));
        assert_eq!((database.row(&task_id).execute_times, stage.tasks()), (2, 2));
        let told = stage.recorder.events().iter().any(|event| {
            matches!(event, Event::Settled { error: Some(error), .. } if error.contains("the first attempt panics"))
        });
        assert!(told, "{:#?}", stage.recorder.events());
    }

    async fn a_task_may_enqueue_through_its_context_and_its_transaction(database: &Database) {
        let stage = Stage::on(database);
        stage.run_async::<Conn>(both_ways()).await;
        stage.recorder.wait_for_count(3, State::Succeeded);
        assert_eq!(stage.probe.seen_sorted(), ["context, attempt 2", "transaction, attempt 2"]);
        assert_eq!((stage.tasks(), stage.recorder.count(State::Failed)), (3, 1));
    }

    async fn a_child_whose_key_exists_changes_nothing(database: &Database) {
        let stage = Stage::on(database);
        stage.run_async::<Conn>(text("was there before").key("child")).await;
        stage.run_async::<Conn>(take()).await;
        stage.recorder.wait_for_count(3, State::Succeeded);
        assert_eq!(stage.probe.seen_sorted(), ["plain of attempt 3", "was there before"]);
        assert_eq!((stage.names(), stage.tasks()), (vec!["attempt 3".to_owned()], 3));
    }

    async fn a_task_that_ends_its_transaction_itself_fails_and_leaves_no_ghost(database: &Database) {
        let stage = Stage::on(database);
        let task_id = stage.run_async::<Conn>(end_it()).await;
        stage.recorder.wait_for_count(2, State::Succeeded);
        assert_eq!((stage.names(), stage.probe.seen()), (vec!["attempt 2".to_owned()], vec!["attempt 2".to_owned()]));
        assert_eq!((database.row(&task_id).execute_times, stage.tasks()), (2, 2));
        let lost = TransactionError::Lost.to_string();
        stage.recorder.wait_for("the reason in the event", |events| events.iter().any(|event| {
            matches!(event, Event::Settled { error: Some(error), .. } if error.contains(&lost))
        }));
    }

    async fn savepoints_inside_keep_and_drop_their_own(database: &Database) {
        let stage = Stage::on(database);
        stage.run_async::<Conn>(levels()).await;
        stage.recorder.wait_for_count(4, State::Succeeded);
        assert_eq!(stage.names(), ["after", "first level"]);
        assert_eq!(stage.probe.seen_sorted(), ["first level", "outside", "second level, kept"]);
        assert_eq!((stage.tasks(), stage.recorder.count(State::Failed)), (4, 0));
    }

    async fn many_at_once_take_each_their_own_exactly_once(database: &Database) {
        const SALES: u32 = 120;
        let stage = Stage::with(database, |builder| builder.transaction_connections(4));
        database.execute("CREATE TABLE stock (sku INTEGER NOT NULL PRIMARY KEY, quantity INTEGER NOT NULL)");
        database.execute(&format!("INSERT INTO stock (sku, quantity) VALUES (1, {SALES})"));
        let mut conn = database.async_connection::<Conn>().await;
        let stored = stage.outbox.transaction(&mut conn, async |tx| {
            for number in 0..SALES {
                tx.enqueue(sell(number)).await?;
            }
            QueryResult::Ok(())
        }).await;
        stored.unwrap();
        stage.recorder.wait_for_count(2 * SALES as usize, State::Succeeded);
        assert_eq!(database.number("quantity FROM stock WHERE sku = 1"), 0);
        let mut told: Vec<u32> = stage.probe.seen().iter().map(|number| number.parse().unwrap()).collect();
        told.sort_unstable();
        assert_eq!(told, (0..SALES).collect::<Vec<_>>());
        assert_eq!(database.count("consistency_task", "state = 2"), 2 * i64::from(SALES));
        assert_eq!(stage.recorder.count(State::Failed), SALES as usize * 2 / 3);
    }
}
