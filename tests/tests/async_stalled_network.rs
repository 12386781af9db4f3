//! A network that swallows everything, and `async` tasks with `#[tx]`: their transactions end in time and happen once.

#![cfg(feature = "async")]

use std::time::Duration;

use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::async_prelude::*;
use consistency_tests::async_stage::{Signals, on_a_plain_thread};
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::faults::proxy::{Mode, Proxy};
use consistency_tests::for_each_async_database;
use consistency_tests::recorder::Recorder;
use diesel_async::RunQueryDsl;

const LIMIT: Duration = Duration::from_secs(1);

fn in_trouble(recorder: &Recorder) {
    recorder.wait_for("trouble with the transaction", |events| {
        let is_it = |event: &Event| matches!(event, Event::StoreTrouble { doing: "run a task in a transaction", error } if error.contains("within"));
        events.iter().any(is_it)
    });
}

for_each_async_database! {
    items {
        /// Inserts a business row in its own transaction.
        #[consistency_task(retry_every = "50ms")]
        async fn writes(number: i64, #[tx] tx: &mut TaskTx<'_, Conn>, #[inject] signals: &Signals) -> Result<(), diesel::result::Error> {
            diesel::sql_query(format!("INSERT INTO business (id) VALUES ({number})")).execute(tx).await?;
            signals.begun.raise();
            signals.go.wait_for(1).await;
            Ok(())
        }

        fn start(database: &Database, recorder: &Recorder, signals: &Signals) -> (Proxy, Outbox) {
            database.execute("CREATE TABLE business (id INTEGER NOT NULL PRIMARY KEY)");
            let (proxy, url) = Proxy::before(database.address());
            let builder = Outbox::builder(url).migrate().only([writes::NAME]).inject(signals.clone());
            let builder = builder.poll_interval(Duration::from_millis(50)).store_timeout(LIMIT).lease(Duration::from_secs(60));
            (proxy, builder.listener(recorder.listener()).start_blocking().unwrap())
        }

        async fn commit(database: &Database, outbox: &Outbox, call: Call) -> String {
            let mut conn = database.async_connection::<Conn>().await;
            let stored: Result<_, diesel::result::Error> = outbox.transaction(&mut conn, async |tx| tx.enqueue(call).await).await;
            stored.unwrap().task_id().to_owned()
        }
    }

    async fn a_transaction_whose_completion_stalls_happens_once(database: &Database) {
        // SQLite has no network.
        if BACKEND == Backend::Sqlite { return }
        let (recorder, signals) = (Recorder::new(), Signals::default());
        let (proxy, outbox) = start(database, &recorder, &signals);
        let task_id = commit(database, &outbox, writes(7)).await;
        signals.begun.wait_for(1).await;
        on_a_plain_thread(|| proxy.stall_somebody());
        signals.go.raise();
        on_a_plain_thread(|| in_trouble(&recorder));
        // What nobody will ever end: the server is told by the end of the connection.
        proxy.set(Mode::Forward);
        proxy.cut();
        on_a_plain_thread(|| recorder.wait_for_settled(&task_id, State::Succeeded));
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, database.count("business", "id = 7")), (State::Succeeded, 1, 1));
        outbox.shutdown().await;
    }

    async fn a_transaction_that_cannot_be_begun_costs_no_attempt(database: &Database) {
        if BACKEND == Backend::Sqlite { return }
        let (recorder, signals) = (Recorder::new(), Signals::default());
        signals.go.raise();
        let (proxy, outbox) = start(database, &recorder, &signals);
        let first = commit(database, &outbox, writes(1)).await;
        on_a_plain_thread(|| recorder.wait_for_settled(&first, State::Succeeded));
        on_a_plain_thread(|| proxy.stall_somebody());
        let task_id = commit(database, &outbox, writes(2)).await;
        on_a_plain_thread(|| in_trouble(&recorder));
        proxy.set(Mode::Forward);
        on_a_plain_thread(|| recorder.wait_for_settled(&task_id, State::Succeeded));
        let row = database.row(&task_id);
        assert_eq!((row.execute_times, row.lost_times, database.count("business", "id = 2")), (1, 0, 1));
        outbox.shutdown().await;
    }
}
