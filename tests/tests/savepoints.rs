//! Diesel's savepoints inside the helper: one that is rolled back drops exactly its own calls, whichever way they are stored.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use consistency_core::state::State;
use consistency_diesel::error::TransactionError;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::stage::{Probe, Stage, business, give_up};
use diesel::connection::TransactionManager;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};

#[consistency_task]
fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

/// Stores one call of each kind, named after `level`.
fn enqueue_each<C: consistency_diesel::blocking_connection::BlockingConnection>(
    tx: &mut TaskTx<C>,
    level: &str,
) -> QueryResult<()> {
    tx.enqueue(note(format!("{level}-plain")))?;
    tx.enqueue(note(format!("{level}-keyed")).key(format!("{level}-key")))?;
    tx.enqueue(note(format!("{level}-delayed")).delay(Duration::from_millis(1)))?;
    Ok(())
}

/// Waits for the three calls of each of `levels`; nothing else was stored or has run.
fn assert_exactly(stage: &Stage<'_>, levels: &[&str]) {
    stage.recorder.wait_for_count(levels.len() * 3, State::Succeeded);
    stage.outbox.shutdown_blocking();
    let kinds = ["delayed", "keyed", "plain"];
    let mut expected: Vec<String> =
        levels.iter().flat_map(|level| kinds.map(|kind| format!("{level}-{kind}"))).collect();
    expected.sort();
    assert_eq!(stage.probe.seen_sorted(), expected);
    assert_eq!(stage.tasks(), expected.len() as i64);
}

for_each_database! {
    fn a_rolled_back_savepoint_drops_exactly_its_own_calls(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        stage.outbox.transaction(&mut conn, |tx| {
            enqueue_each(tx, "before")?;
            let inner = tx.transaction(|tx| {
                enqueue_each(tx, "inner")?;
                give_up::<()>()
            });
            assert_eq!(inner, Err(Error::RollbackTransaction));
            enqueue_each(tx, "after")
        }).unwrap();
        assert_exactly(&stage, &["before", "after"]);
    }

    fn savepoints_in_savepoints_drop_or_keep_level_by_level(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        stage.outbox.transaction(&mut conn, |tx| {
            enqueue_each(tx, "outer")?;
            // Released inside, rolled back around: gone. Rolled back inside, released around: half gone.
            tx.transaction(|tx| {
                enqueue_each(tx, "x1")?;
                tx.transaction(|tx| enqueue_each(tx, "x2"))?;
                give_up::<()>()
            }).unwrap_err();
            tx.transaction(|tx| {
                enqueue_each(tx, "kept1")?;
                tx.transaction(|tx| {
                    enqueue_each(tx, "x3")?;
                    give_up::<()>()
                }).unwrap_err();
                tx.transaction(|tx| enqueue_each(tx, "kept2"))?;
                enqueue_each(tx, "kept3")
            })
        }).unwrap();
        assert_exactly(&stage, &["outer", "kept1", "kept2", "kept3"]);
    }

    fn a_key_of_a_rolled_back_savepoint_is_free_again(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        let receipt = stage.outbox.transaction(&mut conn, |tx| {
            tx.transaction(|tx| {
                tx.enqueue(note("dropped".to_owned()).key("once"))?;
                give_up::<()>()
            }).unwrap_err();
            tx.enqueue(note("kept".to_owned()).key("once"))
        }).unwrap();
        assert_eq!(receipt, Receipt::Enqueued("once".to_owned()));
        stage.recorder.wait_for_settled("once", State::Succeeded);
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["kept".to_owned()], 1));
    }

    fn released_savepoints_of_a_rolled_back_transaction_leave_nothing(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        let rolled_back = stage.outbox.transaction(&mut conn, |tx| {
            tx.transaction(|tx| {
                enqueue_each(tx, "a")?;
                tx.transaction(|tx| enqueue_each(tx, "b"))
            })?;
            give_up::<()>()
        });
        assert_eq!(rolled_back, Err(Error::RollbackTransaction));
        assert_eq!(stage.tasks(), 0);
        stage.outbox.transaction(&mut conn, |tx| enqueue_each(tx, "witness")).unwrap();
        assert_exactly(&stage, &["witness"]);
    }

    fn a_violation_inside_a_savepoint_is_survived_on_every_database(database: &Database) {
        let stage = Stage::on(database);
        database.execute("INSERT INTO business (id, name) VALUES (1, 'taken')");
        let mut conn = database.connection::<Conn>();
        stage.outbox.transaction(&mut conn, |tx| {
            enqueue_each(tx, "outer")?;
            let violated = tx.transaction(|tx| {
                enqueue_each(tx, "inner")?;
                diesel::insert_into(business::table).values((business::id.eq(1), business::name.eq("twin"))).execute(tx)
            });
            assert!(matches!(violated, Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _))), "{violated:?}");
            diesel::insert_into(business::table).values((business::id.eq(2), business::name.eq("second"))).execute(tx)
        }).unwrap();
        assert_eq!(stage.names(), ["second", "taken"]);
        assert_exactly(&stage, &["outer"]);
    }

    /// Diesel's `transaction` does not catch panics, so a caught one leaves its savepoint open.
    fn a_savepoint_left_open_by_a_caught_panic_never_half_commits(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        let ended = stage.outbox.transaction(&mut conn, |tx| {
            enqueue_each(tx, "outer")?;
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                tx.transaction(|tx| -> QueryResult<()> {
                    enqueue_each(tx, "inner")?;
                    panic!("inside the savepoint")
                })
            }));
            assert!(panicked.is_err());
            QueryResult::Ok(())
        });
        let error = ended.unwrap_err();
        assert!(matches!(TransactionError::of(&error), Some(TransactionError::Lost)), "{error}");
        stage.outbox.transaction(&mut conn, |tx| enqueue_each(tx, "witness")).unwrap();
        assert_exactly(&stage, &["witness"]);
    }

    fn a_savepoint_begun_by_hand_and_left_open_never_half_commits(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        let ended = stage.outbox.transaction(&mut conn, |tx| {
            enqueue_each(tx, "outer")?;
            <TaskTx<Conn> as Connection>::TransactionManager::begin_transaction(tx)?;
            enqueue_each(tx, "inner")
        });
        let error = ended.unwrap_err();
        assert!(matches!(TransactionError::of(&error), Some(TransactionError::Lost)), "{error}");
        stage.outbox.transaction(&mut conn, |tx| enqueue_each(tx, "witness")).unwrap();
        assert_exactly(&stage, &["witness"]);
    }

    fn the_closure_cannot_end_the_transaction_through_diesel(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        stage.outbox.transaction(&mut conn, |tx| {
            let committed = <TaskTx<Conn> as Connection>::TransactionManager::commit_transaction(tx);
            assert!(matches!(committed, Err(Error::NotInTransaction)), "{committed:?}");
            let rolled_back = <TaskTx<Conn> as Connection>::TransactionManager::rollback_transaction(tx);
            assert!(matches!(rolled_back, Err(Error::NotInTransaction)), "{rolled_back:?}");
            enqueue_each(tx, "kept")
        }).unwrap();
        assert_exactly(&stage, &["kept"]);
    }
}
