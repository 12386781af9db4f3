//! Queues and priorities share the slots as they are told; people ask for a task's status and prune what is finished.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::Recorder;
use consistency_tests::scene::{Probe, store, store_all};

#[consistency_task(queue = "narrow")]
async fn narrow(#[inject] probe: &Arc<Probe>) {
    let _inside = probe.enter("narrow");
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[consistency_task(queue = "narrow")]
fn narrow_and_slow(#[inject] probe: &Arc<Probe>) {
    let _inside = probe.enter("narrow");
    probe.note("slow begun");
    probe.go.wait_for(1);
}

#[consistency_task]
fn wide(text: &str, #[inject] probe: &Arc<Probe>) {
    probe.note(text);
}

#[consistency_task(retry_every = "1h")]
fn fails() -> Result<(), String> {
    Err("no".to_owned())
}

const NAMES: [&str; 4] = [narrow::NAME, narrow_and_slow::NAME, wide::NAME, fails::NAME];

for_each_database! {
    fn a_queue_with_one_slot_never_runs_two_at_once_while_another_flows(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only(NAMES).queue("narrow", 1).concurrency(4).inject(Arc::clone(&probe));
        let outbox = outbox.listener(recorder.listener()).start_blocking().unwrap();
        let slow = store::<Conn>(database, &outbox, narrow_and_slow());
        probe.wait_for("slow begun", 1);
        let waiting = store_all::<Conn>(database, &outbox, (0..20).map(|_| narrow()));
        store_all::<Conn>(database, &outbox, (0..50).map(|_| wide("wide")));
        probe.wait_for("wide", 50);
        recorder.wait_for_count(50, State::Succeeded);
        assert_eq!(database.count("consistency_task", "state = 2 AND queue = 'default'"), 50);
        assert_eq!(database.count("consistency_task", "state = 2 AND queue = 'narrow'"), 0);
        probe.go.raise();
        recorder.wait_for_settled(&slow, State::Succeeded);
        recorder.wait_for_count(50 + 1 + waiting.len(), State::Succeeded);
        assert_eq!(probe.most_inside("narrow"), 1);
        outbox.shutdown_blocking();
    }

    fn a_slow_task_delays_nobody_elses_claim(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only(NAMES).queue("narrow", 2).inject(Arc::clone(&probe));
        let outbox = outbox.listener(recorder.listener()).start_blocking().unwrap();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let slow = store::<Conn>(database, &elsewhere, narrow_and_slow());
        probe.wait_for("slow begun", 1);
        let others = store_all::<Conn>(database, &elsewhere, (0..30).map(|_| narrow()));
        recorder.wait_for_count(others.len(), State::Succeeded);
        assert_eq!(database.row(&slow).state(), State::Running);
        probe.go.raise();
        recorder.wait_for_settled(&slow, State::Succeeded);
        outbox.shutdown_blocking();
    }

    fn a_better_priority_goes_first_and_within_one_the_older(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        database.migrate();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let priorities = [5, 9, 0, 5, 1, 9, 0, 3];
        for (number, priority) in priorities.into_iter().enumerate() {
            store::<Conn>(database, &elsewhere, wide(&format!("{priority} {number}")).priority(priority));
        }
        let outbox = database.outbox().only(NAMES).concurrency(1).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        recorder.wait_for_count(priorities.len(), State::Succeeded);
        assert_eq!(probe.notes(), ["0 2", "0 6", "1 4", "3 7", "5 0", "5 3", "9 1", "9 5"]);
        outbox.shutdown_blocking();
    }

    fn the_status_says_what_the_row_says(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only(NAMES).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        assert_eq!(outbox.status_blocking("nobody").unwrap(), None);

        let later = store::<Conn>(database, &outbox, wide("later").key("order-7").delay(Duration::from_secs(3600)));
        let status = outbox.status_blocking("order-7").unwrap().unwrap();
        assert_eq!((status.task_id.as_str(), status.state, status.execute_times), (later.as_str(), State::Pending, 0));
        assert_eq!((status.method_name.as_str(), status.lease_owner), (wide::NAME, None));
        // SQLite's clock has milliseconds, so due times are rounded up there.
        assert!(status.due_in > Duration::from_secs(3500) && status.due_in <= Duration::from_millis(3_600_010));

        let running = store::<Conn>(database, &outbox, narrow_and_slow());
        probe.wait_for("slow begun", 1);
        let status = outbox.status_blocking(&running).unwrap().unwrap();
        assert_eq!((status.state, status.lease_owner.as_deref()), (State::Running, Some(outbox.node())));
        assert_eq!(outbox.running().iter().map(|task| task.task_id.as_str()).collect::<Vec<_>>(), [running.as_str()]);
        probe.go.raise();

        let failing = store::<Conn>(database, &outbox, fails());
        recorder.wait_for_settled(&failing, State::Failed);
        let status = outbox.status_blocking(&failing).unwrap().unwrap();
        assert_eq!((status.state, status.execute_times, status.error_message.as_deref()), (State::Failed, 1, Some("no")));
        outbox.shutdown_blocking();
        assert_eq!(outbox.status_blocking(&running).unwrap().unwrap().state, State::Succeeded);
    }

    fn pruning_deletes_old_finished_rows_alone_and_no_more_than_asked(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only(NAMES).inject(probe).listener(recorder.listener()).start_blocking().unwrap();
        store_all::<Conn>(database, &outbox, (0..7).map(|_| wide("done")));
        let failing = store::<Conn>(database, &outbox, fails());
        let later = store::<Conn>(database, &outbox, wide("later").delay(Duration::from_secs(3600)));
        let dead = store::<Conn>(database, &outbox, wide("dead").delay(Duration::from_secs(3600)));
        database.execute(&format!("UPDATE consistency_task SET state = 4 WHERE task_id = '{dead}'"));
        recorder.wait_for_count(7, State::Succeeded);
        recorder.wait_for_settled(&failing, State::Failed);

        assert_eq!(outbox.prune_blocking(Duration::from_secs(3600), 100).unwrap(), 0, "nothing is old enough");
        assert_eq!(outbox.prune_blocking(Duration::ZERO, 5).unwrap(), 5);
        assert_eq!(outbox.prune_blocking(Duration::ZERO, 5).unwrap(), 2);
        assert_eq!(outbox.prune_blocking(Duration::ZERO, 5).unwrap(), 0);
        let left: Vec<String> = database.rows("id > 0").into_iter().map(|row| row.task_id).collect();
        assert_eq!(left, [failing, later, dead]);
        outbox.shutdown_blocking();
    }
}
