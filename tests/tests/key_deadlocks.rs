//! Two transactions that take the same two ordering keys in opposite order: the database ends one of them, which can be tried
//! again on the same connection.

use std::sync::mpsc;
use std::sync::{Arc, Barrier};

use consistency_core::state::State;
use consistency_diesel::outbox::Outbox;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::{DEADLINE, Recorder};
use diesel::result::QueryResult;

#[consistency_task]
async fn step(number: u32) {
    let _ = number;
}

/// How often they meet.
const ROUNDS: u32 = 4;

for_each_database! {
    items {
        /// Takes the keys in this order, again and again until it is let; returns how often the database ended it.
        fn insist(outbox: &Outbox, conn: &mut Conn, number: u32, keys: [&str; 2], both: &Barrier) -> QueryResult<u32> {
            for tried in 0.. {
                let stored = outbox.transaction(conn, |tx| {
                    tx.enqueue(step(number).ordered_by(keys[0]))?;
                    if tried == 0 {
                        both.wait();
                    }
                    tx.enqueue(step(number).ordered_by(keys[1])).map(drop)
                });
                match stored {
                    Ok(()) => {
                        // Only then may one of them hold a key again and wait for the other.
                        both.wait();
                        return Ok(tried);
                    }
                    Err(error) if tried > 20 => return Err(error),
                    Err(_) => {}
                }
            }
            unreachable!("the range has no end")
        }
    }

    fn who_loses_a_deadlock_over_two_keys_tries_again_on_the_same_connection(database: &Database) {
        if BACKEND == Backend::Sqlite {
            // One writer at a time: nobody ever waits for a key.
            return;
        }
        let recorder = Recorder::new();
        let outbox = database.outbox().only([step::NAME]).listener(recorder.listener()).start_blocking().unwrap();
        let both = Arc::new(Barrier::new(2));
        let (done, ended) = mpsc::channel();
        for keys in [["red", "blue"], ["blue", "red"]] {
            let (outbox, both, done) = (outbox.clone(), Arc::clone(&both), done.clone());
            let mut conn = database.connection::<Conn>();
            std::thread::spawn(move || {
                let lost: QueryResult<u32> =
                    (0..ROUNDS).map(|round| insist(&outbox, &mut conn, round, keys, &both)).sum();
                done.send(lost).ok();
            });
        }
        let mut lost = 0;
        for _ in 0..2 {
            lost += ended.recv_timeout(DEADLINE).expect("both get through").expect("both get through");
        }
        assert!(lost >= ROUNDS, "each time they meet one of them loses; they lost {lost} times");
        recorder.wait_for_count(4 * ROUNDS as usize, State::Succeeded);
        outbox.shutdown_blocking();
    }
}
