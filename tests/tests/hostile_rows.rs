//! Whatever somebody writes into the table with SQL: no row keeps the others from running, and each ends where the
//! documentation says.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use consistency_core::arguments::ArgumentDecoder;
use consistency_core::error::Verdict;
use consistency_core::event::Event;
use consistency_core::retry::{Decision, decide};
use consistency_core::state::State;
use consistency_core::store::ClaimedTask;
use consistency_core::task::MAX_DELAY_SECS;
use consistency_diesel::outbox::Outbox;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::contract;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::hostile::{HostileRow, documents, extremes, rows};
use consistency_tests::length::is_long;
use consistency_tests::recorder::{Recorder, wait_until};
use consistency_tests::scene::{Probe, now, store};
use consistency_tests::seed::runner;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestError};

/// What a task says that always fails.
const REFUSES: &str = "it refuses to work";
/// How a message names the culprit.
const CULPRITS: [&str; 5] =
    ["the column `", "`task_parameter`", "parameter `", REFUSES, "the worker died or lost touch"];

#[consistency_task(name = "hostile.good")]
fn good(number: i64, #[inject] probe: &Arc<Probe>) {
    probe.note(format!("good {number}"));
}

#[consistency_task(name = "hostile.failing")]
fn failing(number: i64) -> Result<(), TaskError> {
    Err(TaskError::message(format!("{REFUSES} {number}")))
}

#[consistency_task(name = "hostile.any", mode = scheduled, run_on = caller)]
fn any_value(#[default] number: serde_json::Value, #[default] value: serde_json::Value) {
    drop((number, value));
}

const NAMES: &[&str] = &["hostile.good", "hostile.failing", "hostile.any"];

/// A running outbox beside rows written with SQL.
struct Scene<'d> {
    database: &'d Database,
    outbox: Outbox,
    recorder: Recorder,
    probe: Arc<Probe>,
}

impl<'d> Scene<'d> {
    /// Stores the hostile rows and `good` ones before and behind them, then starts; says how many were refused.
    fn begin(database: &'d Database, hostile: &[HostileRow]) -> (Self, Vec<HostileRow>) {
        database.execute("DELETE FROM consistency_task");
        match database.backend() {
            Backend::Mysql => database.execute("SET SESSION sql_mode = 'ALLOW_INVALID_DATES,STRICT_TRANS_TABLES'"),
            // It does not notice ids that are given.
            Backend::Postgres => database.execute("ALTER TABLE consistency_task ALTER COLUMN id RESTART WITH 200000"),
            Backend::Sqlite => {}
        }
        let neighbours = (1..6).map(|id| HostileRow::good("hostile.good", id));
        neighbours.for_each(|row| database.execute(&row.insert()));
        let stored = hostile.iter().filter(|row| database.try_execute(&row.insert()).is_ok()).cloned().collect();
        for id in 100_001..100_006 {
            database.execute(
                &HostileRow::good("hostile.good", id).with("next_execute_time", now(database.backend())).insert(),
            );
        }
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let builder = database.outbox().only(NAMES.iter().copied()).inject(Arc::clone(&probe));
        let outbox = builder.listener(recorder.listener()).start_blocking().unwrap();
        (Self { database, outbox, recorder, probe }, stored)
    }

    /// The good neighbours have run, the hostile rows are where they belong, and nothing went wrong in the runtime.
    fn check<C: consistency_diesel::blocking_connection::BlockingConnection>(self, stored: &[HostileRow]) {
        for id in (1..6).chain(100_001..100_006) {
            self.wait_until(&format!("the good row {id} to succeed"), || self.state(id) == State::Succeeded);
        }
        for row in stored {
            self.wait_until(&format!("{row:?} to find its place"), || self.is_settled(row));
        }
        let late = store::<C>(self.database, &self.outbox, good(-1));
        self.recorder.wait_for_settled(&late, State::Succeeded);
        assert_eq!(self.probe.count("good -1"), 1);
        assert_eq!(self.trouble(), Vec::<String>::new(), "{stored:#?}");
        self.outbox.shutdown_blocking();
        assert_eq!(self.trouble(), Vec::<String>::new(), "{stored:#?}");
    }

    /// As [`wait_until`]; a panic says what the runtime reports.
    fn wait_until(&self, what: &str, condition: impl FnMut() -> bool) {
        let waited = catch_unwind(AssertUnwindSafe(|| wait_until(what, condition)));
        assert!(waited.is_ok(), "{what}: {:#?}", self.trouble());
    }

    /// What the runtime should have had no reason to report.
    fn trouble(&self) -> Vec<String> {
        let bad = |event: &Event| matches!(event, Event::StoreTrouble { .. } | Event::SettleRefused { .. });
        let mut all: Vec<String> =
            self.recorder.events().iter().filter(|event| bad(event)).map(|event| format!("{event:?}")).collect();
        all.dedup();
        all.truncate(5);
        all
    }

    fn state(&self, id: i64) -> State {
        State::from_code(self.database.number(&format!("state FROM consistency_task WHERE id = {id}"))).expect("a code")
    }

    fn holds(&self, condition: &str, id: i64) -> bool {
        self.database.count("consistency_task t", &format!("t.id = {id} AND ({condition})")) == 1
    }

    /// Whether a row is where the documentation says.
    fn is_settled(&self, row: &HostileRow) -> bool {
        let id = row.id();
        let now = now(self.database.backend());
        let names = NAMES.join("', '");
        let left_alone = format!(
            "t.method_name NOT IN ('{names}') OR t.queue <> 'default' OR t.next_execute_time > {now} OR EXISTS (SELECT 1 FROM \
             consistency_task e WHERE e.order_key = t.order_key AND (e.state = 1 OR e.id < t.id AND e.state IN (0, 3, 4, 5)))"
        );
        let says = || {
            let error = format!("SELECT COALESCE(error_message, '') AS value FROM consistency_task WHERE id = {id}");
            self.database.texts(&error).pop().unwrap_or_default()
        };
        match self.state(id) {
            State::Pending => self.holds(&left_alone, id),
            State::Failed => self.holds(&left_alone, id) || says().contains(REFUSES),
            // Not leased by a node of this test.
            State::Running => self.holds("t.lease_until > '2030-01-01 00:00:00'", id),
            State::Dead => row.was_dead() || CULPRITS.iter().any(|culprit| says().contains(culprit)),
            State::Succeeded | State::Blocked | State::Skipped | State::Cancelled => true,
        }
    }
}

#[consistency_task(name = "hostile.waiting", retry_every = "20ms")]
fn waiting(fails: bool, #[inject] probe: &Arc<Probe>) -> Result<(), TaskError> {
    probe.note(format!("waiting {fails}"));
    probe.go.wait_for(1);
    if fails { Err(TaskError::deferred("a newer build has to run it".to_owned())) } else { Ok(()) }
}

/// Any JSON, any broken JSON, and any text.
fn any_document() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:e}")),
        "[0-9]{1,400}",
        Just("null".to_owned()),
        "\\PC{0,10}".prop_map(|text| format!("{text:?}")),
        Just("\"\\ud800\"".to_owned()),
    ];
    let tree = leaf.prop_recursive(6, 40, 5, |inner| {
        let key =
            prop::sample::select(vec!["number", "backoff", "shape", "cap", "secs", "retry_every_ms", "x", "\\ud800"]);
        let member = (key, inner.clone()).prop_map(|(key, value)| format!("\"{key}\":{value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec(member, 0..5).prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    });
    let cut = (tree.clone(), any::<prop::sample::Index>()).prop_map(|(text, at)| {
        let ends: Vec<usize> = text.char_indices().map(|(end, _)| end).collect();
        text[..*at.get(&ends)].to_owned()
    });
    prop_oneof![4 => tree, 2 => cut, 1 => ".{0,60}", 1 => prop::sample::select(documents())]
}

/// Whatever the text, reading it ends with values or with an error that no retry repeats, and never with a panic.
#[test]
fn no_text_is_too_strange_to_be_read() {
    let cases = if is_long() { 1_000_000 } else { 3_000 };
    let read = runner(module_path!(), cases).run(&any_document(), |text| {
        let verdict = |error: TaskError| matches!(error.verdict(), Verdict::Permanent | Verdict::Defer);
        let decoded = ArgumentDecoder::new(&text).and_then(|mut decoder| {
            decoder.take::<Option<i64>>("number")?;
            decoder.take::<Option<serde_json::Value>>("x")?;
            decoder.take_or_default::<Vec<String>>("cap")?;
            decoder.finish()
        });
        prop_assert!(decoded.map_or_else(verdict, |()| true));
        Ok(())
    });
    read.unwrap_or_else(|error| panic!("{error}"));
}

/// Whatever stands in `meta` and in the columns of the policy, the next attempt is at most twenty years away, and not so near
/// that a row which cannot succeed keeps its node busy.
#[test]
fn no_policy_is_too_strange_to_be_followed() {
    // Ten years, and as much again of jitter.
    let (shortest, longest) = (Duration::from_millis(1), Duration::from_secs(2 * MAX_DELAY_SECS));
    let strange = [i64::MIN, -1, 0, 1, 60, 1 << 31, i64::MAX / 1_000, i64::MAX];
    let number = || prop_oneof![any::<i64>(), prop::sample::select(strange.to_vec())];
    let cases = if is_long() { 1_000_000 } else { 3_000 };
    let backoff =
        (prop::sample::select(vec!["fixed", "linear", "exponential"]), any::<u64>(), any::<u32>(), any::<u8>())
            .prop_map(|(shape, secs, nanos, jitter)| {
                let cap = format!("{{\"secs\":{secs},\"nanos\":{nanos}}}");
                format!("{{\"backoff\":{{\"shape\":\"{shape}\",\"cap\":{cap},\"jitter_percent\":{jitter}}}}}")
            });
    let meta = prop::option::of(prop_oneof![any_document(), backoff]);
    let row = (meta, number(), number(), prop::option::of(number()), 0.0..=1.0_f64);
    let followed = runner(module_path!(), cases).run(&row, |(meta, interval, times, most, chance)| {
        let mut task = ClaimedTask::from_inserted(contract::steps::row("strange"), 1);
        task.meta = meta;
        (task.execute_interval_second, task.execute_times, task.max_execute_times) = (interval, times, most);
        for outcome in [TaskError::message("no"), TaskError::deferred(String::new())] {
            match decide(&Err(outcome), task.attempt(), &task.policy(), chance) {
                Decision::Retry(delay) | Decision::Defer(delay) => {
                    prop_assert!(delay >= shortest && delay <= longest, "{delay:?}")
                }
                Decision::GiveUp => prop_assert!(most.is_some()),
                Decision::Succeed => prop_assert!(false, "it failed"),
            }
        }
        prop_assert!(most.is_none_or(|most| most > 0) || task.policy().max_attempts == Some(0));
        Ok(())
    });
    followed.unwrap_or_else(|error| panic!("{error}"));
}

for_each_database! {
    fn counts_edited_while_a_task_runs_do_not_keep_its_outcome_from_being_written(database: &Database) {
        for (fails, handed_over, times) in [(false, true, i64::from(i32::MAX)), (true, false, 0)] {
            let (recorder, probe) = (Recorder::new(), Probe::new());
            let builder = database.outbox().only([waiting::NAME]).inject(Arc::clone(&probe));
            let outbox = builder.listener(recorder.listener()).start_blocking().unwrap();
            let call = if handed_over { waiting(fails) } else { waiting(fails).delay(Duration::from_millis(1)) };
            let task_id = store::<Conn>(database, &outbox, call);
            probe.wait_for(&format!("waiting {fails}"), 1);
            database.execute(&format!("UPDATE consistency_task SET execute_times = {times} WHERE task_id = '{task_id}'"));
            probe.go.raise();
            recorder.wait_for_settled(&task_id, if fails { State::Failed } else { State::Succeeded });
            outbox.shutdown_blocking();
            let refused = |event: &Event| matches!(event, Event::SettleRefused { .. } | Event::StoreTrouble { .. });
            assert!(!recorder.events().iter().any(refused), "{:#?}", recorder.events());
        }
    }

    fn extremes_of_every_column_keep_nobody_from_running(database: &Database) {
        database.migrate();
        let all = extremes(BACKEND, "hostile.good");
        let (scene, stored) = Scene::begin(database, &all);
        println!("{BACKEND}: {} rows stored, {} refused by the database", stored.len(), all.len() - stored.len());
        scene.check::<Conn>(&stored);
    }

    fn rows_of_any_content_keep_nobody_from_running(database: &Database) {
        database.migrate();
        let played = runner(module_path!(), if is_long() { 500 } else { 12 }).run(&rows(BACKEND, NAMES), |rows| {
            let checked = catch_unwind(AssertUnwindSafe(|| {
                let (scene, stored) = Scene::begin(database, &rows);
                scene.check::<Conn>(&stored);
            }));
            checked.map_err(|_| TestCaseError::fail("see above"))
        });
        if let Err(TestError::Fail(reason, rows)) = played {
            panic!("{reason}: {rows:#?}");
        }
    }
}
