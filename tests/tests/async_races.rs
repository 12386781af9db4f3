//! The immediate run, the caller's future and the pollers of several outboxes at the same instant: thousands of calls, stored by
//! many futures at once, one run each.

#![cfg(feature = "async")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::async_prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::for_each_async_database;
use consistency_tests::recorder::Recorder;
use consistency_tests::scene::Probe;
use diesel::result::QueryResult;
use diesel_async::SimpleAsyncConnection;

#[consistency_task(name = "in_a_thread")]
fn in_a_thread(number: usize, #[inject] probe: &Arc<Probe>) {
    probe.note(number.to_string());
}

#[consistency_task(name = "in_a_future")]
async fn in_a_future(number: usize, #[inject] probe: &Arc<Probe>) {
    tokio::task::yield_now().await;
    probe.note(number.to_string());
}

#[consistency_task(name = "thread_of_the_caller", run_on = caller)]
fn thread_of_the_caller(number: usize, #[inject] probe: &Arc<Probe>) {
    probe.note(number.to_string());
}

#[consistency_task(name = "future_of_the_caller", run_on = caller)]
async fn future_of_the_caller(number: usize, #[inject] probe: &Arc<Probe>) {
    tokio::task::yield_now().await;
    probe.note(number.to_string());
}

const CALLS: usize = 2_400;
/// Futures that store calls at the same time, each on a connection of its own.
const CALLERS: usize = 6;

for_each_async_database! {
    items {
        #[consistency_task(name = "in_a_transaction")]
        async fn in_a_transaction(
            number: usize,
            #[tx] tx: &mut TaskTx<'_, Conn>,
            #[inject] probe: &Arc<Probe>,
        ) -> QueryResult<()> {
            tx.batch_execute(&format!("INSERT INTO effects (number) VALUES ({number})")).await?;
            probe.note(number.to_string());
            Ok(())
        }

        #[consistency_task(name = "transaction_of_the_caller", run_on = caller)]
        async fn transaction_of_the_caller(
            number: usize,
            #[tx] tx: &mut TaskTx<'_, Conn>,
            #[inject] probe: &Arc<Probe>,
        ) -> QueryResult<()> {
            tx.batch_execute(&format!("INSERT INTO effects (number) VALUES ({number})")).await?;
            probe.note(number.to_string());
            Ok(())
        }

        /// A call of each kind in turn: handed over after the commit, or pending and so raced for by every poller.
        fn call(number: usize) -> Call {
            match number % 8 {
                0 => in_a_thread(number),
                1 | 2 => in_a_future(number),
                3 => thread_of_the_caller(number),
                4 => future_of_the_caller(number),
                5 => in_a_transaction(number),
                6 => transaction_of_the_caller(number),
                _ => in_a_future(number).key(format!("key-{number}")),
            }
        }
    }

    async fn every_one_of_thousands_of_calls_runs_once_whoever_looks(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        database.execute("CREATE TABLE effects (number BIGINT NOT NULL)");
        let mut outboxes = Vec::new();
        for _ in 0..3 {
            let builder = database.outbox().inject(Arc::clone(&probe)).poll_interval(Duration::from_millis(1));
            outboxes.push(builder.listener(recorder.listener()).start().await.unwrap());
        }
        // SQLite has one writer, so its transactions are fewer and larger.
        let per_transaction = if BACKEND == Backend::Sqlite { 16 } else { 2 };
        let mut callers = tokio::task::JoinSet::new();
        for caller in 0..CALLERS {
            let outbox = outboxes[caller % 2].clone();
            let mut conn = database.async_connection::<Conn>().await;
            callers.spawn(async move {
                let numbers: Vec<usize> = (0..CALLS).filter(|number| number / per_transaction % CALLERS == caller).collect();
                for part in numbers.chunks(per_transaction) {
                    let stored = outbox.transaction(&mut conn, async |tx| {
                        for number in part {
                            tx.enqueue(call(*number)).await?;
                        }
                        QueryResult::Ok(())
                    }).await;
                    stored.expect("the calls are stored");
                }
            });
        }
        callers.join_all().await;
        let mut reached = 0;
        while reached < CALLS {
            // Each further hundred has a deadline of its own.
            reached = (reached + 100).min(CALLS);
            recorder.wait_for_count(reached, State::Succeeded);
        }
        for outbox in outboxes {
            outbox.shutdown().await;
        }

        let mut runs: HashMap<String, usize> = HashMap::new();
        probe.notes().into_iter().for_each(|number| *runs.entry(number).or_default() += 1);
        let doubled: Vec<_> = runs.iter().filter(|(_, count)| **count != 1).collect();
        assert!(doubled.is_empty(), "ran more than once: {doubled:?}");
        assert_eq!(runs.len(), CALLS);
        let in_transactions = (0..CALLS).filter(|number| [5, 6].contains(&(number % 8))).count() as i64;
        assert_eq!(database.count("effects", "1 = 1"), in_transactions);
        assert_eq!(database.number("COUNT(DISTINCT number) FROM effects"), in_transactions);
        assert_eq!(database.count("consistency_task", "state = 2 AND execute_times = 1 AND lost_times = 0"), CALLS as i64);
        assert_eq!(database.number("COUNT(*) FROM consistency_task"), CALLS as i64);
        assert_eq!(recorder.count(State::Succeeded), CALLS);
        let wrong = |event: &Event| matches!(event, Event::LeaseLost { .. } | Event::Rescued { .. } | Event::StoreTrouble { .. });
        assert_eq!(recorder.events().into_iter().find(wrong).map(|event| format!("{event:?}")), None);
    }
}
