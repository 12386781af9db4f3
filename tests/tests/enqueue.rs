//! Calls belong to the transaction: stored and run when it commits, gone without a trace when it does not.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use consistency_core::state::State;
use consistency_diesel::blocking_connection::BlockingConnection;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::stage::{Probe, Stage, business, give_up};
use diesel::prelude::*;
use diesel::result::Error;

#[consistency_task]
fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

#[consistency_task]
fn remark(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

fn text(text: &str) -> Call {
    note(text.to_owned())
}

/// Every way a call can be stored.
fn every_kind(prefix: &str) -> Vec<Call> {
    let named = |kind: &str| note(format!("{prefix}-{kind}"));
    vec![
        named("plain"),
        named("keyed").key(format!("{prefix}-key")),
        named("delayed").delay(Duration::from_millis(1)),
        named("ordered").ordered_by(format!("{prefix}-order")),
    ]
}

/// After `stage` has seen another task through, nothing of the rolled back work is stored, has run, or will.
fn assert_nothing_but_a_witness<C: BlockingConnection>(stage: &Stage<'_>) {
    let witness = stage.run::<C>(text("witness"));
    stage.outbox.shutdown_blocking();
    assert_eq!(stage.probe.seen(), ["witness"]);
    let rows = stage.database.rows("1 = 1");
    assert_eq!(rows.iter().map(|row| row.task_id.as_str()).collect::<Vec<_>>(), [witness]);
    assert_eq!(stage.names(), Vec::<String>::new());
}

#[derive(Debug)]
enum ShopError {
    SoldOut,
    Database(Error),
}

impl From<Error> for ShopError {
    fn from(error: Error) -> Self {
        ShopError::Database(error)
    }
}

for_each_database! {
    fn a_rolled_back_transaction_leaves_no_row_and_no_run(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        let rolled_back = stage.outbox.transaction(&mut conn, |tx| {
            diesel::insert_into(business::table).values((business::id.eq(1), business::name.eq("gone"))).execute(tx)?;
            for call in every_kind("gone") {
                tx.enqueue(call)?;
            }
            give_up::<()>()
        });
        assert_eq!(rolled_back, Err(Error::RollbackTransaction));
        assert_nothing_but_a_witness::<Conn>(&stage);
    }

    fn a_committed_transaction_has_its_rows_and_their_runs(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        let receipts = stage.outbox.transaction(&mut conn, |tx| {
            diesel::insert_into(business::table).values((business::id.eq(1), business::name.eq("order"))).execute(tx)?;
            every_kind("kept").into_iter().map(|call| tx.enqueue(call)).collect::<QueryResult<Vec<Receipt>>>()
        }).unwrap();
        for receipt in &receipts {
            assert!(!receipt.is_duplicate());
            stage.recorder.wait_for_settled(receipt.task_id(), State::Succeeded);
            let row = database.row(receipt.task_id());
            assert_eq!((row.state(), row.execute_times, row.error_message), (State::Succeeded, 1, None));
            let status = stage.outbox.status_blocking(receipt.task_id()).unwrap().unwrap();
            assert_eq!((status.state, status.id), (State::Succeeded, row.id));
        }
        assert_eq!(receipts[1].task_id(), "kept-key");
        assert_eq!(stage.probe.seen_sorted(), ["kept-delayed", "kept-keyed", "kept-ordered", "kept-plain"]);
        assert_eq!((stage.names(), stage.tasks()), (vec!["order".to_owned()], 4));
    }

    fn an_error_in_the_closure_rolls_back_and_the_connection_stays_usable(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        let refused: Result<(), ShopError> = stage.outbox.transaction(&mut conn, |tx| {
            diesel::insert_into(business::table).values((business::id.eq(1), business::name.eq("gone"))).execute(tx)?;
            for call in every_kind("gone") {
                tx.enqueue(call)?;
            }
            Err(ShopError::SoldOut)
        });
        assert!(matches!(refused, Err(ShopError::SoldOut)), "{refused:?}");
        let broken: Result<(), ShopError> = stage.outbox.transaction(&mut conn, |tx| {
            tx.enqueue(text("gone"))?;
            diesel::sql_query("SELECT nonsense FROM nowhere").execute(tx)?;
            Ok(())
        });
        assert!(matches!(broken, Err(ShopError::Database(Error::DatabaseError(..)))), "{broken:?}");
        let witness = stage.outbox.transaction(&mut conn, |tx| tx.enqueue(text("witness"))).unwrap();
        stage.recorder.wait_for_settled(witness.task_id(), State::Succeeded);
        assert_eq!(stage.probe.seen(), ["witness"]);
        assert_eq!((stage.names(), stage.tasks()), (vec![], 1));
    }

    fn a_panic_in_the_closure_rolls_back_and_the_connection_stays_usable(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            stage.outbox.transaction(&mut conn, |tx| -> QueryResult<()> {
                diesel::insert_into(business::table).values((business::id.eq(1), business::name.eq("gone"))).execute(tx)?;
                for call in every_kind("gone") {
                    tx.enqueue(call)?;
                }
                // Also from inside a savepoint.
                tx.transaction(|tx| {
                    tx.enqueue(text("gone"))?;
                    panic!("in the middle")
                })
            })
        }));
        let payload = panicked.unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"in the middle"));
        let witness = stage.outbox.transaction(&mut conn, |tx| tx.enqueue(text("witness"))).unwrap();
        stage.recorder.wait_for_settled(witness.task_id(), State::Succeeded);
        assert_eq!(stage.probe.seen(), ["witness"]);
        assert_eq!((stage.names(), stage.tasks()), (vec![], 1));
    }

    fn two_calls_are_stored_both_or_not_at_all(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        for (first, second) in [(text("a"), text("b")), (text("c").key("c"), text("d")), (text("e"), text("f").key("f"))] {
            let failed = stage.outbox.transaction(&mut conn, |tx| {
                tx.enqueue(first)?;
                tx.enqueue(second)?;
                give_up::<()>()
            });
            assert!(failed.is_err());
        }
        assert_eq!(stage.tasks(), 0);
        for (first, second) in [(text("g"), text("h")), (text("i").key("i"), text("j")), (text("k"), text("l").key("l"))] {
            stage.outbox.transaction(&mut conn, |tx| {
                tx.enqueue(first)?;
                tx.enqueue(second)
            }).unwrap();
        }
        stage.recorder.wait_for_count(6, State::Succeeded);
        assert_eq!(stage.probe.seen_sorted(), ["g", "h", "i", "j", "k", "l"]);
        assert_eq!(database.count("consistency_task", "state = 2"), 6);
        assert_eq!(stage.tasks(), 6);
    }

    fn a_second_connection_sees_nothing_before_the_commit(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        stage.outbox.transaction(&mut conn, |tx| {
            diesel::insert_into(business::table).values((business::id.eq(1), business::name.eq("order"))).execute(tx)?;
            for call in every_kind("hidden") {
                tx.enqueue(call)?;
            }
            assert_eq!((stage.tasks(), stage.names()), (0, vec![]));
            assert!(stage.outbox.status_blocking("hidden-key").unwrap().is_none());
            assert_eq!(stage.probe.seen(), Vec::<String>::new());
            QueryResult::Ok(())
        }).unwrap();
        assert_eq!((stage.tasks(), stage.names()), (4, vec!["order".to_owned()]));
        stage.recorder.wait_for_count(4, State::Succeeded);
    }

    fn a_flush_larger_than_one_statement_is_stored_whole_or_not_at_all(database: &Database) {
        let calls = 2_100;
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        let all = |tx: &mut TaskTx<Conn>| (0..calls).try_for_each(|number| tx.enqueue(note(format!("{number:04}"))).map(drop));
        let rolled_back = stage.outbox.transaction(&mut conn, |tx| {
            all(tx)?;
            give_up::<()>()
        });
        assert!(rolled_back.is_err());
        assert_eq!(stage.tasks(), 0);
        stage.outbox.transaction(&mut conn, all).unwrap();
        stage.recorder.wait_for_count(calls, State::Succeeded);
        let expected: Vec<String> = (0..calls).map(|number| format!("{number:04}")).collect();
        assert_eq!(stage.probe.seen_sorted(), expected);
        assert_eq!(database.count("consistency_task", "state = 2 AND execute_times = 1"), calls as i64);
    }

    fn each_of_many_calls_in_one_transaction_keeps_its_own_columns(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        let hostile = ["plain", "", "\"},{\"", "\\", "'; --", "NULL", "{text}", "\u{1f680} ä"];
        let text = |number: usize| format!("{number} {}", hostile[number % hostile.len()]);
        let call = |number: usize| {
            let call = if number.is_multiple_of(3) { remark(text(number)) } else { note(text(number)) };
            let call = if number.is_multiple_of(2) { call.biz("or\"der", format!("{number}\\\"")) } else { call };
            if number.is_multiple_of(5) { call.title(format!("\"{number}\"")) } else { call }
        };
        let receipts = stage.outbox.transaction(&mut conn, |tx| {
            (0..150).map(|number| tx.enqueue(call(number))).collect::<QueryResult<Vec<Receipt>>>()
        }).unwrap();
        stage.recorder.wait_for_count(150, State::Succeeded);
        for (number, receipt) in receipts.iter().enumerate() {
            let column = |name: &str| {
                let column = format!("SELECT COALESCE({name}, '') AS value FROM consistency_task WHERE task_id = '{}'", receipt.task_id());
                database.texts(&column).remove(0)
            };
            let name = if number.is_multiple_of(3) { remark::NAME } else { note::NAME };
            assert_eq!(column("method_name"), name);
            assert_eq!(column("task_parameter"), serde_json::json!({ "text": text(number) }).to_string());
            let biz = if number.is_multiple_of(2) { ("or\"der".to_owned(), format!("{number}\\\"")) } else { Default::default() };
            assert_eq!((column("biz_type"), column("biz_id")), biz);
            let title = serde_json::json!({ "title": format!("\"{number}\"") }).to_string();
            assert_eq!(column("meta"), if number.is_multiple_of(5) { title } else { String::new() });
        }
        let mut expected: Vec<String> = (0..150).map(text).collect();
        expected.sort();
        assert_eq!(stage.probe.seen_sorted(), expected);
    }

    fn calls_of_a_small_transaction_are_stored_in_their_order(database: &Database) {
        database.migrate();
        let outbox = database.outbox().enqueue_only().start_blocking().unwrap();
        let mut conn = database.connection::<Conn>();
        let receipts = outbox.transaction(&mut conn, |tx| {
            let calls = (0..6).map(|number| if number % 2 == 0 { text("even") } else { remark("odd".to_owned()) });
            calls.map(|call| tx.enqueue(call)).collect::<QueryResult<Vec<Receipt>>>()
        }).unwrap();
        let ids: Vec<i64> = receipts.iter().map(|receipt| database.row(receipt.task_id()).id).collect();
        assert!(ids.is_sorted(), "{ids:?}");
    }
}
