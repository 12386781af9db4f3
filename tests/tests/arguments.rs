//! Arguments reach the body as they were given, by way of the table; what cannot be stored is refused by name.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use consistency_core::error::EnqueueError;
use consistency_core::state::State;
use consistency_diesel::error::enqueue_error;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::Recorder;
use consistency_tests::stage::{Probe, Stage, business};
use diesel::prelude::*;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize, Serializer};

/// What a body got.
#[derive(Debug, Clone)]
struct Got<T>(Arc<Mutex<Vec<T>>>);

impl<T> Default for Got<T> {
    fn default() -> Self {
        Got(Arc::default())
    }
}

#[consistency_task]
fn texts(all: Vec<String>, #[inject] got: &Got<String>) {
    got.0.lock().extend(all);
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Numbers {
    small: i64,
    large: i64,
    unsigned: u64,
    wide: i128,
    float: f64,
    tiny: f64,
    single: f32,
}

#[consistency_task]
fn numbers(numbers: &Numbers, direct: i64, unsigned: u64, float: f64, #[inject] got: &Got<Numbers>) {
    assert_eq!((direct, unsigned), (numbers.small, numbers.unsigned));
    assert_eq!(float.to_bits(), numbers.float.to_bits());
    got.0.lock().push(numbers.clone());
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Payment {
    Cash,
    Card { number: String, valid_until: String },
    Split(Vec<Payment>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    id: i64,
    /// A date as text: what `chrono` and `time` write too.
    placed: String,
    payment: Payment,
    lines: BTreeMap<String, Option<(u32, char)>>,
}

#[consistency_task]
#[allow(clippy::too_many_arguments, reason = "every kind of parameter at once")]
fn shapes(
    order: Order,
    name: &str,
    tags: &[String],
    note: Option<&str>,
    absent: Option<&str>,
    twin: Option<&Order>,
    unit: (),
    nested: Option<Vec<Option<bool>>>,
    #[inject] got: &Got<String>,
) {
    got.0.lock().push(format!("{:?}", (order, name, tags, note, absent, twin, unit, nested)));
}

/// Loses something on its way through the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Session {
    user: String,
    #[serde(skip)]
    cache: Option<String>,
    #[serde(skip, default = "restored")]
    restored: String,
}

fn restored() -> String {
    "restored".to_owned()
}

#[consistency_task]
fn immediate(session: Session, #[inject] got: &Got<String>) {
    got.0.lock().push(format!("{} {:?} {}", session.user, session.cache, session.restored));
}

#[consistency_task(run_on = caller)]
fn on_caller(session: &Session, #[inject] got: &Got<String>) {
    got.0.lock().push(format!("{} {:?} {}", session.user, session.cache, session.restored));
}

/// Refuses to be written.
#[derive(Debug, Clone, Deserialize)]
struct Secret;

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a secret is not for the table"))
    }
}

#[consistency_task(name = "arguments.leak")]
fn leak(plain: i64, secret: Secret) {
    let _ = (plain, secret);
}

#[consistency_task(name = "arguments.bulky")]
fn bulky(order: i64, document: String, #[inject] probe: &Probe) {
    probe.saw(format!("{order}: {}", document.len()));
}

/// Runs one call on `database` and returns what its body got.
fn run<C, T>(database: &Database, call: Call) -> Vec<T>
where
    C: consistency_diesel::blocking_connection::BlockingConnection,
    T: Clone + Debug + Send + 'static,
{
    let (got, recorder) = (Got::<T>::default(), Recorder::new());
    let name = call.task_name();
    let builder = database.outbox().only([name]).inject(got.clone()).listener(recorder.listener());
    let outbox = builder.start_blocking().unwrap();
    let mut conn = database.connection::<C>();
    let receipt = outbox.transaction(&mut conn, |tx| tx.enqueue(call)).unwrap();
    recorder.wait_for_settled(receipt.task_id(), State::Succeeded);
    outbox.shutdown_blocking();
    std::mem::take(&mut *got.0.lock())
}

for_each_database! {
    fn texts_of_every_kind_arrive_unchanged(database: &Database) {
        let long = "äöü€😀\u{10ffff}\n".repeat(20_000);
        let all = ["", " ", "NUL \0 inside", "\0", "😀🏳️‍🌈", "注文", "\u{10ffff}", "e\u{301}", "\u{feff}bom", "\r\n\t\u{1}\u{7f}",
            "'; DROP TABLE consistency_task; --", "\\ \\\\ \\0 \\u0000 \" ' ` % _ {} {0} {rows} $1 ? :a", "\u{2028}\u{202e}", &long];
        let all: Vec<String> = all.map(str::to_owned).to_vec();
        assert_eq!(run::<Conn, String>(database, texts(all.clone())), all);
        // Also by way of the insert that is not the flush.
        assert_eq!(run::<Conn, String>(database, texts(all.clone()).key("keyed")), all);
        assert_eq!(run::<Conn, String>(database, texts(all.clone()).delay(std::time::Duration::ZERO)), all);
    }

    fn numbers_at_the_ends_of_their_range_arrive_unchanged(database: &Database) {
        let ends = [
            Numbers { small: i64::MIN, large: i64::MAX, unsigned: u64::MAX, wide: i128::MIN, float: f64::MAX, tiny: f64::MIN_POSITIVE, single: f32::MAX },
            Numbers { small: 0, large: -1, unsigned: 1 << 63, wide: i128::MAX, float: 0.1 + 0.2, tiny: 5e-324, single: 0.1 },
            Numbers { small: 9_007_199_254_740_993, large: 1, unsigned: 0, wide: 0, float: -0.0, tiny: -1.0e-300, single: -0.0 },
        ];
        for given in ends {
            let call = numbers(&given, given.small, given.unsigned, given.float);
            let got = run::<Conn, Numbers>(database, call);
            assert_eq!(got, std::slice::from_ref(&given));
            assert_eq!(got[0].float.to_bits(), given.float.to_bits());
            assert_eq!(got[0].tiny.to_bits(), given.tiny.to_bits());
        }
    }

    fn nested_types_options_and_borrowed_parameters_arrive_unchanged(database: &Database) {
        let card = Payment::Card { number: "4111".to_owned(), valid_until: "2026-12-31".to_owned() };
        let order = Order {
            id: -1,
            placed: "2024-02-29T23:59:59.999999999+14:00".to_owned(),
            payment: Payment::Split(vec![Payment::Cash, card, Payment::Split(vec![])]),
            lines: BTreeMap::from([("a".to_owned(), Some((1, 'ß'))), ("b \0".to_owned(), None), (String::new(), None)]),
        };
        let tags = ["x".to_owned(), String::new()];
        let nested = Some(vec![Some(true), None]);
        let expected = format!("{:?}", (&order, "name", &tags[..], Some(""), None::<&str>, Some(&order), (), &nested));
        let call = shapes(order.clone(), "name", &tags, Some(""), None, Some(&order), (), nested);
        assert_eq!(run::<Conn, String>(database, call), [expected]);
    }

    fn the_immediate_run_sees_what_was_stored_and_not_what_was_given(database: &Database) {
        let session = Session { user: "ann".to_owned(), cache: Some("warm".to_owned()), restored: "given".to_owned() };
        assert_eq!(run::<Conn, String>(database, immediate(session.clone())), ["ann None restored"]);
        assert_eq!(run::<Conn, String>(database, on_caller(&session)), ["ann None restored"]);
    }

    fn arguments_over_the_limit_are_refused_by_name_and_the_transaction_goes_on(database: &Database) {
        let stage = Stage::with(database, |builder| builder.only([bulky::NAME]).max_argument_bytes(1_000));
        let mut conn = database.connection::<Conn>();
        stage.outbox.transaction(&mut conn, |tx| {
            for call in [bulky(1, "x".repeat(1_000)), bulky(1, "x".repeat(1_000)).key("k")] {
                let error = tx.enqueue(call).unwrap_err();
                assert!(matches!(enqueue_error(&error), Some(EnqueueError::TooLarge { .. })), "{error:?}");
                let message = error.to_string();
                for part in ["arguments.bulky", "`document`", "1000", "max_argument_bytes"] {
                    assert!(message.contains(part), "{part}: {message}");
                }
            }
            diesel::insert_into(business::table).values((business::id.eq(1), business::name.eq("other work"))).execute(tx)?;
            // Exactly the limit: {"order":1,"document":".."} has 25 characters beside the document.
            tx.enqueue(bulky(1, "x".repeat(1_000 - 25)))
        }).unwrap();
        stage.recorder.wait_for_count(1, State::Succeeded);
        assert_eq!(stage.probe.seen(), ["1: 975"]);
        assert_eq!((stage.names(), stage.tasks()), (vec!["other work".to_owned()], 1));
        assert_eq!(database.rows("1 = 1")[0].task_parameter.len(), 1_000);
    }

    fn arguments_that_do_not_serialize_are_refused_by_name_and_the_transaction_goes_on(database: &Database) {
        let stage = Stage::with(database, |builder| builder.only([leak::NAME, bulky::NAME]));
        let mut conn = database.connection::<Conn>();
        stage.outbox.transaction(&mut conn, |tx| {
            let error = tx.enqueue(leak(1, Secret)).unwrap_err();
            assert!(matches!(enqueue_error(&error), Some(EnqueueError::Unserializable { .. })), "{error:?}");
            let message = error.to_string();
            for part in ["arguments.leak", "`secret`", "a secret is not for the table"] {
                assert!(message.contains(part), "{part}: {message}");
            }
            diesel::insert_into(business::table).values((business::id.eq(1), business::name.eq("other work"))).execute(tx)?;
            tx.enqueue(bulky(2, String::new()))
        }).unwrap();
        stage.recorder.wait_for_count(1, State::Succeeded);
        assert_eq!((stage.names(), stage.probe.seen(), stage.tasks()), (vec!["other work".to_owned()], vec!["2: 0".to_owned()], 1));
    }

    fn arguments_of_the_largest_usual_size_arrive(database: &Database) {
        let stage = Stage::with(database, |builder| builder.only([bulky::NAME]));
        let mut conn = database.connection::<Conn>();
        let most = (1 << 20) - 30;
        stage.outbox.transaction(&mut conn, |tx| (0..8).try_for_each(|order| tx.enqueue(bulky(order, "x".repeat(most))).map(drop))).unwrap();
        stage.recorder.wait_for_count(8, State::Succeeded);
        assert_eq!(stage.probe.seen_sorted(), (0..8).map(|order| format!("{order}: {most}")).collect::<Vec<_>>());
        assert_eq!(stage.tasks(), 8);
    }
}
