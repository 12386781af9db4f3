//! Panics of every kind end one attempt and nothing else.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::Recorder;
use consistency_tests::scene::{Probe, store};

/// A payload whose own end panics.
struct Explosive;

impl Drop for Explosive {
    fn drop(&mut self) {
        panic!("dropped a payload");
    }
}

/// Panics in the way `kind` says.
fn fail(kind: &str) {
    match kind {
        "text" => panic!("a plain text"),
        "formatted" => panic!("order {} is missing", 7),
        "number" => std::panic::panic_any(42),
        "explosive" => std::panic::panic_any(Explosive),
        "index" => assert!([1, 2, 3][kind.len()..].is_empty()),
        other => unreachable!("{other}"),
    }
}

/// What the row says of the panic of each kind.
const KINDS: [(&str, &str); 5] = [
    ("text", "panicked: a plain text"),
    ("formatted", "panicked: order 7 is missing"),
    ("number", "panicked with a payload that is no text"),
    ("explosive", "panicked with a payload that is no text"),
    ("index", "panicked: range start index 5 out of range for slice of length 3"),
];

#[consistency_task(retry_every = "50ms")]
fn in_a_thread(kind: &str, #[inject] probe: &Arc<Probe>, #[context] cx: &TaskContext) {
    probe.note(format!("{kind} {}", cx.attempt()));
    if cx.attempt() == 1 {
        fail(kind);
    }
}

#[consistency_task(retry_every = "50ms")]
async fn in_a_future(kind: &str, #[inject] probe: &Arc<Probe>, #[context] cx: &TaskContext) {
    tokio::task::yield_now().await;
    probe.note(format!("{kind} {}", cx.attempt()));
    if cx.attempt() == 1 {
        fail(kind);
    }
}

#[consistency_task(retry_every = "50ms", run_on = caller)]
fn on_the_caller(kind: &str, #[inject] probe: &Arc<Probe>, #[context] cx: &TaskContext) {
    probe.note(format!("{kind} {}", cx.attempt()));
    if cx.attempt() == 1 {
        fail(kind);
    }
}

/// Stores a call of each kind on an outbox with a single slot, and checks that each fails once and succeeds then.
macro_rules! each_kind_fails_once {
    ($database:ident, $Conn:ty, $task:ident) => {{
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = $database.outbox().only([$task::NAME]).concurrency(1).inject(Arc::clone(&probe));
        let outbox =
            outbox.heartbeat(Duration::from_millis(100)).listener(recorder.listener()).start_blocking().unwrap();
        for (kind, message) in KINDS {
            let task_id = store::<$Conn>($database, &outbox, $task(kind));
            recorder.wait_for_settled(&task_id, State::Succeeded);
            let row = $database.row(&task_id);
            assert_eq!((row.state(), row.execute_times, row.error_message), (State::Succeeded, 2, None));
            let error = recorder.wait_for_some("the failed attempt", |events| {
                events.iter().find_map(|event| match event {
                    consistency_core::event::Event::Settled { attempt, state: State::Failed, error, .. }
                        if attempt.task_id == task_id && attempt.attempt == 1 =>
                    {
                        error.clone()
                    }
                    _ => None,
                })
            });
            assert!(error.starts_with(message), "{kind}: {error}");
            assert_eq!((probe.count(&format!("{kind} 1")), probe.count(&format!("{kind} 2"))), (1, 1));
        }
        outbox.shutdown_blocking();
        assert_eq!($database.count("consistency_task", "state = 2 AND lost_times = 0"), KINDS.len() as i64);
    }};
}

for_each_database! {
    items {
        #[consistency_task(retry_every = "50ms")]
        fn in_a_transaction(
            kind: &str,
            #[inject] probe: &Arc<Probe>,
            #[context] cx: &TaskContext,
            #[tx] tx: &mut TaskTx<Conn>,
        ) -> diesel::QueryResult<()> {
            use diesel::connection::SimpleConnection;
            probe.note(format!("{kind} {}", cx.attempt()));
            tx.batch_execute(&format!("INSERT INTO note (text) VALUES ('{kind} {}')", cx.attempt()))?;
            if cx.attempt() == 1 {
                fail(kind);
            }
            Ok(())
        }
    }

    fn a_panic_in_a_thread_is_an_error_of_its_attempt(database: &Database) {
        each_kind_fails_once!(database, Conn, in_a_thread);
    }

    fn a_panic_in_a_future_is_an_error_of_its_attempt(database: &Database) {
        each_kind_fails_once!(database, Conn, in_a_future);
    }

    fn a_panic_on_the_callers_thread_is_an_error_of_its_attempt_and_not_the_callers(database: &Database) {
        each_kind_fails_once!(database, Conn, on_the_caller);
    }

    fn a_panic_in_a_transaction_rolls_its_writes_back(database: &Database) {
        database.execute("CREATE TABLE note (text VARCHAR(20) NOT NULL)");
        each_kind_fails_once!(database, Conn, in_a_transaction);
        let mut written = database.texts("SELECT text AS value FROM note");
        written.sort();
        assert_eq!(written, ["explosive 2", "formatted 2", "index 2", "number 2", "text 2"]);
    }

    fn the_row_of_a_panic_can_be_read_while_it_waits(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([waits_long::NAME]).inject(probe).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, waits_long());
        recorder.wait_for_settled(&task_id, State::Failed);
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times), (State::Failed, 1));
        assert_eq!(row.error_message.as_deref(), Some("panicked: a plain text"));
        assert_eq!(database.number("COUNT(*) FROM consistency_task_failed"), 1);
        outbox.shutdown_blocking();
    }
}

#[consistency_task(retry_every = "1h")]
fn waits_long() {
    fail("text");
}
