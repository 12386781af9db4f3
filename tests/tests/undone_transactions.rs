//! A `#[tx]` task whose transaction is undone each time it is completed, by what passes for a passing fault: it says so in its
//! row, waits longer each time, and is charged in the end.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::Recorder;
use consistency_tests::scene::{Probe, store};
use diesel::Connection;
use diesel::connection::SimpleConnection;
use diesel::result::QueryResult;

/// Where the bodies find their database.
struct Address(String);

/// What ends the session of the one open transaction, as a limit on idle ones does.
const END_SESSION: &str = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                           WHERE datname = current_database() AND state = 'idle in transaction'";
/// What a heartbeat does.
const TOUCH: &str = "UPDATE consistency_task SET gmt_modified = clock_timestamp()";
/// How often it is tried uncharged, and once more.
const BUDGET: u32 = 3;

for_each_database! {
    items {
        #[consistency_task(retry_every = "1h")]
        fn idle_too_long(#[tx] _tx: &mut TaskTx<Conn>, #[inject] probe: &Arc<Probe>, #[inject] address: &Address) -> QueryResult<()> {
            probe.note("ran");
            Conn::establish(&address.0).unwrap().batch_execute(END_SESSION)
        }

        #[consistency_task(retry_every = "1h")]
        fn at_repeatable_read(#[tx] tx: &mut TaskTx<Conn>, #[inject] probe: &Arc<Probe>, #[inject] address: &Address) -> QueryResult<()> {
            tx.batch_execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1")?;
            probe.note("ran");
            Conn::establish(&address.0).unwrap().batch_execute(TOUCH)
        }

        fn it_is_charged_in_the_end(database: &Database, call: Call, cause: &str) {
            let (recorder, probe) = (Recorder::new(), Probe::new());
            let builder = database.outbox().migrate().only([idle_too_long::NAME, at_repeatable_read::NAME]);
            let builder = builder.crash_budget(BUDGET).poll_interval(Duration::from_millis(20));
            let builder = builder.inject(Arc::clone(&probe)).inject(Address(database.address().to_owned()));
            let outbox = builder.listener(recorder.listener()).start_blocking().unwrap();
            let task_id = store::<Conn>(database, &outbox, call);
            recorder.wait_for("the first release", |events| events.iter().any(|event| matches!(event, Event::Released { .. })));
            let error = database.row(&task_id).error_message;
            assert!(error.as_ref().is_some_and(|error| error.contains("undone") && error.contains(cause)), "{error:?}");
            recorder.wait_for_settled(&task_id, State::Failed);
            let row = database.row(&task_id);
            assert_eq!((row.state(), row.execute_times, row.lost_times), (State::Failed, 1, 0), "{row:?}");
            assert!(row.error_message.is_some_and(|error| error.contains("3 times in a row") && error.contains(cause)));
            assert_eq!(probe.count("ran"), BUDGET as usize);
            outbox.shutdown_blocking();
        }
    }

    fn a_task_idle_in_its_transaction_for_too_long_is_charged_in_the_end(database: &Database) {
        if BACKEND == Backend::Postgres {
            it_is_charged_in_the_end(database, idle_too_long(), "connection");
        }
    }

    fn a_task_at_repeatable_read_that_outlives_a_heartbeat_is_charged_in_the_end(database: &Database) {
        if BACKEND == Backend::Postgres {
            it_is_charged_in_the_end(database, at_repeatable_read(), "could not serialize");
        }
    }
}
