//! A transaction that is open already: refused with a hint by `transaction`, and what `join` is for.

use std::time::{Duration, Instant};

use consistency_core::state::State;
use consistency_diesel::error::TransactionError;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::stage::{Probe, Stage, business, give_up};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;

/// Far below `busy_wait`, which is 10 s.
const AT_ONCE: Duration = Duration::from_secs(5);

#[consistency_task]
fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

fn text(text: &str) -> Call {
    note(text.to_owned())
}

for_each_database! {
    fn a_transaction_already_open_is_refused_with_a_hint_and_left_alone(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        conn.transaction(|conn| {
            diesel::insert_into(business::table).values((business::id.eq(1), business::name.eq("kept"))).execute(conn)?;
            let mut called = false;
            let asked = Instant::now();
            let refused = stage.outbox.transaction(conn, |tx| {
                called = true;
                tx.enqueue(text("never"))
            });
            let error = refused.unwrap_err();
            assert!(matches!(TransactionError::of(&error), Some(TransactionError::AlreadyOpen)), "{error}");
            let message = error.to_string();
            assert!(message.contains("already open") && message.contains("join"), "{message}");
            assert!(asked.elapsed() < AT_ONCE, "it waited for the lock of its own connection: {:?}", asked.elapsed());
            assert!(!called, "the closure ran although there was no transaction for it");
            QueryResult::Ok(())
        }).unwrap();
        // Neither committed nor rolled back by us, and the connection is as before.
        assert_eq!((stage.names(), stage.tasks()), (vec!["kept".to_owned()], 0));
        let receipt = stage.outbox.transaction(&mut conn, |tx| tx.enqueue(text("later"))).unwrap();
        stage.recorder.wait_for_settled(receipt.task_id(), State::Succeeded);
        assert_eq!(stage.probe.seen(), ["later"]);
    }

    /// Begun with SQL, so that Diesel knows nothing of it. A plain BEGIN of ours would commit it on MySQL, and join it on PostgreSQL.
    fn a_transaction_begun_with_sql_is_refused_and_not_ended(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        for ends_well in [true, false] {
            conn.batch_execute("BEGIN").unwrap();
            conn.batch_execute("INSERT INTO business (id, name) VALUES (1, 'not yet')").unwrap();
            let refused: QueryResult<()> = stage.outbox.transaction(&mut conn, |tx| {
                tx.enqueue(text("never"))?;
                if ends_well { Ok(()) } else { give_up() }
            });
            let error = refused.unwrap_err();
            assert!(matches!(TransactionError::of(&error), Some(TransactionError::AlreadyOpen)), "{error}");
            assert_eq!((stage.names(), stage.tasks()), (vec![], 0), "committed");
            conn.batch_execute("ROLLBACK").unwrap();
            assert_eq!((stage.names(), stage.tasks()), (vec![], 0), "not rolled back");
        }
        stage.outbox.transaction(&mut conn, |tx| tx.enqueue(text("later"))).unwrap();
        stage.recorder.wait_for_count(1, State::Succeeded);
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["later".to_owned()], 1));
    }

    /// It would wait for its own end.
    fn on_sqlite_a_transaction_inside_another_is_refused_at_once(database: &Database) {
        if BACKEND != Backend::Sqlite {
            return;
        }
        let stage = Stage::on(database);
        let mut conns = [(); 2].map(|()| database.connection::<Conn>());
        let [outer, inner] = &mut conns;
        let asked = Instant::now();
        stage.outbox.transaction(outer, |tx| {
            let error = stage.outbox.transaction(inner, |tx| tx.enqueue(text("never"))).unwrap_err();
            assert!(matches!(TransactionError::of(&error), Some(TransactionError::InsideAnother)), "{error}");
            let pruned = stage.outbox.prune_blocking(Duration::ZERO, 1).unwrap_err().to_string();
            assert!(pruned.contains("wait for itself"), "{pruned}");
            tx.enqueue(text("outer"))
        }).unwrap();
        assert!(asked.elapsed() < AT_ONCE, "it waited for itself: {:?}", asked.elapsed());
        stage.outbox.transaction(inner, |tx| tx.enqueue(text("afterwards"))).unwrap();
        stage.recorder.wait_for_count(2, State::Succeeded);
        assert_eq!((stage.probe.seen_sorted(), stage.tasks()), (vec!["afterwards".to_owned(), "outer".to_owned()], 2));
    }

    fn the_helper_inside_itself_is_refused_too(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        stage.outbox.transaction(&mut conn, |tx| {
            let conn: &mut Conn = tx;
            let asked = Instant::now();
            let error = stage.outbox.transaction(conn, |tx| tx.enqueue(text("never"))).unwrap_err();
            assert!(matches!(TransactionError::of(&error), Some(TransactionError::AlreadyOpen)), "{error}");
            assert!(asked.elapsed() < AT_ONCE, "it waited for its own lock: {:?}", asked.elapsed());
            tx.enqueue(text("outer"))
        }).unwrap();
        stage.recorder.wait_for_count(1, State::Succeeded);
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["outer".to_owned()], 1));
    }

    fn join_stores_pending_and_the_poller_starts_it_after_the_commit(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        let receipts = conn.transaction(|conn| {
            diesel::insert_into(business::table).values((business::id.eq(1), business::name.eq("order"))).execute(conn)?;
            let plain = stage.outbox.join(conn)?.enqueue(text("plain"))?;
            let mut joined = stage.outbox.join(conn)?;
            let keyed = joined.enqueue(text("keyed").key("k"))?;
            let twin = joined.enqueue(text("twin").key("k"))?;
            assert!(twin.is_duplicate() && twin.task_id() == "k", "{twin:?}");
            let delayed = joined.enqueue(text("delayed").delay(Duration::from_millis(1)))?;
            assert_eq!((stage.tasks(), stage.probe.seen()), (0, vec![]), "seen before the commit");
            QueryResult::Ok([plain, keyed, delayed])
        }).unwrap();
        for receipt in &receipts {
            stage.recorder.wait_for_settled(receipt.task_id(), State::Succeeded);
            let row = database.row(receipt.task_id());
            assert_eq!((row.state(), row.execute_times, row.owners()), (State::Succeeded, 1, 1));
        }
        assert_eq!(stage.probe.seen_sorted(), ["delayed", "keyed", "plain"]);
        assert_eq!((stage.names(), stage.tasks()), (vec!["order".to_owned()], 3));
    }

    fn join_is_rolled_back_with_the_caller_and_its_savepoints(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        conn.transaction(|conn| {
            stage.outbox.join(conn)?.enqueue(text("gone"))?;
            stage.outbox.join(conn)?.enqueue(text("gone").key("k"))?;
            give_up::<()>()
        }).unwrap_err();
        assert_eq!(stage.tasks(), 0);
        conn.transaction(|conn| {
            conn.transaction(|conn| {
                stage.outbox.join(conn)?.enqueue(text("gone").key("k"))?;
                give_up::<()>()
            }).unwrap_err();
            stage.outbox.join(conn)?.enqueue(text("kept").key("k"))
        }).unwrap();
        stage.recorder.wait_for_settled("k", State::Succeeded);
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["kept".to_owned()], 1));
    }

    fn join_without_an_open_transaction_is_refused(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        let error = stage.outbox.join(&mut conn).map(drop).unwrap_err();
        assert!(matches!(TransactionError::of(&error), Some(TransactionError::NotOpen)), "{error}");
        assert!(error.to_string().contains("outbox.transaction"), "{error}");
        // Nor did it leave one open.
        conn.transaction(|conn| stage.outbox.join(conn)?.enqueue(text("fine"))).unwrap();
        stage.recorder.wait_for_count(1, State::Succeeded);
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["fine".to_owned()], 1));
    }

    fn join_notices_that_the_transaction_has_ended_underneath(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        let mut joined = Ok(());
        // What Diesel itself says of the lost transaction differs by database.
        drop(conn.transaction(|conn| {
            conn.batch_execute("ROLLBACK")?;
            joined = stage.outbox.join(conn).map(drop);
            QueryResult::Ok(())
        }));
        let error = joined.unwrap_err();
        // PostgreSQL's driver tells Diesel that no transaction is open; elsewhere Diesel believes in one that is gone.
        let found = TransactionError::of(&error);
        assert!(matches!(found, Some(TransactionError::Lost | TransactionError::NotOpen)), "{error}");
        assert_eq!(stage.tasks(), 0);
    }
}
