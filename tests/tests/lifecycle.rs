//! Where an outbox may be started and what its roles are: inside and outside Tokio, storing only, after its end, two at once.

use std::time::Duration;

use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::{Latch, Recorder, settled};
use consistency_tests::stage::{Probe, Stage};
use diesel::prelude::*;

#[consistency_task]
fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

#[consistency_task]
async fn async_note(text: String, #[inject] probe: &Probe) {
    tokio::time::sleep(Duration::from_millis(1)).await;
    probe.saw(text);
}

/// Other tasks are let in by name only.
#[consistency_task]
fn other(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

#[consistency_task]
fn slow(#[inject] probe: &Probe, #[inject] release: &Latch) {
    probe.saw("started");
    release.wait_for(1);
    probe.saw("done");
}

fn text(text: &str) -> Call {
    note(text.to_owned())
}

const COMMON: [&str; 3] = [note::NAME, async_note::NAME, other::NAME];

for_each_database! {
    fn an_enqueue_only_outbox_stores_and_another_one_runs(database: &Database) {
        // It needs none of the values the bodies do.
        let storing = database.outbox().enqueue_only().start_blocking().unwrap();
        let mut conn = database.connection::<Conn>();
        let receipts = storing.transaction(&mut conn, |tx| {
            let plain = tx.enqueue(text("plain"))?;
            let keyed = tx.enqueue(text("keyed").key("k"))?;
            // Nobody here knows which queues others serve.
            let queued = tx.enqueue(text("queued").queue("far away"))?;
            QueryResult::Ok([plain, keyed, queued])
        }).unwrap();
        for receipt in &receipts {
            let row = database.row(receipt.task_id());
            assert_eq!((row.state(), row.execute_times, row.owners(), row.lease_owner), (State::Pending, 0, 0, None));
            assert_eq!(storing.status_blocking(receipt.task_id()).unwrap().unwrap().state, State::Pending);
        }
        assert!(storing.running().is_empty() && storing.node().is_empty());
        let (probe, recorder) = (Probe::default(), Recorder::new());
        let builder = database.outbox().only(COMMON).inject(probe.clone()).queue("far away", 1).listener(recorder.listener());
        let running = builder.start_blocking().unwrap();
        recorder.wait_for_count(3, State::Succeeded);
        // While both are up, too.
        let later = storing.transaction(&mut conn, |tx| tx.enqueue(text("later"))).unwrap();
        recorder.wait_for_settled(later.task_id(), State::Succeeded);
        assert_eq!(probe.seen_sorted(), ["keyed", "later", "plain", "queued"]);
        assert_eq!(database.count("consistency_task", "state = 2 AND execute_times = 1"), 4);
        running.shutdown_blocking();
        storing.shutdown_blocking();
    }

    fn calls_after_the_shutdown_are_stored_and_run_by_the_next_outbox(database: &Database) {
        let stage = Stage::with(database, |builder| builder.only(COMMON));
        stage.run::<Conn>(text("before"));
        stage.outbox.shutdown_blocking();
        stage.outbox.shutdown_blocking();
        let mut conn = database.connection::<Conn>();
        let receipt = stage.outbox.transaction(&mut conn, |tx| {
            tx.enqueue(text("keyed").key("k"))?;
            tx.enqueue(text("after"))
        }).unwrap();
        let row = database.row(receipt.task_id());
        assert_eq!((row.state(), row.execute_times, row.lease_owner), (State::Pending, 0, None));
        assert_eq!(stage.outbox.status_blocking("k").unwrap().unwrap().state, State::Pending);
        let (probe, recorder) = (Probe::default(), Recorder::new());
        let next = database.outbox().only(COMMON).inject(probe.clone()).listener(recorder.listener()).start_blocking().unwrap();
        recorder.wait_for_count(2, State::Succeeded);
        assert_eq!((stage.probe.seen(), probe.seen_sorted()), (vec!["before".to_owned()], vec!["after".to_owned(), "keyed".to_owned()]));
        next.shutdown_blocking();
    }

    fn a_shutdown_waits_for_what_runs_and_says_what_it_did(database: &Database) {
        let release = Latch::new();
        let stage = Stage::with(database, |builder| builder.only([slow::NAME]).inject(release.clone()));
        let task_id = stage.commit::<Conn>(slow());
        stage.probe.wait_for(1);
        assert_eq!(stage.outbox.running().iter().map(|running| running.task_id.clone()).collect::<Vec<_>>(), std::slice::from_ref(&task_id));
        std::thread::scope(|scope| {
            let stopping = scope.spawn(|| stage.outbox.shutdown_blocking());
            assert!(!stopping.is_finished());
            release.raise();
            stopping.join().unwrap();
        });
        assert_eq!(stage.probe.seen(), ["started", "done"]);
        assert_eq!(database.row(&task_id).state(), State::Succeeded);
        let stopped = stage.recorder.events().into_iter().filter(|event| matches!(event, Event::Stopped { .. })).count();
        assert_eq!(stopped, 1);
    }

    fn it_starts_runs_and_stops_inside_tokio(database: &Database) {
        for workers in [0, 2] {
            let runtime = match workers {
                0 => tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
                workers => tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap(),
            };
            let (probe, recorder) = (Probe::default(), Recorder::new());
            runtime.block_on(async {
                let builder = database.outbox().only(COMMON).inject(probe.clone()).listener(recorder.listener());
                let outbox = builder.start().await.unwrap();
                let mut conn = database.connection::<Conn>();
                let (blocking, asynchronous) = outbox.transaction(&mut conn, |tx| {
                    QueryResult::Ok((tx.enqueue(text("blocking"))?, tx.enqueue(async_note("async".to_owned()))?))
                }).unwrap();
                // The runtime's own thread has to be free for the async one.
                let listening = recorder.clone();
                tokio::task::spawn_blocking(move || {
                    listening.wait_for_settled(blocking.task_id(), State::Succeeded);
                    listening.wait_for_settled(asynchronous.task_id(), State::Succeeded);
                }).await.unwrap();
                outbox.shutdown().await;
            });
            assert_eq!(probe.seen_sorted(), ["async", "blocking"]);
        }
        assert_eq!(database.count("consistency_task", "state = 2 AND execute_times = 1"), 4);
    }

    fn it_starts_runs_and_stops_without_tokio(database: &Database) {
        let stage = Stage::with(database, |builder| builder.only(COMMON));
        stage.run::<Conn>(async_note("async".to_owned()));
        stage.run::<Conn>(text("blocking"));
        stage.outbox.shutdown_blocking();
        assert_eq!(stage.probe.seen(), ["async", "blocking"]);
        assert_eq!(database.count("consistency_task", "state = 2 AND execute_times = 1"), 2);
    }

    fn two_outboxes_of_one_process_on_two_databases_keep_to_their_own(database: &Database) {
        let elsewhere = Database::fresh(BACKEND).unwrap();
        let here = Stage::with(database, |builder| builder.only([note::NAME]));
        let there = Stage::with(&elsewhere, |builder| builder.only([other::NAME]));
        let mut conn = database.connection::<Conn>();
        let refused = here.outbox.transaction(&mut conn, |tx| tx.enqueue(other("stray".to_owned()))).unwrap_err();
        assert!(refused.to_string().contains("not served"), "{refused}");
        here.run::<Conn>(text("here").key("same key"));
        there.run::<Conn>(other("there".to_owned()).key("same key"));
        assert_eq!((here.probe.seen(), there.probe.seen()), (vec!["here".to_owned()], vec!["there".to_owned()]));
        assert_eq!((here.tasks(), there.tasks()), (1, 1));
        assert_ne!(here.outbox.node(), there.outbox.node());
        // One ends, the other goes on.
        here.outbox.shutdown_blocking();
        there.run::<Conn>(other("still there".to_owned()));
    }

    fn two_outboxes_of_one_process_on_one_database_run_each_task_once(database: &Database) {
        let (probe, first, second) = (Probe::default(), Recorder::new(), Recorder::new());
        let start = |recorder: &Recorder| {
            database.outbox().only(COMMON).inject(probe.clone()).listener(recorder.listener()).start_blocking().unwrap()
        };
        let outboxes = [start(&first), start(&second)];
        assert_ne!(outboxes[0].node(), outboxes[1].node());
        let mut conn = database.connection::<Conn>();
        for number in 0..50 {
            let call = note(format!("{number:02}"));
            // Half of them for whichever poller comes first.
            let call = if number % 2 == 0 { call } else { call.delay(Duration::from_millis(1)) };
            outboxes[number % 4 / 2].transaction(&mut conn, |tx| tx.enqueue(call)).unwrap();
        }
        let done = || [&first, &second].map(|recorder| settled(&recorder.events(), State::Succeeded).count());
        consistency_tests::recorder::wait_until("all fifty", || done().iter().sum::<usize>() >= 50);
        for outbox in outboxes {
            outbox.shutdown_blocking();
        }
        assert_eq!(done().iter().sum::<usize>(), 50);
        assert_eq!(probe.seen_sorted(), (0..50).map(|number| format!("{number:02}")).collect::<Vec<_>>());
        assert_eq!(database.count("consistency_task", "state = 2 AND execute_times = 1 AND lost_times = 0"), 50);
    }

    /// Outboxes on different kinds of databases, each with the connections of its kind.
    #[cfg(feature = "sqlite")]
    fn two_outboxes_of_one_process_may_be_on_different_kinds_of_databases(database: &Database) {
        if BACKEND == Backend::Sqlite {
            return;
        }
        let file = Database::fresh(Backend::Sqlite).unwrap();
        let server = Stage::with(database, |builder| builder.only(COMMON));
        let local = Stage::with(&file, |builder| builder.only(COMMON));
        server.run::<Conn>(text("server"));
        local.run::<diesel::SqliteConnection>(text("local"));
        assert_eq!((server.probe.seen(), local.probe.seen()), (vec!["server".to_owned()], vec!["local".to_owned()]));
    }
}
