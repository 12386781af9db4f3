//! Processes on one PostgreSQL wake one another: rows another process left are started without waiting for the next look.
#![cfg(all(feature = "async-postgres", feature = "postgres"))]

use std::time::Duration;

use consistency_core::error::Problem;
use consistency_core::state::State;
use consistency_diesel::outbox::Outbox;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::database::{Database, on_fresh};
use consistency_tests::recorder::Recorder;
use consistency_tests::scene::store;
use consistency_tests::stage::Probe;
use diesel::PgConnection;
use futures_util::StreamExt;

#[consistency_task]
async fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

/// Nobody waits this long: what is found is found because somebody told of it.
const NEVER: Duration = Duration::from_secs(3600);

/// A process that only stores, and one that runs; both look at the table only when they are told to.
struct Two<'d> {
    database: &'d Database,
    producer: Outbox,
    worker: Outbox,
    probe: Probe,
    recorder: Recorder,
}

impl<'d> Two<'d> {
    fn on(database: &'d Database) -> Self {
        let (probe, recorder) = (Probe::default(), Recorder::new());
        let producer = database.outbox().notify().enqueue_only().start_blocking().unwrap();
        let worker = database.outbox().notify().poll_interval(NEVER).inject(probe.clone());
        let worker = worker.listener(recorder.listener()).start_blocking().unwrap();
        Self { database, producer, worker, probe, recorder }
    }

    fn store(&self, text: &str) -> String {
        store::<PgConnection>(self.database, &self.producer, note(text.to_owned()))
    }

    /// The server's process that listens for the worker, once there is one other than `known`.
    fn listener_other_than(&self, known: i64) -> i64 {
        let listening = "COALESCE(MAX(pid), 0) FROM pg_stat_activity \
                         WHERE datname = current_database() AND query LIKE 'LISTEN%' AND state = 'idle'";
        let mut found = 0;
        consistency_tests::recorder::wait_until("somebody listens", || {
            found = self.database.number(listening);
            found != 0 && found != known
        });
        found
    }
}

impl Drop for Two<'_> {
    fn drop(&mut self) {
        self.worker.shutdown_blocking();
    }
}

fn on_postgres(test: &str, body: impl FnOnce(&Database)) {
    on_fresh(Backend::Postgres, &format!("notifications::{test}"), body);
}

#[test]
fn a_row_of_another_process_starts_without_a_look_of_ones_own() {
    on_postgres("told", |database| {
        let two = Two::on(database);
        two.listener_other_than(0);
        for text in ["one", "two", "three"] {
            let task_id = two.store(text);
            two.recorder.wait_for_settled(&task_id, State::Succeeded);
        }
        assert_eq!(two.probe.seen(), ["one", "two", "three"]);
    });
}

#[test]
fn a_listener_that_was_cut_off_listens_again_and_looks_for_what_it_missed() {
    on_postgres("cut", |database| {
        let two = Two::on(database);
        let first = two.listener_other_than(0);
        database.execute(&format!("SELECT pg_terminate_backend({first})"));
        let task_id = two.store("meanwhile");
        two.recorder.wait_for_settled(&task_id, State::Succeeded);
        two.listener_other_than(first);
        let task_id = two.store("afterwards");
        two.recorder.wait_for_settled(&task_id, State::Succeeded);
    });
}

#[test]
fn many_commits_share_few_notifications() {
    on_postgres("debounced", |database| {
        let commits = 300;
        let producer = database.outbox().notify().enqueue_only().start_blocking().unwrap();
        consistency_tests::async_stage::drive(async move {
            let mut conn = database.async_connection::<diesel_async::AsyncPgConnection>().await;
            diesel_async::SimpleAsyncConnection::batch_execute(&mut conn, "LISTEN consistency_task").await.unwrap();
            let begun = std::time::Instant::now();
            let mut storing = database.connection::<PgConnection>();
            for number in 0..commits {
                producer.transaction(&mut storing, |tx| tx.enqueue(note(number.to_string()))).unwrap();
            }
            let took = begun.elapsed();
            // The last of ours: everything sent before it has arrived by then.
            drop(producer);
            database.execute("NOTIFY consistency_task, 'end'");
            let mut heard = 0;
            let mut notifications = std::pin::pin!(conn.notifications_stream());
            while notifications.next().await.unwrap().unwrap().payload != "end" {
                heard += 1;
            }
            let most = 2 + took.as_millis() / 5;
            assert!((1..=most).contains(&heard), "{heard} notifications for {commits} commits in {took:?}");
        });
    });
}

#[test]
fn only_an_address_of_postgresql_can_notify() {
    let refused = Outbox::builder("sqlite://never_made.db").notify().enqueue_only().check().unwrap_err();
    assert!(matches!(refused.problems(), [Problem::Setting { setting: "notify", .. }]), "{refused}");
}

/// Goes on until its outbox stops.
#[consistency_task]
async fn stays(#[inject] probe: &Probe, #[context] cx: &TaskContext) -> Result<(), TaskError> {
    probe.saw(format!("begun on {}", cx.node()));
    cx.cancelled().await;
    Err(TaskError::interrupted("stopped half-way"))
}

#[test]
fn what_a_stopping_process_puts_back_starts_elsewhere_without_a_look() {
    on_postgres("put back", |database| {
        let two = Two::on(database);
        two.listener_other_than(0);
        let stopping = database.outbox().notify().inject(two.probe.clone()).start_blocking().unwrap();
        store::<PgConnection>(database, &stopping, stays());
        two.probe.wait_for(1);
        stopping.shutdown_blocking();
        two.probe.wait_for(2);
        let seen = two.probe.seen();
        assert_ne!(seen[0], seen[1], "the second start is another node's");
    });
}
