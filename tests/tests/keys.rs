//! A key is unique: a second call with it changes nothing and names the first, within one transaction and between several.

use std::sync::mpsc;
use std::thread;

use consistency_core::enqueue::ExistingTask;
use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::{DEADLINE, Latch};
use consistency_tests::stage::{Probe, Stage, give_up};
use diesel::prelude::*;

#[consistency_task]
fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

/// Says that it runs, then waits to be let go.
#[consistency_task]
fn held(text: String, #[inject] probe: &Probe, #[inject] release: &Latch) {
    probe.saw(text);
    release.wait_for(1);
}

fn text(text: &str) -> Call {
    note(text.to_owned())
}

fn stage(database: &Database) -> (Stage<'_>, Latch) {
    let release = Latch::new();
    (Stage::with(database, |builder| builder.inject(release.clone())), release)
}

for_each_database! {
    fn the_same_key_twice_in_one_transaction_is_stored_once(database: &Database) {
        let (stage, _) = stage(database);
        let mut conn = database.connection::<Conn>();
        let (first, second) = stage.outbox.transaction(&mut conn, |tx| {
            let first = tx.enqueue(text("first").key("order-1"))?;
            let second = tx.enqueue(text("second").key("order-1"))?;
            // A duplicate leaves the transaction usable, on PostgreSQL too.
            tx.enqueue(text("other"))?;
            QueryResult::Ok((first, second))
        }).unwrap();
        stage.recorder.wait_for_count(2, State::Succeeded);
        assert_eq!(first, Receipt::Enqueued("order-1".to_owned()));
        let row = database.row("order-1");
        let twin = ExistingTask { id: row.id, task_id: "order-1".to_owned(), state: State::Pending };
        assert_eq!(second, Receipt::Duplicate(twin));
        assert_eq!(stage.probe.seen_sorted(), ["first", "other"]);
        assert_eq!((row.task_parameter, stage.tasks()), (r#"{"text":"first"}"#.to_owned(), 2));
    }

    fn a_duplicate_tells_the_id_and_the_state_of_the_task_that_holds_the_key(database: &Database) {
        let (stage, release) = stage(database);
        let mut conn = database.connection::<Conn>();
        let again = |conn: &mut Conn| match stage.outbox.transaction(conn, |tx| tx.enqueue(text("twin").key("k"))) {
            Ok(Receipt::Duplicate(existing)) => existing,
            other => panic!("{other:?}"),
        };
        stage.outbox.transaction(&mut conn, |tx| tx.enqueue(held("first".to_owned()).key("k"))).unwrap();
        stage.probe.wait_for(1);
        let id = database.row("k").id;
        assert_eq!(again(&mut conn), ExistingTask { id, task_id: "k".to_owned(), state: State::Running });
        release.raise();
        stage.recorder.wait_for_settled("k", State::Succeeded);
        assert_eq!(again(&mut conn), ExistingTask { id, task_id: "k".to_owned(), state: State::Succeeded });
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["first".to_owned()], 1));
        assert_eq!(database.row("k").owners(), 1, "a duplicate changes nothing");
    }

    fn of_two_transactions_at_once_the_second_waits_and_finds_the_duplicate(database: &Database) {
        let (stage, _) = stage(database);
        let first_id = concurrently::<Conn>(&stage, true);
        stage.recorder.wait_for_settled("shared", State::Succeeded);
        assert_eq!(first_id, Some(database.row("shared").id));
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["first".to_owned()], 1));
    }

    fn of_two_transactions_at_once_the_second_gets_the_key_the_first_gave_up(database: &Database) {
        let (stage, _) = stage(database);
        assert_eq!(concurrently::<Conn>(&stage, false), None);
        stage.recorder.wait_for_settled("shared", State::Succeeded);
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["second".to_owned()], 1));
    }

    fn many_threads_with_one_key_store_one_task(database: &Database) {
        let (stage, _) = stage(database);
        let enqueued = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|number| {
                let (stage, mut conn) = (&stage, database.connection::<Conn>());
                scope.spawn(move || {
                    let call = note(format!("thread {number}")).key("one");
                    !stage.outbox.transaction(&mut conn, |tx| tx.enqueue(call)).unwrap().is_duplicate()
                })
            }).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|stored| *stored).count()
        });
        assert_eq!((enqueued, stage.tasks()), (1, 1));
        stage.recorder.wait_for_settled("one", State::Succeeded);
        assert_eq!(stage.probe.seen().len(), 1);
    }

    fn keys_differ_by_letter_case_and_accent(database: &Database) {
        let (stage, _) = stage(database);
        let mut conn = database.connection::<Conn>();
        let keys = ["order", "Order", "örder", "o\u{308}rder", "ORDER", "order 1", "order\u{a0}1", "注文", "😀"];
        for key in keys {
            let receipt = stage.outbox.transaction(&mut conn, |tx| tx.enqueue(text(key).key(key))).unwrap();
            assert_eq!(receipt, Receipt::Enqueued(key.to_owned()));
        }
        stage.recorder.wait_for_count(keys.len(), State::Succeeded);
        assert_eq!(stage.tasks(), keys.len() as i64);
        assert_eq!(stage.outbox.status_blocking("Order").unwrap().unwrap().task_id, "Order");
    }
}

/// Two transactions enqueue the same key: the second begins while the first is open. Returns the id the second was told of.
fn concurrently<C>(stage: &Stage<'_>, first_commits: bool) -> Option<i64>
where
    C: consistency_diesel::blocking_connection::BlockingConnection + Send,
{
    let (mut first, mut second) = (stage.database.connection::<C>(), stage.database.connection::<C>());
    let (begin, begun) = mpsc::channel();
    thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            begun.recv_timeout(DEADLINE).unwrap();
            stage.outbox.transaction(&mut second, |tx| tx.enqueue(text("second").key("shared"))).unwrap()
        });
        let ended = stage.outbox.transaction(&mut first, |tx| {
            tx.enqueue(text("first").key("shared"))?;
            begin.send(()).unwrap();
            // It waits for our lock (on SQLite for the write lock); whether it already does makes no difference.
            thread::yield_now();
            assert!(!waiting.is_finished(), "the second transaction did not wait for the first");
            if first_commits { Ok(()) } else { give_up() }
        });
        assert_eq!(ended.is_ok(), first_commits);
        match waiting.join().unwrap() {
            Receipt::Duplicate(existing) => Some(existing.id),
            Receipt::Enqueued(_) => None,
        }
    })
}
