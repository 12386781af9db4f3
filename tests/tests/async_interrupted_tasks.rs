//! `async` `#[tx]` tasks that are stopped from outside: by their time limit, the shutdown, the end of the Tokio runtime, the loss
//! of their lease or of their connection. Nothing of such an attempt is committed, and the task still has its effect once.

#![cfg(feature = "async")]

use std::time::Duration;

use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::async_prelude::*;
use consistency_diesel::builder::OutboxBuilder;
use consistency_tests::async_stage::{Signals, on_a_plain_thread};
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::for_each_async_database;
use consistency_tests::recorder::{Recorder, settled, wait_until};
use consistency_tests::scene::{end_leases, ms_between, now};
use consistency_tests::stage::{Probe, Stage};
use diesel::result::QueryResult;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};

#[consistency_task(name = "note")]
async fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

fn insert(id: u32, name: &str) -> String {
    format!("INSERT INTO business (id, name) VALUES ({id}, '{name}')")
}

/// How a connection learns its own number on the server, and how that one is cut.
fn whoami(backend: Backend) -> (&'static str, fn(&str) -> String) {
    match backend {
        Backend::Postgres => ("pg_backend_pid()::bigint", |me| format!("SELECT pg_terminate_backend({me})")),
        _ => ("CONNECTION_ID()", |me| format!("KILL {me}")),
    }
}

struct Set<'d> {
    stage: Stage<'d>,
    signals: Signals,
}

fn set(database: &Database, set_up: impl FnOnce(OutboxBuilder) -> OutboxBuilder) -> Set<'_> {
    let signals = Signals::default();
    Set { stage: Stage::with(database, |builder| set_up(builder.inject(signals.clone()))), signals }
}

fn is_lease_lost(event: &Event) -> bool {
    matches!(event, Event::LeaseLost { .. })
}

const SHORT_GRACE: Duration = Duration::from_millis(100);

for_each_async_database! {
    items {
        /// Its first attempt never ends by itself.
        #[consistency_task(name = "limited", timeout = "800ms", retry_every = "10ms")]
        async fn limited(
            #[tx] tx: &mut TaskTx<'_, Conn>,
            #[context] cx: &TaskContext,
            #[inject] signals: &Signals,
        ) -> QueryResult<()> {
            let _dropped = signals.tell_when_dropped();
            tx.batch_execute(&insert(1, &format!("attempt {}", cx.attempt()))).await?;
            tx.enqueue(note(format!("attempt {}", cx.attempt()))).await?;
            if cx.attempt() == 1 {
                std::future::pending::<()>().await;
            }
            Ok(())
        }

        /// Waits on the server, not here.
        #[consistency_task(name = "append", timeout = "300ms", retry_every = "10ms")]
        async fn append(#[tx] tx: &mut TaskTx<'_, Conn>) -> QueryResult<()> {
            tx.batch_execute("UPDATE business SET name = CONCAT(name, '+') WHERE id = 1").await
        }

        /// Goes on whatever it is asked until the test lets it go; each attempt writes a row of its own.
        #[consistency_task(name = "deaf", retry_every = "10ms", max_attempts = 9)]
        async fn deaf(
            number: u32,
            #[tx] tx: &mut TaskTx<'_, Conn>,
            #[context] cx: &TaskContext,
            #[inject] signals: &Signals,
        ) -> QueryResult<()> {
            let _dropped = signals.tell_when_dropped();
            tx.batch_execute(&insert(10 * number + cx.attempt(), &format!("{number} at attempt {}", cx.attempt()))).await?;
            tx.enqueue(note(format!("{number} at attempt {}", cx.attempt()))).await?;
            signals.begun.raise();
            if cx.attempt() == 1 {
                signals.go.wait_for(1).await;
            }
            Ok(())
        }

        /// Ends as soon as it is asked to: with its work done when `done`, else saying that it gives way.
        #[consistency_task(name = "obedient", max_attempts = 1)]
        async fn obedient(
            done: bool,
            #[tx] tx: &mut TaskTx<'_, Conn>,
            #[context] cx: &TaskContext,
            #[inject] signals: &Signals,
        ) -> Result<(), TaskError> {
            tx.batch_execute(&insert(1, "obedient")).await.map_err(TaskError::new)?;
            signals.begun.raise();
            cx.cancelled().await;
            if done { Ok(()) } else { Err(TaskError::interrupted("stopped half-way")) }
        }

        /// Quick, but given little time.
        #[consistency_task(name = "quick", timeout = "1s")]
        async fn quick(#[tx] tx: &mut TaskTx<'_, Conn>) -> QueryResult<()> {
            tx.batch_execute(&insert(99, "quick")).await
        }

        /// Its first attempt's connection is cut; with `swallow` it does not look at what the database answers then.
        #[consistency_task(name = "cut", retry_every = "10ms")]
        async fn cut(
            swallow: bool,
            #[tx] tx: &mut TaskTx<'_, Conn>,
            #[context] cx: &TaskContext,
            #[inject] signals: &Signals,
            #[inject] probe: &Probe,
        ) -> QueryResult<()> {
            tx.batch_execute(&insert(1, "cut")).await?;
            if signals.begun.count() == 0 {
                let me = diesel::dsl::sql::<diesel::sql_types::BigInt>(whoami(BACKEND).0);
                let me: i64 = diesel::select(me).get_result(tx).await?;
                probe.saw(me.to_string());
                signals.begun.raise();
                signals.go.wait_for(1).await;
                let answer = tx.batch_execute(&insert(2, "after the cut")).await;
                assert!(answer.is_err(), "the connection lives");
                if !swallow {
                    return answer;
                }
            }
            tx.enqueue(note(format!("attempt {}", cx.attempt()))).await.map(drop)
        }
    }

    async fn the_time_limit_drops_the_future_rolls_back_and_settles_the_row(database: &Database) {
        // With a single connection, which the attempt must give back.
        let Set { stage, signals } = set(database, |builder| builder.transaction_connections(1));
        let task_id = stage.run_async::<Conn>(limited()).await;
        stage.recorder.wait_for_count(2, State::Succeeded);
        assert_eq!((stage.names(), stage.probe.seen()), (vec!["attempt 2".to_owned()], vec!["attempt 2".to_owned()]));
        assert_eq!((signals.dropped.count(), stage.tasks()), (2, 2));
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.lost_times, row.error_message), (State::Succeeded, 2, 0, None));
        let events = stage.recorder.events();
        let settled = events.iter().filter(|event| {
            matches!(event, Event::Settled { state: State::Failed, error: Some(error), .. } if error.contains("time limit of 800ms"))
        });
        assert_eq!(settled.count(), 1);
        let reached = events.iter().any(|event| {
            matches!(event, Event::TimeLimitReached { attempt, abandoned_threads: 0, .. } if attempt.task_id == task_id)
        });
        assert!(reached, "{events:#?}");
    }

    /// On SQLite nobody else can hold a lock the body could wait for.
    async fn a_statement_under_way_at_the_time_limit_does_not_count_either(database: &Database) {
        if BACKEND == Backend::Sqlite {
            return;
        }
        let Set { stage, .. } = set(database, |builder| builder.transaction_connections(1));
        database.execute(&insert(1, "free"));
        let mut other = database.async_connection::<Conn>().await;
        other.batch_execute("BEGIN").await.unwrap();
        other.batch_execute("UPDATE business SET name = 'locked' WHERE id = 1").await.unwrap();
        let task_id = stage.commit_async::<Conn>(append()).await;
        stage.recorder.wait_for_count(2, State::Failed);
        other.batch_execute("ROLLBACK").await.unwrap();
        stage.recorder.wait_for_settled(&task_id, State::Succeeded);
        assert_eq!(stage.names(), ["free+"]);
    }

    /// On SQLite the second call could not even be stored while the first has its transaction open.
    async fn the_wait_for_a_connection_is_no_part_of_the_time_limit(database: &Database) {
        if BACKEND == Backend::Sqlite {
            return;
        }
        let Set { stage, signals } = set(database, |builder| builder.transaction_connections(1));
        stage.commit_async::<Conn>(deaf(1)).await;
        signals.begun.wait_for(1).await;
        let waiting = stage.commit_async::<Conn>(quick()).await;
        let passed = format!("task_id = '{waiting}' AND {} > 2000", ms_between(BACKEND, "gmt_create", now(BACKEND)));
        wait_until("twice its limit to pass", || database.count("consistency_task", &passed) == 1);
        signals.go.raise();
        stage.recorder.wait_for_settled(&waiting, State::Succeeded);
        assert_eq!((database.row(&waiting).execute_times, stage.recorder.count(State::Failed)), (1, 0));
        assert_eq!(stage.names(), ["1 at attempt 1", "quick"]);
    }

    async fn a_shutdown_lets_a_quick_one_commit(database: &Database) {
        let Set { stage, signals } = set(database, |builder| builder);
        let task_id = stage.commit_async::<Conn>(obedient(true)).await;
        signals.begun.wait_for(1).await;
        stage.outbox.shutdown().await;
        assert_eq!((stage.names(), database.row(&task_id).state()), (vec!["obedient".to_owned()], State::Succeeded));
        assert!(matches!(stage.recorder.events().last(), Some(Event::Stopped { drained: 1, released: 0, unwritten: 0 })));
    }

    async fn one_that_gives_way_to_a_shutdown_leaves_nothing_and_costs_nothing(database: &Database) {
        let Set { stage, signals } = set(database, |builder| builder);
        let task_id = stage.commit_async::<Conn>(obedient(false)).await;
        signals.begun.wait_for(1).await;
        stage.outbox.shutdown().await;
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.lost_times, row.error_message), (State::Pending, 0, 0, None));
        assert_eq!((stage.names(), stage.tasks()), (vec![], 1));
    }

    async fn a_shutdown_puts_back_what_goes_on_and_what_waits_and_another_outbox_runs_both(database: &Database) {
        let Set { stage, signals } = set(database, |builder| builder.transaction_connections(1).shutdown_grace(SHORT_GRACE));
        let mut conn = database.async_connection::<Conn>().await;
        let stored = stage.outbox.transaction(&mut conn, async |tx| {
            tx.enqueue(deaf(1)).await?;
            tx.enqueue(deaf(2)).await
        }).await;
        let stored: QueryResult<_> = stored;
        stored.unwrap();
        // One runs, the other waits for the connection.
        signals.begun.wait_for(1).await;
        stage.outbox.shutdown().await;
        assert_eq!((signals.begun.count(), signals.dropped.count()), (1, 1));
        assert_eq!((stage.names(), stage.tasks()), (vec![], 2));
        assert_eq!(database.count("consistency_task", "state = 0 AND execute_times = 0 AND lost_times = 0"), 2);
        let last = stage.recorder.events().pop();
        // The one that waited may have gone of itself when the other's connection came free.
        assert!(matches!(last, Some(Event::Stopped { drained: 0, released: 1 | 2, unwritten: 0 })), "{last:?}");

        signals.go.raise();
        let recorder = Recorder::new();
        let builder = database.outbox().inject(signals.clone()).inject(stage.probe.clone()).listener(recorder.listener());
        let elsewhere = builder.start().await.unwrap();
        recorder.wait_for_count(4, State::Succeeded);
        assert_eq!(stage.names(), ["1 at attempt 1", "2 at attempt 1"]);
        assert_eq!(stage.probe.seen_sorted(), ["1 at attempt 1", "2 at attempt 1"]);
        assert!(!recorder.events().iter().any(|event| matches!(event, Event::Rescued { .. })));
        elsewhere.shutdown().await;
    }

    async fn the_end_of_the_tokio_runtime_rolls_back_and_puts_the_row_back(database: &Database) {
        let stopped = on_a_plain_thread(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let Set { stage, signals } = runtime.block_on(async {
                let set = set(database, |builder| builder);
                set.stage.commit_async::<Conn>(deaf(1)).await;
                set.signals.begun.wait_for(1).await;
                set
            });
            drop(runtime);
            stage.recorder.wait_for("the row to be put back", |events| {
                events.iter().any(|event| matches!(event, Event::Released { .. }))
            });
            stage.outbox.shutdown_blocking();
            assert_eq!((signals.dropped.count(), stage.names()), (1, vec![]));
            signals
        });
        assert_eq!(database.count("consistency_task", "state = 0 AND execute_times = 0 AND lost_times = 0"), 1);
        stopped.go.raise();
        let (recorder, probe) = (Recorder::new(), Probe::default());
        let builder = database.outbox().inject(stopped).inject(probe.clone()).listener(recorder.listener());
        let elsewhere = builder.start().await.unwrap();
        recorder.wait_for_count(2, State::Succeeded);
        assert_eq!((database.count("business", "1 = 1"), probe.seen()), (1, vec!["1 at attempt 1".to_owned()]));
        elsewhere.shutdown().await;
    }

    /// On SQLite nobody else can write while the body has its transaction open, not even a thief.
    async fn with_its_lease_stolen_nothing_is_committed(database: &Database) {
        if BACKEND == Backend::Sqlite {
            return;
        }
        let Set { stage, signals } = set(database, |builder| builder);
        let task_id = stage.commit_async::<Conn>(deaf(1)).await;
        signals.begun.wait_for(1).await;
        database.execute("UPDATE consistency_task SET version = version + 1, lease_owner = 'another node' WHERE state = 1");
        let stolen = database.row(&task_id);
        signals.go.raise();
        stage.recorder.wait_for("the lost lease", |events| events.iter().any(is_lease_lost));
        stage.outbox.shutdown().await;
        assert_eq!((stage.names(), stage.probe.seen(), stage.tasks()), (vec![], vec![], 1));
        assert_eq!(database.row(&task_id), stolen);
        assert_eq!(stage.recorder.count(State::Succeeded), 0);
    }

    /// As above.
    async fn of_two_runners_the_one_whose_lease_was_over_commits_nothing(database: &Database) {
        if BACKEND == Backend::Sqlite {
            return;
        }
        let asleep = |builder: OutboxBuilder| builder.lease(Duration::from_secs(60)).heartbeat(Duration::from_secs(30));
        let Set { stage, signals } = set(database, asleep);
        let task_id = stage.commit_async::<Conn>(deaf(1)).await;
        signals.begun.wait_for(1).await;
        let recorder = Recorder::new();
        let builder = database.outbox().inject(signals.clone()).inject(stage.probe.clone()).listener(recorder.listener());
        let second = asleep(builder).start().await.unwrap();
        // As if the first runner's process had been asleep for an hour.
        end_leases(database, "lease_owner IS NOT NULL");
        let succeeded = |recorder: &Recorder| settled(&recorder.events(), State::Succeeded).any(|settled| settled == task_id);
        wait_until("the second attempt", || succeeded(&recorder) || succeeded(&stage.recorder));
        signals.go.raise();
        stage.recorder.wait_for("the first runner's loss", |events| events.iter().any(is_lease_lost));
        wait_until("the note", || !stage.probe.seen().is_empty());
        second.shutdown().await;
        stage.outbox.shutdown().await;
        assert_eq!((stage.names(), stage.probe.seen()), (vec!["1 at attempt 2".to_owned()], vec!["1 at attempt 2".to_owned()]));
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, stage.tasks()), (State::Succeeded, 2, 2));
    }

    /// A SQLite database is a file in this process: no connection to it can be cut.
    async fn with_its_connection_cut_nothing_is_committed_and_another_one_is_taken(database: &Database) {
        if BACKEND == Backend::Sqlite {
            return;
        }
        for swallow in [false, true] {
            let Set { stage, signals } = set(database, |builder| builder.transaction_connections(1));
            let task_id = stage.commit_async::<Conn>(cut(swallow)).await;
            signals.begun.wait_for(1).await;
            database.execute(&whoami(BACKEND).1(&stage.probe.seen()[0]));
            signals.go.raise();
            stage.recorder.wait_for_settled(&task_id, State::Succeeded);
            stage.recorder.wait_for_count(2, State::Succeeded);
            assert_eq!((stage.names(), stage.tasks()), (vec!["cut".to_owned()], 2));
            assert_eq!(stage.probe.seen().len(), 2, "its number, and one note");
            let row = database.row(&task_id);
            assert_eq!((row.state(), row.lost_times), (State::Succeeded, 0));
            // Its own error is a failed attempt; an error that only the completion met may cost none.
            assert!(row.execute_times == 2 || swallow, "{}", row.execute_times);
            stage.outbox.shutdown().await;
            database.execute("DROP TABLE business");
            database.execute("DELETE FROM consistency_task");
        }
    }
}
