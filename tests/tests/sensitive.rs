//! The values of `#[sensitive]` parameters are in `task_parameter` and nowhere else: in no error, event, log line or `Debug`.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use consistency_core::error::EnqueueError;
use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::error::enqueue_error;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::Recorder;
use consistency_tests::scene::{Probe, store};
use diesel::connection::{Connection as _, InstrumentationEvent};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize, Serializer};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Card {
    number: String,
    holder: String,
    limit: i64,
}

impl Card {
    /// One whose values occur in this test alone, however often it is stamped.
    fn of(test: &str) -> Card {
        Card {
            number: format!("4111-1111-{test}"),
            holder: format!("O'Hara \"Jo\" \\ \u{e4}\n{test}"),
            limit: 98_765_432,
        }
    }

    /// Every form in which a value of it could show up.
    fn forms(&self) -> Vec<String> {
        let json = serde_json::to_string(&self.holder).unwrap();
        let forms = [&self.number, &self.holder, &format!("{:?}", self.holder), &json, &self.limit.to_string()];
        forms.into_iter().map(|form| form.trim_matches('"').to_owned()).collect()
    }
}

/// The kinds of failure, and how each error reads once the values are left out.
const KINDS: [(&str, &str); 7] = [
    ("shown", "order 7: card *** of *** declined"),
    ("debug", "Card { number: \"***\", holder: \"***\", limit: *** }"),
    ("json", "{\"number\":\"***\",\"holder\":\"***\",\"limit\":***}"),
    ("chain", "declined\ncaused by: the bank says: *** is unknown"),
    ("panic", "panicked: no bank for ***"),
    ("permanent", "never again: ***"),
    ("later", "limit *** reached"),
];

fn fail(kind: &str, order: i64, card: &Card) -> anyhow::Result<()> {
    use anyhow::Context;
    match kind {
        "shown" => anyhow::bail!("order {order}: card {} of {} declined", card.number, card.holder),
        "debug" => anyhow::bail!("{card:?}"),
        "json" => anyhow::bail!("{}", serde_json::to_string(card)?),
        "chain" => Err(anyhow::anyhow!("the bank says: {} is unknown", card.number)).context("declined"),
        "panic" => panic!("no bank for {}", card.number),
        "permanent" => Err(TaskError::permanent(format!("never again: {}", card.number)).into()),
        _ => Err(TaskError::retry_after(Duration::from_millis(20), format!("limit {} reached", card.limit)).into()),
    }
}

#[consistency_task(name = "sensitive.thread", retry_every = "20ms", max_attempts = 2)]
fn in_a_thread(kind: &str, order: i64, #[sensitive] card: &Card) -> anyhow::Result<()> {
    fail(kind, order, card)
}

#[consistency_task(name = "sensitive.future", retry_every = "20ms", max_attempts = 2)]
async fn in_a_future(kind: &str, order: i64, #[sensitive] card: Card) -> anyhow::Result<()> {
    tokio::task::yield_now().await;
    fail(kind, order, &card)
}

#[consistency_task(name = "sensitive.caller", retry_every = "20ms", max_attempts = 2, run_on = caller)]
fn on_the_caller(kind: &str, order: i64, #[sensitive] card: Card) -> anyhow::Result<()> {
    fail(kind, order, &card)
}

/// Shows whatever it can get hold of.
#[consistency_task(name = "sensitive.curious")]
fn curious(#[sensitive] card: Card, #[context] cx: &TaskContext, #[inject] probe: &Arc<Probe>) -> anyhow::Result<()> {
    let follow_up = in_a_thread("shown", 7, &card);
    let shown = format!("{follow_up:?} {follow_up:#?}");
    cx.enqueue(follow_up.delay(Duration::from_secs(3600)))?;
    probe.note(format!("{shown} {cx:?}"));
    Ok(())
}

/// Refuses to be written, and says what it is.
#[derive(Debug, Clone, Deserialize)]
struct Unwritable(String);

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(format!("{} is not for the table", self.0)))
    }
}

#[consistency_task(name = "sensitive.unwritable")]
fn unwritable(#[sensitive] secret: Unwritable, #[sensitive] document: String) {
    drop((secret, document));
}

/// Everything that was logged in this process, spans and all.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The log, written from the first call on.
    fn kept() -> Log {
        static LOG: OnceLock<Log> = OnceLock::new();
        let begin = || {
            let log = Log::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
                .with_ansi(false)
                .with_writer(move || writer.clone());
            tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
            log
        };
        LOG.get_or_init(begin).clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[track_caller]
fn assert_without(card: &Card, what: &str, text: &str) {
    for form in card.forms() {
        assert!(!text.contains(&form), "{what} shows {form}: {text}");
    }
}

/// The errors of an attempt at a task, as its events tell them.
fn errors(recorder: &Recorder, task_id: &str) -> Vec<String> {
    let of_task = |event: &Event| match event {
        Event::Settled { attempt, error: Some(error), .. } if attempt.task_id == task_id => Some(error.clone()),
        _ => None,
    };
    recorder.events().iter().filter_map(of_task).collect()
}

/// Has a call of every kind fail until it is dead, and looks for the card everywhere.
macro_rules! every_kind_leaves_it_out {
    ($database:ident, $Conn:ty, $task:ident) => {{
        let (log, recorder) = (Log::kept(), Recorder::new());
        let outbox = $database.outbox().only([$task::NAME]).listener(recorder.listener()).start_blocking().unwrap();
        let card = Card::of(&format!("{}-{BACKEND:?}", $task::NAME));
        for (kind, expected) in KINDS {
            let task_id = store::<$Conn>($database, &outbox, $task(kind, 7, card.clone().into_argument()));
            recorder.wait_for_settled(&task_id, State::Dead);
            let row = $database.row(&task_id);
            assert_eq!(row.error_message.as_deref(), Some(expected), "{kind}");
            let attempts = if kind == "permanent" { 1 } else { 2 };
            assert_eq!(errors(&recorder, &task_id), vec![expected; attempts], "{kind}");
            // What it is run with has to be stored.
            let stored: serde_json::Value = serde_json::from_str(&row.task_parameter).unwrap();
            assert_eq!(stored["card"]["holder"], card.holder);
            assert!(log.text().contains(&task_id), "the log tells of the failure");
        }
        outbox.shutdown_blocking();
        assert_without(&card, "an event", &format!("{:?}", recorder.events()));
        assert_without(&card, "the log", &log.text());
        let types = $database.texts("SELECT parameter_types AS value FROM consistency_task");
        assert_eq!(types[0], "kind: String, order: i64, card: Card (sensitive)");
    }};
}

/// So that one macro serves tasks that borrow their card and tasks that own it.
trait IntoArgument<T> {
    fn into_argument(self) -> T;
}

impl IntoArgument<Card> for Card {
    fn into_argument(self) -> Card {
        self
    }
}

impl IntoArgument<&'static Card> for Card {
    fn into_argument(self) -> &'static Card {
        Box::leak(Box::new(self))
    }
}

for_each_database! {
    items {
        /// Has the database itself quote the value.
        #[consistency_task(name = "sensitive.transaction", retry_every = "20ms", max_attempts = 2)]
        fn in_a_transaction(#[sensitive] table: &str, #[tx] tx: &mut TaskTx<Conn>) -> diesel::QueryResult<()> {
            use diesel::connection::SimpleConnection;
            tx.batch_execute(&format!("SELECT * FROM {table}"))
        }
    }

    fn errors_and_panics_of_a_thread_leave_the_value_out(database: &Database) {
        every_kind_leaves_it_out!(database, Conn, in_a_thread);
    }

    fn errors_and_panics_of_a_future_leave_the_value_out(database: &Database) {
        every_kind_leaves_it_out!(database, Conn, in_a_future);
    }

    fn errors_and_panics_on_the_callers_thread_leave_the_value_out(database: &Database) {
        every_kind_leaves_it_out!(database, Conn, on_the_caller);
    }

    fn what_the_database_quotes_is_left_out_too(database: &Database) {
        let (log, recorder) = (Log::kept(), Recorder::new());
        let outbox = database.outbox().only([in_a_transaction::NAME]).listener(recorder.listener()).start_blocking().unwrap();
        let secret = format!("tbl_7f3a_{}", BACKEND.key());
        let task_id = store::<Conn>(database, &outbox, in_a_transaction(&secret));
        recorder.wait_for_settled(&task_id, State::Dead);
        outbox.shutdown_blocking();
        let error = database.row(&task_id).error_message.unwrap();
        assert!(error.contains("***") && !error.contains(&secret), "{error}");
        assert!(!format!("{:?}", recorder.events()).contains(&secret));
        assert!(!log.text().contains(&secret));
    }

    fn what_cannot_be_decoded_is_not_quoted(database: &Database) {
        let (log, recorder) = (Log::kept(), Recorder::new());
        database.migrate();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let secret = format!("5500-decode-{BACKEND:?}");
        let why = "the stored arguments cannot be decoded: ";
        let card = "parameter `card`: expected sensitive::Card; it is sensitive, so it is not quoted";
        let whole = "`task_parameter` is not a JSON object: a parameter is sensitive, so it is not quoted";
        let cases = [
            (format!("{{\"kind\":\"\",\"order\":1,\"card\":\"{secret}\"}}"), card),
            (format!("{{\"kind\":\"\",\"order\":1,\"card\":{{\"number\":\"{secret}\",\"holder\":5,\"limit\":1}}}}"), card),
            ("{\"kind\":\"\",\"order\":1,\"card\":5500123456}".to_owned(), card),
            (format!("\"{secret}\""), whole),
            (format!("{{\"card\":\"{secret}"), whole),
            ("{\"kind\":\"\",\"order\":1}".to_owned(), "parameter `card` is missing"),
            // Only what is sensitive is kept back.
            ("{\"kind\":\"\",\"order\":\"one\",\"card\":{}}".to_owned(), "parameter `order`: invalid type: string \"one\", expected i64"),
        ];
        let ids: Vec<String> = cases.iter().map(|_| store::<Conn>(database, &elsewhere, in_a_thread("shown", 7, &Card::of("decode")))).collect();
        for (task_id, (arguments, _)) in ids.iter().zip(&cases) {
            database.execute(&format!("UPDATE consistency_task SET task_parameter = '{arguments}' WHERE task_id = '{task_id}'"));
        }
        let outbox = database.outbox().only([in_a_thread::NAME]).listener(recorder.listener()).start_blocking().unwrap();
        for (task_id, (_, expected)) in ids.iter().zip(&cases) {
            recorder.wait_for_settled(task_id, State::Dead);
            let error = database.row(task_id).error_message.unwrap();
            assert!(error.starts_with(&format!("{why}{expected}")), "{error}");
            for part in [secret.as_str(), "5500123456"] {
                assert!(!error.contains(part), "{error}");
            }
        }
        outbox.shutdown_blocking();
        let told = format!("{:?} {}", recorder.events(), log.text());
        assert!(!told.contains(&secret) && !told.contains("5500123456"));
    }

    fn a_refusal_to_store_it_does_not_quote_it(database: &Database) {
        let (log, secret) = (Log::kept(), format!("6011-refused-{BACKEND:?}"));
        let outbox = database.outbox().max_argument_bytes(300).only([unwritable::NAME, in_a_thread::NAME]).start_blocking().unwrap();
        let mut conn = database.connection::<Conn>();
        let too_large = Card { holder: secret.repeat(20), ..Card::of("refused") };
        outbox.transaction(&mut conn, |tx| {
            let call = unwritable(Unwritable(secret.clone()), secret.clone());
            assert!(!format!("{call:?}").contains(&secret));
            let error = tx.enqueue(call).unwrap_err();
            assert!(matches!(enqueue_error(&error), Some(EnqueueError::Unserializable { parameter: "secret", .. })), "{error:?}");
            assert!(!format!("{error} {error:?}").contains(&secret), "{error}");
            let error = tx.enqueue(in_a_thread("shown", 7, &too_large)).unwrap_err();
            assert!(matches!(enqueue_error(&error), Some(EnqueueError::TooLarge { parameter: "card", .. })), "{error:?}");
            assert!(!format!("{error} {error:?}").contains(&secret), "{error}");
            diesel::QueryResult::Ok(())
        }).unwrap();
        outbox.shutdown_blocking();
        assert!(!log.text().contains(&secret));
    }

    fn neither_a_call_nor_a_context_nor_a_statement_shows_it(database: &Database) {
        let (log, recorder, probe) = (Log::kept(), Recorder::new(), Probe::new());
        let outbox = database.outbox().only([curious::NAME, in_a_thread::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        let card = Card::of(&format!("curious-{BACKEND:?}"));
        let mut conn = database.connection::<Conn>();
        let statements = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&statements);
        conn.set_instrumentation(move |event: InstrumentationEvent<'_>| heard.lock().push_str(&format!("{event:?}\n")));
        let receipts = outbox.transaction(&mut conn, |tx| {
            // Those that are buffered and those that are not.
            let receipts = [curious(card.clone()), curious(card.clone()).key("keyed")].map(|call| tx.enqueue(call).unwrap());
            assert_without(&card, "a receipt", &format!("{receipts:?}"));
            diesel::QueryResult::Ok(receipts)
        }).unwrap();
        for receipt in &receipts {
            recorder.wait_for_settled(receipt.task_id(), State::Succeeded);
        }
        outbox.shutdown_blocking();
        for note in probe.notes() {
            assert!(note.contains("\"card\":***") && note.contains("sensitive.thread"), "{note}");
            assert_without(&card, "a body", &note);
        }
        assert_eq!(probe.notes().len(), 2);
        let statements = statements.lock();
        assert!(statements.contains("consistency_task") && statements.contains("bytes>"), "{statements}");
        assert_without(&card, "a statement", &statements);
        assert_without(&card, "the log", &log.text());
    }

    fn the_outbox_for_tests_leaves_it_out_too(database: &Database) {
        database.migrate();
        let outbox = Outbox::for_test::<Conn>().only([in_a_thread::NAME]).build().unwrap();
        let mut conn = database.connection::<Conn>();
        let card = Card::of(&format!("tests-{BACKEND:?}"));
        outbox.transaction(&mut conn, |tx| tx.enqueue(in_a_thread("shown", 7, &card))).unwrap();
        let report = outbox.run_pending(&mut conn).unwrap();
        assert_eq!(report.failures, [(in_a_thread::NAME.to_owned(), KINDS[0].1.to_owned())]);
        assert_eq!(database.rows("1 = 1")[0].error_message.as_deref(), Some(KINDS[0].1));
    }
}
