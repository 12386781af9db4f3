//! One outbox serves both worlds of connections: whichever helper stored a call, its `#[tx]` runs on a connection of the type it
//! takes. On the caller that is the caller's own connection where the type matches, else one of the runtime's.

// Where both clients of every database are built in.
#![cfg(all(
    feature = "async",
    any(feature = "postgres", not(feature = "async-postgres")),
    any(feature = "mysql", not(feature = "async-mysql"))
))]

use std::time::Duration;

use consistency_core::state::State;
use consistency_diesel::async_prelude::*;
use consistency_diesel::error::TransactionError;
use consistency_tests::async_stage::{Signals, Twin, on_a_plain_thread, on_one_thread};
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::for_each_async_database;
use consistency_tests::stage::{Probe, Stage};
use diesel::connection::SimpleConnection;
use diesel::result::{Error, QueryResult};
use diesel_async::SimpleAsyncConnection;

#[consistency_task(name = "note")]
async fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

fn insert(id: i32, name: &str) -> String {
    format!("INSERT INTO business (id, name) VALUES ({id}, '{name}')")
}

/// A table of the connection's own with the name of the one all others see.
const OWN_BUSINESS: &str =
    "CREATE TEMPORARY TABLE business (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(100) NOT NULL)";

for_each_async_database! {
    items {
        /// Diesel's own connection to this database.
        type Plain = <Conn as Twin>::Blocking;

        #[consistency_task(name = "future", retry_every = "10ms")]
        async fn future(id: i32, #[tx] tx: &mut TaskTx<'_, Conn>, #[context] cx: &TaskContext) -> anyhow::Result<()> {
            tx.batch_execute(&insert(id, &format!("future {id}, attempt {}", cx.attempt()))).await?;
            // Calls of either world go with it.
            tx.enqueue(note(format!("note of {id}"))).await?;
            if id < 10 {
                tx.enqueue(thread(id + 10)).await?;
            }
            anyhow::ensure!(cx.attempt() > 1, "the first attempt fails");
            Ok(())
        }

        #[consistency_task(name = "thread", retry_every = "10ms")]
        fn thread(id: i32, #[tx] tx: &mut TaskTx<'_, Plain>, #[context] cx: &TaskContext) -> anyhow::Result<()> {
            tx.batch_execute(&insert(id, &format!("thread {id}, attempt {}", cx.attempt())))?;
            tx.enqueue(note(format!("note of {id}")))?;
            if id < 10 {
                tx.enqueue(future(id + 10))?;
            }
            anyhow::ensure!(cx.attempt() > 1, "the first attempt fails");
            Ok(())
        }

        #[consistency_task(name = "future_on_caller", run_on = caller, retry_every = "10ms")]
        async fn future_on_caller(
            id: i32,
            fails: bool,
            #[tx] tx: &mut TaskTx<'_, Conn>,
            #[context] cx: &TaskContext,
        ) -> anyhow::Result<()> {
            tx.batch_execute(&insert(id, &format!("future, attempt {}", cx.attempt()))).await?;
            anyhow::ensure!(!fails || cx.attempt() > 1, "told to fail");
            Ok(())
        }

        #[consistency_task(name = "thread_on_caller", run_on = caller)]
        fn thread_on_caller(id: i32, #[tx] tx: &mut TaskTx<'_, Plain>) -> QueryResult<()> {
            tx.batch_execute(&insert(id, "thread"))
        }

        #[consistency_task(name = "patient", run_on = caller)]
        async fn patient(id: i32, #[tx] tx: &mut TaskTx<'_, Conn>, #[inject] signals: &Signals) -> QueryResult<()> {
            let _dropped = signals.tell_when_dropped();
            tx.batch_execute(&insert(id, "patient")).await?;
            signals.begun.raise();
            signals.go.wait_for(1).await;
            Ok(())
        }

        #[consistency_task(name = "endless", run_on = caller, timeout = "1s", retry_every = "1h")]
        async fn endless(#[tx] tx: &mut TaskTx<'_, Conn>, #[inject] signals: &Signals) -> QueryResult<()> {
            let _dropped = signals.tell_when_dropped();
            tx.batch_execute(&insert(1, "endless")).await?;
            std::future::pending().await
        }

        fn set(database: &Database) -> (Stage<'_>, Signals) {
            let signals = Signals::default();
            (Stage::with(database, |builder| builder.inject(signals.clone())), signals)
        }

        /// The names in the connection's own table.
        async fn own_names(conn: &mut Conn) -> Vec<String> {
            let names = diesel::dsl::sql::<diesel::sql_types::Text>("name FROM business ORDER BY name");
            diesel_async::RunQueryDsl::load(diesel::select(names), conn).await.unwrap()
        }
    }

    async fn either_helper_stores_tasks_of_either_world_and_each_runs_exactly_once(database: &Database) {
        let (stage, _) = set(database);
        stage.commit_async::<Conn>(future(1)).await;
        stage.commit_async::<Conn>(thread(2)).await;
        on_a_plain_thread(|| {
            stage.commit::<Plain>(future(3));
            stage.commit::<Plain>(thread(4));
        });
        stage.recorder.wait_for_count(16, State::Succeeded);
        assert_eq!(stage.names(), [
            "future 1, attempt 2", "future 12, attempt 2", "future 14, attempt 2", "future 3, attempt 2",
            "thread 11, attempt 2", "thread 13, attempt 2", "thread 2, attempt 2", "thread 4, attempt 2",
        ]);
        assert_eq!((stage.recorder.count(State::Failed), stage.probe.seen().len()), (8, 8));
        assert_eq!(database.count("consistency_task", "state = 2"), 16);
    }

    async fn a_runtime_of_one_thread_serves_both_worlds(database: &Database) {
        let names = on_one_thread(|| async {
            let (stage, _) = set(database);
            stage.commit_async::<Conn>(future(1)).await;
            stage.commit_async::<Conn>(thread(2)).await;
            stage.commit_async::<Conn>(thread_on_caller(3)).await;
            stage.commit_async::<Conn>(future_on_caller(4, false)).await;
            let recorder = stage.recorder.clone();
            tokio::task::spawn_blocking(move || recorder.wait_for_count(10, State::Succeeded)).await.unwrap();
            stage.names()
        });
        assert_eq!(names, [
            "future 1, attempt 2", "future 12, attempt 2", "future, attempt 1",
            "thread", "thread 11, attempt 2", "thread 2, attempt 2",
        ]);
    }

    async fn on_the_caller_a_future_uses_the_callers_own_connection(database: &Database) {
        let (stage, _) = set(database);
        let mut conn = database.async_connection::<Conn>().await;
        conn.batch_execute(OWN_BUSINESS).await.unwrap();
        let stored = stage.outbox.transaction(&mut conn, async |tx| tx.enqueue(future_on_caller(1, false)).await).await;
        let stored: QueryResult<_> = stored;
        let row = database.row(stored.unwrap().task_id());
        assert_eq!((row.state(), row.execute_times, row.owners()), (State::Succeeded, 1, 1));
        assert_eq!((own_names(&mut conn).await, stage.names()), (vec!["future, attempt 1".to_owned()], vec![]));
        // One that fails is rolled back there, stored, and left to the poller; the connection goes on.
        let stored = stage.outbox.transaction(&mut conn, async |tx| tx.enqueue(future_on_caller(2, true)).await).await;
        let stored: QueryResult<_> = stored;
        assert_eq!((own_names(&mut conn).await.len(), stage.recorder.count(State::Failed)), (1, 1));
        let usable: QueryResult<_> = stage.outbox.transaction(&mut conn, async |_| Ok(7)).await;
        assert_eq!(usable, Ok(7));
        let task_id = stored.unwrap().task_id().to_owned();
        stage.recorder.wait_for_settled(&task_id, State::Succeeded);
        assert_eq!((stage.names(), database.row(&task_id).execute_times), (vec!["future, attempt 2".to_owned()], 2));
    }

    async fn on_the_caller_a_task_of_the_other_world_uses_one_of_the_runtimes_connections(database: &Database) {
        let (stage, _) = set(database);
        let mut conn = database.async_connection::<Conn>().await;
        conn.batch_execute(OWN_BUSINESS).await.unwrap();
        let stored = stage.outbox.transaction(&mut conn, async |tx| {
            tx.enqueue(thread_on_caller(1)).await?;
            tx.enqueue(future_on_caller(1, false)).await
        }).await;
        let stored: QueryResult<_> = stored;
        stored.unwrap();
        // Both are done when the helper is ready.
        assert_eq!((own_names(&mut conn).await, stage.names()), (vec!["future, attempt 1".into()], vec!["thread".into()]));
        assert_eq!(database.count("consistency_task", "state = 2 AND execute_times = 1 AND thread_way = 2"), 2);
    }

    async fn on_a_blocking_caller_a_future_uses_one_of_the_runtimes_connections(database: &Database) {
        let (stage, _) = set(database);
        let store = |call: Call| {
            use consistency_diesel::transact::Transact;
            let mut conn = database.connection::<Plain>();
            conn.batch_execute(OWN_BUSINESS).unwrap();
            let stored = Transact::transaction(&stage.outbox, &mut conn, |tx| tx.enqueue(call)).unwrap();
            stored.task_id().to_owned()
        };
        let task_id = on_a_plain_thread(|| store(future_on_caller(1, false)));
        assert_eq!((database.row(&task_id).state(), stage.names()), (State::Succeeded, vec!["future, attempt 1".to_owned()]));
        // Inside Tokio it cannot be waited for without blocking it: a worker runs it.
        let task_id = store(future_on_caller(2, false));
        stage.recorder.wait_for_settled(&task_id, State::Succeeded);
        assert_eq!(stage.names().len(), 2);
        // A task of its own world is on its own connection as ever, in both places.
        store(thread_on_caller(1));
        on_a_plain_thread(|| store(thread_on_caller(1)));
        assert_eq!((stage.names().len(), database.count("consistency_task", "state = 2")), (2, 4));
    }

    async fn a_caller_that_gives_up_in_a_transaction_on_its_own_connection_leaves_nothing_of_it(database: &Database) {
        let (stage, signals) = set(database);
        let mut conn = database.async_connection::<Conn>().await;
        let helper = stage.outbox.transaction(&mut conn, async |tx| {
            tx.batch_execute(&insert(1, "the caller")).await?;
            tx.enqueue(patient(2)).await
        });
        tokio::select! {
            stored = helper => { let stored: Result<_, Error> = stored; panic!("{stored:?}") }
            () = signals.begun.wait_for(1) => {}
        }
        assert_eq!((signals.dropped.count(), stage.names()), (1, vec!["the caller".to_owned()]));
        // The task's transaction is still open there, so nothing else may begin.
        let refused: QueryResult<()> = stage.outbox.transaction(&mut conn, async |_| Ok(())).await;
        let found = refused.as_ref().map_err(TransactionError::of);
        assert!(matches!(found, Err(Some(TransactionError::BrokenConnection))), "{refused:?}");
        drop(conn);
        signals.go.raise();
        stage.recorder.wait_for_count(1, State::Succeeded);
        assert_eq!(stage.names(), ["patient", "the caller"]);
        assert_eq!(database.count("consistency_task", "state = 2 AND execute_times = 1 AND lost_times = 0"), 1);
    }

    async fn a_time_limit_on_the_callers_own_connection_leaves_nothing_open_there(database: &Database) {
        let (stage, signals) = set(database);
        let mut conn = database.async_connection::<Conn>().await;
        let stored = stage.outbox.transaction(&mut conn, async |tx| {
            tx.batch_execute(&insert(2, "the caller")).await?;
            tx.enqueue(endless()).await?;
            tx.enqueue(future_on_caller(3, false)).await
        }).await;
        let stored: QueryResult<_> = stored;
        stored.expect("the transaction is committed");
        assert_eq!(signals.dropped.count(), 1);
        // The next of the caller's tasks had the connection again, and so has the caller. MySQL's client could take the answer
        // of a statement that was dropped for that of the next: there the connection stays refused, and a worker runs the task.
        stage.recorder.wait_for_count(1, State::Succeeded);
        assert_eq!(stage.names(), ["future, attempt 1", "the caller"]);
        let again = stage.outbox.transaction(&mut conn, async |tx| tx.batch_execute(&insert(1, "free")).await).await;
        let again: QueryResult<_> = again;
        match BACKEND {
            Backend::Mysql => {
                let found = again.as_ref().map_err(TransactionError::of);
                assert!(matches!(found, Err(Some(TransactionError::BrokenConnection))), "{again:?}");
            }
            Backend::Sqlite | Backend::Postgres => again.unwrap(),
        }
        stage.recorder.wait_for_count(1, State::Failed);
        assert_eq!(database.count("consistency_task", "state = 3 AND execute_times = 1"), 1);
    }

    async fn scheduled_on_the_caller_both_worlds_run_on_the_scheduling_thread(database: &Database) {
        let (stage, _) = set(database);
        let soon = Duration::from_millis(1);
        stage.commit_async::<Conn>(future_on_caller(1, false).delay(soon)).await;
        on_a_plain_thread(|| stage.commit::<Plain>(thread_on_caller(2).delay(soon)));
        stage.recorder.wait_for_count(2, State::Succeeded);
        assert_eq!(stage.names(), ["future, attempt 1", "thread"]);
        assert_eq!(database.count("consistency_task", "state = 2 AND execute_mode = 2 AND thread_way = 2"), 2);
    }
}
