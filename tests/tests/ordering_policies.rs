//! What becomes of an ordering key when its head is given up: block, park and skip, for every way to be given up.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::Recorder;
use consistency_tests::scene::{Probe, end_leases, retry_by_hand, store, store_all};

/// Fails as often as it may: its attempts are used up.
#[consistency_task(max_attempts = 2, retry_every = "1ms")]
fn using_up(key: &str, #[inject] probe: &Arc<Probe>) -> Result<(), String> {
    probe.note(format!("{key} head"));
    if probe.go.count() > 0 { Ok(()) } else { Err("once more in vain".to_owned()) }
}

/// Says that no further attempt will help.
#[consistency_task]
fn hopeless(key: &str, #[inject] probe: &Arc<Probe>) -> Result<(), TaskError> {
    probe.note(format!("{key} head"));
    if probe.go.count() > 0 { Ok(()) } else { Err(TaskError::permanent("a poison head")) }
}

/// Never begins: the test makes its arguments unreadable.
#[consistency_task]
fn unreadable(key: &str, #[inject] probe: &Arc<Probe>) {
    probe.note(format!("{key} head"));
}

/// Lost with its process at every attempt; the test plays that.
#[consistency_task]
fn lost(key: &str, #[inject] probe: &Arc<Probe>) {
    probe.note(format!("{key} head"));
}

/// The same, with a single attempt.
#[consistency_task(max_attempts = 1)]
fn lost_at_last(key: &str, #[inject] probe: &Arc<Probe>) {
    probe.note(format!("{key} head"));
}

/// What comes behind a head.
#[consistency_task]
fn behind(key: &str, number: i64, #[inject] probe: &Arc<Probe>) {
    probe.note(format!("{key} {number}"));
}

/// Parks by itself.
#[consistency_task(when_dead = park)]
fn parking(key: &str, #[inject] probe: &Arc<Probe>) -> Result<(), TaskError> {
    if probe.go.count() > 0 {
        let _inside = probe.enter(key);
        probe.note(format!("{key} head"));
        return Ok(());
    }
    Err(TaskError::permanent("parked by its task"))
}

/// Runs until the test lets it go.
#[consistency_task]
fn gated(key: &str, number: i64, #[inject] probe: &Arc<Probe>) {
    let _inside = probe.enter(key);
    probe.note(format!("{key} {number}"));
    probe.go.wait_for(1);
}

const ALL: [&str; 8] = [
    using_up::NAME,
    hopeless::NAME,
    unreadable::NAME,
    lost::NAME,
    lost_at_last::NAME,
    behind::NAME,
    parking::NAME,
    gated::NAME,
];

/// A way to be given up: a name for the key, the head, and whether it dies in the hands of a process that is gone.
type Way = (&'static str, fn(&str) -> Call, bool);

/// Every way to be given up.
fn heads() -> [Way; 5] {
    [
        ("used-up", |key| using_up(key), false),
        ("hopeless", |key| hopeless(key), false),
        ("unreadable", |key| unreadable(key), false),
        ("crash-budget", |key| lost(key), true),
        ("lost-at-last", |key| lost_at_last(key), true),
    ]
}

/// Has a stored head look as if its process had died with it: `lost_times` before, running, the lease long over.
fn lose(database: &Database, task_id: &str, lost_before: i64) {
    database.execute(&format!(
        "UPDATE consistency_task SET state = 1, version = version + 1, execute_times = 1, lost_times = {lost_before}, \
         lease_owner = 'gone', lease_until = {} WHERE task_id = '{task_id}'",
        consistency_tests::scene::now(database.backend())
    ));
    end_leases(database, &format!("task_id = '{task_id}'"));
}

for_each_database! {
    fn each_policy_does_what_it_says_for_every_way_to_be_given_up(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        database.migrate();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let mut scenes = Vec::new();
        for policy in [WhenDead::Block, WhenDead::Park, WhenDead::Skip] {
            for (way, head, is_lost) in heads() {
                let key = format!("{way}-{policy:?}");
                let head = head(&key).ordered_by(&key).when_dead(policy);
                let rest = (1..=2).map(|number| behind(&key, number).ordered_by(&key));
                let task_ids = store_all::<Conn>(database, &elsewhere, [head].into_iter().chain(rest));
                match way {
                    "unreadable" => database.execute(&format!(
                        "UPDATE consistency_task SET task_parameter = '[]' WHERE task_id = '{}'", task_ids[0]
                    )),
                    _ if is_lost => lose(database, &task_ids[0], if way == "crash-budget" { 4 } else { 0 }),
                    _ => {}
                }
                scenes.push((key, policy, task_ids, is_lost));
            }
        }
        let outbox = database.outbox().only(ALL).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        for (key, policy, task_ids, is_lost) in &scenes {
            let given_up = if *policy == WhenDead::Skip { State::Skipped } else { State::Dead };
            let head = database.row(&task_ids[0]);
            recorder.wait_for(&format!("the head of {key} to be {given_up}"), |events| events.iter().any(|event| match event {
                Event::Settled { attempt, state, error, .. } => attempt.id == head.id && *state == given_up && error.is_some(),
                Event::Rescued { id, state, .. } => *is_lost && *id == head.id && *state == given_up,
                _ => false,
            }));
            if *policy != WhenDead::Block {
                recorder.wait_for_settled(&task_ids[2], State::Succeeded);
            }
        }
        for (key, policy, task_ids, _) in &scenes {
            let head = database.row(&task_ids[0]);
            let expected = if *policy == WhenDead::Skip { State::Skipped } else { State::Dead };
            assert_eq!((head.state(), head.order_policy), (expected, i64::from(policy.code())), "{key}");
            assert!(head.error_message.is_some(), "{key}: why it was given up is kept");
            let ran: Vec<String> = probe.notes().into_iter().filter(|note| note.starts_with(&format!("{key} ")) && !note.ends_with("head")).collect();
            if *policy == WhenDead::Block {
                assert_eq!(ran, [""; 0], "{key}");
                assert_eq!(database.row(&task_ids[1]).state(), State::Pending, "{key}");
            } else {
                assert_eq!(ran, [format!("{key} 1"), format!("{key} 2")]);
            }
        }
        // Who needs a person is on the operator's page; nobody is asked about what was skipped.
        assert_eq!(database.count("consistency_task_failed", "when_dead = 'skip'"), 0);
        assert_eq!(database.count("consistency_task_failed", "when_dead = 'park' AND state_name = 'dead'"), 5);
        assert_eq!(database.count("consistency_task_failed", "when_dead = 'block' AND order_key IS NOT NULL"), 5);
        assert_eq!(database.count("consistency_task_readable", "when_dead = 'skip' AND state_name = 'skipped'"), 5);

        // A blocked key that is parked by hand flows on.
        let (key, _, task_ids, _) = &scenes[1];
        assert_eq!(key, "hopeless-Block");
        database.execute(&format!("UPDATE consistency_task SET order_policy = 1 WHERE task_id = '{}'", task_ids[0]));
        recorder.wait_for_settled(&task_ids[2], State::Succeeded);
        outbox.shutdown_blocking();
    }

    fn a_parked_row_that_a_person_retries_runs_alone_and_before_the_rest_of_its_key(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only(ALL).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        let parked = store::<Conn>(database, &outbox, parking("red").ordered_by("red"));
        recorder.wait_for_settled(&parked, State::Dead);
        assert_eq!(database.row(&parked).order_policy, 1, "its task says so");
        let rest = store_all::<Conn>(database, &outbox, [gated("red", 1).ordered_by("red"), behind("red", 2).ordered_by("red")]);
        probe.wait_for("red 1", 1);
        retry_by_hand(database, &format!("task_id = '{parked}'"));
        // Others are looked for and run meanwhile, so that it had its chance.
        for number in 0..5 {
            let witness = store::<Conn>(database, &outbox, behind("blue", number).ordered_by("blue"));
            recorder.wait_for_settled(&witness, State::Succeeded);
        }
        assert_eq!(database.row(&parked).state(), State::Pending, "another row of its key runs");
        probe.go.raise();
        recorder.wait_for_settled(&rest[1], State::Succeeded);
        let red: Vec<String> = probe.notes().into_iter().filter(|note| note.starts_with("red")).collect();
        assert_eq!(red, ["red 1", "red head", "red 2"]);
        assert_eq!(probe.most_inside("red"), 1);
        outbox.shutdown_blocking();
    }

    fn the_policy_of_a_call_wins_over_its_tasks_and_means_nothing_without_a_key(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only(ALL).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        let calls = [
            parking("a").ordered_by("a").when_dead(WhenDead::Skip),
            parking("b").ordered_by("b").when_dead(WhenDead::Block),
            parking("c").ordered_by("c"),
            parking("d"),
            behind("e", 1).ordered_by("e"),
        ];
        let task_ids = store_all::<Conn>(database, &outbox, calls);
        let policies: Vec<i64> = task_ids.iter().map(|task_id| database.row(task_id).order_policy).collect();
        assert_eq!(policies, [2, 0, 1, 0, 0]);
        recorder.wait_for_settled(&task_ids[0], State::Skipped);
        for dead in &task_ids[1..4] {
            recorder.wait_for_settled(dead, State::Dead);
        }
        outbox.shutdown_blocking();
    }

    fn a_cancelled_head_lets_its_key_go_on_and_one_nobody_knows_here_holds_it(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        database.migrate();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let cancelled = store_all::<Conn>(database, &elsewhere, [hopeless("a").ordered_by("a"), behind("a", 1).ordered_by("a")]);
        database.execute(&format!("UPDATE consistency_task SET state = 6 WHERE task_id = '{}' AND state IN (0, 3, 4)", cancelled[0]));
        let unknown = store_all::<Conn>(database, &elsewhere, [hopeless("b").ordered_by("b"), behind("b", 1).ordered_by("b")]);
        let outbox = database.outbox().only([behind::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        recorder.wait_for_settled(&cancelled[1], State::Succeeded);
        recorder.wait_for("the unknown head to be reported", |events| {
            events.iter().any(|event| matches!(event, Event::UnknownNames { .. }))
        });
        assert_eq!(probe.notes(), ["a 1"]);
        assert_eq!(database.row(&unknown[1]).owners(), 0, "its predecessor has not run");
        probe.go.raise();
        let other = database.outbox().only([hopeless::NAME]).inject(Arc::clone(&probe)).start_blocking().unwrap();
        recorder.wait_for_settled(&unknown[1], State::Succeeded);
        assert_eq!(probe.notes(), ["a 1", "b head", "b 1"]);
        other.shutdown_blocking();
        outbox.shutdown_blocking();
    }

    fn the_order_is_that_of_the_commits_across_queues_priorities_delays_and_retries(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only(ALL).queue("side", 4).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        let ordered = |call: Call| call.ordered_by("mixed");
        let task_ids = store_all::<Conn>(database, &outbox, [
            ordered(behind("mixed", 0)).delay(Duration::from_millis(300)).priority(9),
            ordered(behind("mixed", 1)).priority(0),
            // Its retry is waited for as well.
            ordered(using_up("mixed")).queue("side").when_dead(WhenDead::Skip),
            ordered(behind("mixed", 2)).queue("side").priority(0),
            ordered(behind("mixed", 3)),
        ]);
        recorder.wait_for_settled(&task_ids[4], State::Succeeded);
        assert_eq!(probe.notes(), ["mixed 0", "mixed 1", "mixed head", "mixed head", "mixed 2", "mixed 3"]);
        outbox.shutdown_blocking();
    }
}
