//! An outbox on a pool whose connections the application holds: it waits and says so, and leaves the last one alone.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::Recorder;
use consistency_tests::scene::{Probe, store, store_all};
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::result::Error;

/// Says that it ran.
#[consistency_task]
fn quick(number: i64, #[inject] probe: &Arc<Probe>) {
    probe.note(number.to_string());
}

/// Blocks its thread, and its connection, until the test lets it go.
fn hang(probe: &Arc<Probe>) {
    probe.note("hangs");
    probe.go.wait_for(1);
}

const SIZE: u32 = 6;
const LIMIT: Duration = Duration::from_millis(500);

/// How often the runtime has said that it got no connection.
fn refusals(events: &[Event]) -> usize {
    let is_it =
        |event: &&Event| matches!(event, Event::StoreTrouble { error, .. } if error.contains("no connection for"));
    events.iter().filter(is_it).count()
}

for_each_database! {
    items {
        fn pool(database: &Database) -> Pool<ConnectionManager<Conn>> {
            let manager = ConnectionManager::new(database.address());
            Pool::builder().max_size(SIZE).connection_timeout(Duration::from_secs(20)).build(manager).unwrap()
        }

        #[consistency_task(timeout = "100ms", retry_every = "1h")]
        fn hangs(#[tx] _tx: &mut TaskTx<Conn>, #[inject] probe: &Arc<Probe>) {
            hang(probe);
        }

        fn outbox_on(pool: &Pool<ConnectionManager<Conn>>, recorder: &Recorder, probe: &Arc<Probe>) -> Outbox {
            let builder = Outbox::builder(pool.clone()).migrate().only([quick::NAME, hangs::NAME]).inject(Arc::clone(probe));
            let builder = builder.poll_interval(Duration::from_millis(20)).store_timeout(LIMIT).busy_wait(LIMIT);
            builder.listener(recorder.listener()).start_blocking().unwrap()
        }
    }

    fn an_exhausted_pool_is_waited_for_and_reported_and_nothing_is_lost(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let pool = pool(database);
        let outbox = outbox_on(&pool, &recorder, &probe);
        let mut held: Vec<_> = (0..SIZE).map(|_| pool.get().expect("the application gets what it asks for")).collect();
        let receipt: Result<_, Error> = outbox.transaction(&mut held[0], |tx| tx.enqueue(quick(1)));
        let task_id = receipt.unwrap().task_id().to_owned();
        // It starts at once, for a body needs no connection; its outcome waits.
        probe.wait_for("1", 1);
        recorder.wait_for("trouble", |events| {
            let settling = events.iter().any(|event| matches!(event, Event::StoreTrouble { doing: "settle", .. }));
            settling && refusals(events) >= 3
        });
        assert_eq!(database.row(&task_id).state(), State::Running);
        held.clear();
        recorder.wait_for_settled(&task_id, State::Succeeded);
        let row = database.row(&task_id);
        assert_eq!((row.execute_times, row.lost_times, probe.notes().len()), (1, 0, 1));
        outbox.shutdown_blocking();
    }

    fn the_last_free_connection_is_left_to_the_application(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let pool = pool(database);
        let outbox = outbox_on(&pool, &recorder, &probe);
        let mut held: Vec<_> = (1..SIZE).map(|_| pool.get().expect("the application gets what it asks for")).collect();
        let receipt: Result<_, Error> = outbox.transaction(&mut held[0], |tx| tx.enqueue(quick(1)));
        let task_id = receipt.unwrap().task_id().to_owned();
        // What the runtime had taken before is back by then.
        let before = refusals(&recorder.events());
        recorder.wait_for("the runtime to find no room", |events| refusals(events) >= before + 2);
        let told = refusals(&recorder.events());
        while refusals(&recorder.events()) < told + 5 {
            assert!(pool.try_get().is_some(), "the last connection is gone: {:?}", pool.state());
        }
        held.pop();
        recorder.wait_for_settled(&task_id, State::Succeeded);
        outbox.shutdown_blocking();
    }

    /// On SQLite the first of them holds the write lock, and nobody else writes.
    fn connections_that_abandoned_bodies_keep_are_none_of_the_runtimes_own(database: &Database) {
        if BACKEND != Backend::Sqlite {
            let (recorder, probe) = (Recorder::new(), Probe::new());
            let pool = pool(database);
            let outbox = outbox_on(&pool, &recorder, &probe);
            let hanging = store_all::<Conn>(database, &outbox, (0..2 * SIZE).map(|_| hangs()));
            let given_up = |events: &[Event]| {
                events.iter().filter(|event| matches!(event, Event::TimeLimitReached { .. })).count()
            };
            // As many as may have one; those behind them wait.
            let most = (SIZE - 4) as usize;
            recorder.wait_for("abandoned bodies", |events| given_up(events) >= most);
            for number in 0..5 {
                let task_id = store::<Conn>(database, &outbox, quick(number));
                recorder.wait_for_settled(&task_id, State::Succeeded);
            }
            assert_eq!((probe.count("hangs"), given_up(&recorder.events())), (most, most));
            probe.go.raise();
            recorder.wait_for_count(hanging.len() - most, State::Succeeded);
            assert_eq!(database.count("consistency_task", "lost_times > 0"), 0);
            outbox.shutdown_blocking();
        }
    }
}
