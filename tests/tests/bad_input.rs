//! What is wrong is said at the start, or where it happens: each message names the culprit and the mend, all of them at once.

use std::time::{Duration, SystemTime};

use consistency_core::error::{EnqueueError, Problem, StartError};
use consistency_diesel::error::{TransactionError, enqueue_error};
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::stage::{Probe, Stage};

#[derive(Debug)]
struct Mailer;
#[derive(Debug)]
struct Clock;

#[consistency_task(name = "bad_input.note")]
fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

#[consistency_task(name = "bad_input.mail")]
fn mail(#[inject] mailer: &Mailer, #[inject] clock: &Clock) {
    let _ = (mailer, clock);
}

/// Two functions of one name, in two modules.
mod first {
    use consistency_diesel::prelude::*;

    #[consistency_task(name = "bad_input.twin")]
    pub(super) fn twin() {}
}

mod second {
    use consistency_diesel::prelude::*;

    #[consistency_task(name = "bad_input.twin")]
    pub(super) fn twin() {}
}

fn text(text: &str) -> Call {
    note(text.to_owned())
}

#[track_caller]
fn assert_says(error: &StartError, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "`{part}` is not said: {message}");
    }
}

/// The builder for one task, without the twins, which nobody can start.
fn of(database: &Database) -> consistency_diesel::builder::OutboxBuilder {
    database.outbox().only([note::NAME]).inject(Probe::default())
}

#[test]
fn an_address_of_no_known_kind_is_refused_without_its_password() {
    for address in
        ["oracle://scott:tiger@db/shop", "shop.db", "", "://", "sqlite", "http://scott:tiger@db", "POSTGRES//x"]
    {
        let error = Outbox::builder(address).only([note::NAME]).inject(Probe::default()).check().unwrap_err();
        assert_says(&error, &["not understood", "sqlite://", "postgres://", "mysql://"]);
        assert!(!error.to_string().contains("tiger"), "{error}");
        assert_eq!(error.problems().len(), 1);
    }
}

#[test]
fn sqlite_in_memory_and_without_a_file_are_refused() {
    for address in ["sqlite://:memory:", "sqlite::memory:", "sqlite://file:x?mode=memory&cache=shared"] {
        let error = Outbox::builder(address).only([note::NAME]).inject(Probe::default()).start_blocking().unwrap_err();
        assert_says(&error, &[":memory:", "name a file"]);
    }
    let error = Outbox::builder("sqlite://").only([note::NAME]).inject(Probe::default()).start_blocking().unwrap_err();
    assert_says(&error, &["needs a file"]);
}

#[test]
fn a_database_out_of_reach_is_named_without_its_password() {
    let postgres = cfg!(any(feature = "postgres", feature = "async-postgres"));
    let mysql = cfg!(any(feature = "mysql", feature = "async-mysql"));
    for (scheme, _) in [("postgres", postgres), ("mysql", mysql)].into_iter().filter(|(_, is_built)| *is_built) {
        let address = format!("{scheme}://scott:t1ger@127.0.0.1:1/shop");
        let error = Outbox::builder(address).only([note::NAME]).inject(Probe::default()).start_blocking().unwrap_err();
        assert_says(&error, &["cannot connect", "127.0.0.1:1", "scott"]);
        assert!(!format!("{error} {error:?}").contains("t1ger"), "{error:?}");
    }
    let error = Outbox::builder("sqlite:///no/such/folder/shop.db").only([note::NAME]).inject(Probe::default());
    assert_says(&error.start_blocking().unwrap_err(), &["/no/such/folder/shop.db"]);
}

for_each_database! {
    fn a_missing_table_is_named_with_what_makes_it(database: &Database) {
        let builder = Outbox::builder(database.url()).only([note::NAME]).inject(Probe::default());
        let error = builder.start_blocking().unwrap_err();
        assert!(matches!(error.problems(), [Problem::Table(_)]), "{error:?}");
        assert_says(&error, &["consistency_task", "missing", ".migrate()"]);
        of(database).start_blocking().unwrap().shutdown_blocking();
        Outbox::builder(database.url()).only([note::NAME]).inject(Probe::default()).start_blocking().unwrap().shutdown_blocking();
    }

    fn a_table_of_an_older_version_is_named_with_what_mends_it(database: &Database) {
        of(database).start_blocking().unwrap().shutdown_blocking();
        database.execute("DROP VIEW IF EXISTS consistency_task_failed");
        database.execute("ALTER TABLE consistency_task RENAME COLUMN lost_times TO lost_times_away");
        let builder = Outbox::builder(database.url()).only([note::NAME]).inject(Probe::default());
        let error = builder.start_blocking().unwrap_err();
        assert!(matches!(error.problems(), [Problem::Table(_)]), "{error:?}");
        assert_says(&error, &["consistency_task", "lost_times", ".migrate()"]);
    }

    fn settings_that_cannot_be_are_all_listed_at_once(database: &Database) {
        let error = of(database)
            .concurrency(0)
            .crash_budget(0)
            .poll_interval(Duration::ZERO)
            .lease(Duration::from_secs(4))
            .heartbeat(Duration::from_secs(3))
            .max_argument_bytes(0)
            .max_error_bytes(1)
            .node("x".repeat(100))
            .queue("mail", 0)
            .queue("twice", 1)
            .queue_elsewhere("twice")
            .only(["nobody"])
            .expect_tasks(["nobody either"])
            .check()
            .unwrap_err();
        let settings = ["concurrency", "crash_budget", "poll_interval", "heartbeat", "max_argument_bytes", "max_error_bytes",
            "node", "queue", "queue_elsewhere", "`lease`", "`nobody`", "`nobody either`", "at least 1", "11 problems"];
        assert_says(&error, &settings);
        assert_eq!(error.problems().len(), 11);
    }

    fn every_missing_value_is_listed_with_task_place_and_type(database: &Database) {
        let error = database.outbox().only([note::NAME, mail::NAME]).start_blocking().unwrap_err();
        assert_eq!(error.problems().len(), 3);
        assert_says(&error, &["bad_input.note", "bad_input.mail", "bad_input::Mailer", "bad_input::Clock", "stage::Probe",
            "tests/bad_input.rs:", ".inject(..)"]);
        // Not one more than is missing; and who runs nothing needs nothing.
        let error = database.outbox().only([note::NAME, mail::NAME]).inject(Probe::default()).inject(Mailer).check().unwrap_err();
        assert_eq!(error.problems().len(), 1);
        database.outbox().only([note::NAME, mail::NAME]).enqueue_only().start_blocking().unwrap();
    }

    fn two_tasks_of_one_name_are_refused_naming_both_places(database: &Database) {
        let error = database.outbox().inject(Probe::default()).inject(Mailer).inject(Clock).only(["bad_input.twin"]).start_blocking().unwrap_err();
        assert_eq!(error.problems().len(), 1, "{error}");
        assert_says(&error, &["bad_input.twin", "two tasks", "name = "]);
        let (_, places) = error.to_string().split_once("bad_input.twin").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert_eq!(places.matches("bad_input.rs:").count(), 2, "{error}");
        drop((first::twin(), second::twin()));
        // Also where all tasks are served; not where the twins are left out.
        let all = database.outbox().inject(Probe::default()).inject(Mailer).inject(Clock).check().unwrap_err();
        assert!(all.problems().contains(&error.problems()[0]), "{all}");
        of(database).check().unwrap();
    }

    fn unknown_names_are_refused_with_the_usual_reason(database: &Database) {
        let error = database.outbox().only(["no.such.task"]).expect_tasks(["nor.this"]).start_blocking().unwrap_err();
        assert_eq!(error.problems().len(), 2);
        assert_says(&error, &["`no.such.task`", "`nor.this`", "linker", "use the_crate as _;"]);
    }

    fn bad_modifiers_are_refused_by_task_and_reason_and_the_transaction_goes_on(database: &Database) {
        let stage = Stage::with(database, |builder| builder.only([note::NAME]).queue("mail", 1).queue_elsewhere("there"));
        let mut conn = database.connection::<Conn>();
        let eleven_years = Duration::from_secs(11 * 366 * 24 * 60 * 60);
        let bad = [
            (text("x").priority(10), "priority 10"),
            (text("x").key(""), "0 characters"),
            (text("x").key("k".repeat(501)), "501 characters"),
            (text("x").key("a\0b"), "NUL"),
            (text("x").key("trailing "), "white space"),
            (text("x").key("\u{a0}leading"), "white space"),
            (text("x").ordered_by("o".repeat(101)), "101 characters"),
            (text("x").ordered_by(""), "ordering key"),
            (text("x").when_dead(WhenDead::Park), "write `.ordered_by(..)` as well"),
            (text("x").biz("order", "1\0"), "business id"),
            (text("x").biz("", 1), "business type"),
            (text("x").title("t".repeat(1001)), "the title has 1001 characters; at most 1000"),
            (text("x").delay(eleven_years), "ten years"),
            (text("x").delay(Duration::MAX), "ten years"),
            (text("x").at(SystemTime::now() + eleven_years), "ten years"),
            (text("x").queue("nobody"), "`nobody`"),
            (text("x").queue(""), "queue"),
            (mail(), "bad_input.mail"),
        ];
        stage.outbox.transaction(&mut conn, |tx| {
            for (call, reason) in bad {
                let error = tx.enqueue(call).unwrap_err();
                let message = error.to_string();
                assert!(message.contains("bad_input.") && message.contains(reason), "{reason}: {message}");
                let refused = enqueue_error(&error);
                assert!(matches!(refused, Some(EnqueueError::BadModifier { .. } | EnqueueError::NotServed { .. })), "{error:?}");
            }
            // At the limits, all is well.
            tx.enqueue(text("a").key("k".repeat(500)).title("\u{1}".repeat(1000)).priority(9))?;
            tx.enqueue(text("b").key("ö".repeat(500)).priority(0).queue("mail"))?;
            tx.enqueue(text("c").delay(Duration::from_secs(10 * 366 * 24 * 60 * 60)))?;
            tx.enqueue(text("d").queue("there"))
        }).unwrap();
        stage.recorder.wait_for_count(2, consistency_core::state::State::Succeeded);
        assert_eq!((stage.probe.seen_sorted(), stage.tasks()), (vec!["a".to_owned(), "b".to_owned()], 4));
        assert_eq!(database.count("consistency_task", "state = 0"), 2);
    }
}

/// Connections of one kind at an outbox of another; needs more than one driver.
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod other_kinds {
    use consistency_diesel::blocking_connection::BlockingConnection;
    use consistency_tests::backend::Backend;
    use consistency_tests::database::on_fresh;
    use diesel::{MysqlConnection, PgConnection, SqliteConnection};

    use super::*;

    #[consistency_task(name = "bad_input.on_sqlite")]
    fn on_sqlite(#[tx] tx: &mut TaskTx<SqliteConnection>) {
        let _ = tx;
    }

    #[consistency_task(name = "bad_input.on_postgres")]
    fn on_postgres(#[tx] tx: &mut TaskTx<PgConnection>) {
        let _ = tx;
    }

    #[consistency_task(name = "bad_input.on_mysql")]
    fn on_mysql(#[tx] tx: &mut TaskTx<MysqlConnection>) {
        let _ = tx;
    }

    #[test]
    fn a_task_on_another_kind_of_connection_is_refused_before_anything_is_opened() {
        let tasks = [on_sqlite::NAME, on_postgres::NAME, on_mysql::NAME];
        for (address, own) in
            [("sqlite:///no/where", 0), ("postgres://127.0.0.1:1/no", 1), ("mysql://127.0.0.1:1/no", 2)]
        {
            let error = Outbox::builder(address).only(tasks).start_blocking().unwrap_err();
            assert_eq!(error.problems().len(), 2);
            assert!(
                error.problems().iter().all(|problem| matches!(problem, Problem::WrongConnection { .. })),
                "{error:?}"
            );
            for (place, name) in tasks.iter().enumerate().filter(|(place, _)| *place != own) {
                let wanted = ["SqliteConnection", "PgConnection", "MysqlConnection"];
                assert_says(&error, &[name, wanted[place], wanted[own], "only([..])", "tests/bad_input.rs:"]);
            }
            Outbox::builder(address).only([tasks[own]]).check().unwrap();
        }
    }

    fn assert_refused<Other>(own: Backend, other: Backend)
    where
        Other: BlockingConnection,
    {
        on_fresh(own, "a_connection_to_another_kind_of_database_is_refused", |own| {
            on_fresh(other, "a_connection_to_another_kind_of_database_is_refused", |other| {
                let outbox = of(own).start_blocking().unwrap();
                let mut conn = other.connection::<Other>();
                let refused = outbox.transaction(&mut conn, |tx| tx.enqueue(text("never"))).unwrap_err();
                let joined = conn.transaction(|conn| outbox.join(conn).map(drop)).unwrap_err();
                for error in [refused, joined] {
                    let found = TransactionError::of(&error);
                    assert!(matches!(found, Some(TransactionError::WrongDatabase { .. })), "{error:?}");
                    for part in [own.backend().to_string(), other.backend().to_string()] {
                        assert!(error.to_string().contains(&part), "{part}: {error}");
                    }
                }
                assert_eq!(own.count("consistency_task", "1 = 1"), 0);
                outbox.shutdown_blocking();
            });
        });
    }

    #[test]
    fn a_connection_to_another_kind_of_database_is_refused() {
        assert_refused::<PgConnection>(Backend::Sqlite, Backend::Postgres);
        assert_refused::<MysqlConnection>(Backend::Postgres, Backend::Mysql);
        assert_refused::<SqliteConnection>(Backend::Mysql, Backend::Sqlite);
    }
}
