//! Locks held by others, timeouts and deadlocks: met by the outbox's own statements, tried again inside, no attempt spent.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::{Recorder, wait_until};
use consistency_tests::scene::{Probe, store, store_all};
use diesel::connection::SimpleConnection;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Pool};

/// Ends when the test has let this round of them go.
#[consistency_task(retry_every = "1h", max_attempts = 1)]
fn waits(round: usize, #[inject] probe: &Arc<Probe>) {
    probe.note(format!("round {round}"));
    probe.go.wait_for(round);
}

/// Connections that do not wait long for a lock.
#[derive(Debug)]
struct Impatient(Backend);

impl<C: SimpleConnection> CustomizeConnection<C, diesel::r2d2::Error> for Impatient {
    fn on_acquire(&self, conn: &mut C) -> Result<(), diesel::r2d2::Error> {
        let setting = match self.0 {
            // Set by the outbox itself, from `busy_wait`.
            Backend::Sqlite => "",
            Backend::Postgres => "SET lock_timeout = '300ms'",
            Backend::Mysql => "SET SESSION innodb_lock_wait_timeout = 1",
        };
        conn.batch_execute(setting).map_err(diesel::r2d2::Error::QueryError)
    }
}

fn begin(backend: Backend) -> &'static str {
    if backend == Backend::Sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" }
}

/// The errors of the settlements that met trouble.
fn settle_troubles(events: &[Event]) -> Vec<String> {
    let settling = events.iter().filter_map(|event| match event {
        Event::StoreTrouble { doing: "settle", error } => Some(error.to_lowercase()),
        _ => None,
    });
    settling.collect()
}

/// Whether some session waits for a row lock in this database.
fn somebody_waits(database: &Database) -> bool {
    let waiting = match database.backend() {
        Backend::Sqlite => unreachable!("SQLite locks the whole file"),
        Backend::Postgres => {
            "COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        }
        // `INNODB_TRX` is cached for as long as it is asked often. No statement of the outbox takes so long unless it waits.
        Backend::Mysql => {
            "COUNT(*) FROM information_schema.PROCESSLIST \
             WHERE DB = DATABASE() AND INFO LIKE 'UPDATE %consistency_task%' AND TIME_MS > 300"
        }
    };
    database.number(waiting) > 0
}

/// The connections of the outbox, none of which waits long for a lock.
fn impatient<C>(database: &Database) -> Pool<ConnectionManager<C>>
where
    C: diesel::r2d2::R2D2Connection + 'static,
{
    let customizer = Box::new(Impatient(database.backend()));
    let pool = Pool::builder().max_size(5).min_idle(Some(0)).connection_customizer(customizer);
    pool.build(ConnectionManager::new(database.address())).unwrap()
}

for_each_database! {
    items {
        /// Writes its effect, and completes when the test says so.
        #[consistency_task(retry_every = "1h", max_attempts = 1)]
        fn effect(#[inject] probe: &Arc<Probe>, #[tx] tx: &mut TaskTx<Conn>) -> diesel::QueryResult<()> {
            tx.batch_execute("INSERT INTO effects (number) VALUES (1)")?;
            probe.note("written");
            probe.go.wait_for(1);
            Ok(())
        }
    }

    fn a_passing_fault_at_a_transactional_completion_costs_no_attempt_and_leaves_one_effect(database: &Database) {
        // SQLite has no row locks: nobody can hold the task's row while the body holds the file.
        if BACKEND == Backend::Sqlite {
            return;
        }
        let (recorder, probe) = (Recorder::new(), Probe::new());
        database.execute("CREATE TABLE effects (number BIGINT NOT NULL)");
        let outbox = Outbox::builder(impatient::<Conn>(database)).migrate().only([effect::NAME]);
        let outbox = outbox.poll_interval(Duration::from_millis(50)).inject(Arc::clone(&probe));
        let outbox = outbox.listener(recorder.listener()).start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, effect());
        probe.wait_for("written", 1);

        let mut other = database.connection::<Conn>();
        other.batch_execute("BEGIN").unwrap();
        other.batch_execute("UPDATE consistency_task SET biz_type = 'locked'").unwrap();
        probe.go.raise();
        recorder.wait_for("the completion to give up waiting", |events| {
            let doing_ours = |event: &&Event| matches!(event, Event::StoreTrouble { doing: "run a task in a transaction", .. });
            events.iter().any(|event| doing_ours(&event))
        });
        other.batch_execute("ROLLBACK").unwrap();

        recorder.wait_for_settled(&task_id, State::Succeeded);
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.error_message), (State::Succeeded, 1, None));
        assert_eq!(database.count("effects", "1 = 1"), 1);
        outbox.shutdown_blocking();
    }

    fn a_settlement_that_meets_a_held_lock_is_written_when_it_is_free(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = Outbox::builder(impatient::<Conn>(database)).migrate().only([waits::NAME]).busy_wait(Duration::from_millis(300));
        let outbox = outbox.inject(Arc::clone(&probe)).listener(recorder.listener()).start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, waits(1));
        probe.wait_for("round 1", 1);

        let mut other = database.connection::<Conn>();
        other.batch_execute(begin(BACKEND)).unwrap();
        other.batch_execute("UPDATE consistency_task SET biz_type = 'locked'").unwrap();
        probe.go.raise();
        recorder.wait_for("two settlements to give up waiting", |events| settle_troubles(events).len() >= 2);
        other.batch_execute("ROLLBACK").unwrap();

        recorder.wait_for_settled(&task_id, State::Succeeded);
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.owners(), row.lost_times), (State::Succeeded, 1, 1, 0));
        assert_eq!((row.error_message, probe.notes().len()), (None, 1));
        outbox.shutdown_blocking();
    }

    fn a_settlement_chosen_as_the_victim_of_a_deadlock_is_written_at_the_next_try(database: &Database) {
        // SQLite locks the whole file: two writers there cannot hold what the other one wants.
        if BACKEND == Backend::Sqlite {
            return;
        }
        let (recorder, probe) = (Recorder::new(), Probe::new());
        database.execute("CREATE TABLE ballast (number BIGINT NOT NULL)");
        // Both outcomes of a round shall stand in one statement.
        let outbox = database.outbox().only([waits::NAME]).inject(Arc::clone(&probe)).settle_linger(Duration::from_millis(300));
        let outbox = outbox.listener(recorder.listener()).lease(Duration::from_secs(120)).heartbeat(Duration::from_secs(60));
        let outbox = outbox.start_blocking().unwrap();
        let deadlocks = |events: &[Event]| settle_troubles(events).iter().filter(|error| error.contains("deadlock")).count();
        let mut rounds = 0;
        // The database chooses its victim; rounds go on until it has chosen the settlement.
        while deadlocks(&recorder.events()) == 0 && rounds < 10 {
            rounds += 1;
            let pair = store_all::<Conn>(database, &outbox, [waits(rounds), waits(rounds)]);
            probe.wait_for(&format!("round {rounds}"), 2);
            let mut other = database.connection::<Conn>();
            other.batch_execute("BEGIN").unwrap();
            // MariaDB ends the transaction that has changed less.
            let ballast = vec!["(1)"; 500].join(", ");
            other.batch_execute(&format!("INSERT INTO ballast (number) VALUES {ballast}")).unwrap();
            let take = |task_id: &str| format!("UPDATE consistency_task SET biz_type = 'locked' WHERE task_id = '{task_id}'");
            other.batch_execute(&take(&pair[1])).unwrap();
            probe.go.raise();
            wait_until("the settlement to wait for the second row", || somebody_waits(database));
            // Now the settlement holds the first row, unless the database took them in another order.
            let taken = other.batch_execute(&take(&pair[0]));
            if taken.is_ok() {
                recorder.wait_for("the settlement's trouble", |events| deadlocks(events) > 0 || BACKEND == Backend::Postgres);
            }
            other.batch_execute("ROLLBACK").unwrap();
            recorder.wait_for_count(2 * rounds, State::Succeeded);
            for task_id in &pair {
                let row = database.row(task_id);
                assert_eq!((row.state(), row.execute_times, row.owners()), (State::Succeeded, 1, 1));
                assert_eq!((row.lost_times, row.error_message), (0, None));
            }
        }
        assert!(deadlocks(&recorder.events()) > 0, "the settlement was never the victim in {rounds} rounds");
        outbox.shutdown_blocking();
        assert_eq!(probe.notes().len(), 2 * rounds);
    }

    fn rows_an_application_holds_delay_themselves_alone(database: &Database) {
        // SQLite has no row locks: there the claim waits for the file, as the settlement above.
        if BACKEND == Backend::Sqlite {
            return;
        }
        let (recorder, probe) = (Recorder::new(), Probe::new());
        probe.go.raise();
        database.migrate();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let task_ids = store_all::<Conn>(database, &elsewhere, (0..20).map(|_| waits(1)));
        let mut other = database.connection::<Conn>();
        other.batch_execute("BEGIN").unwrap();
        for held in &task_ids[..3] {
            let update = format!("UPDATE consistency_task SET biz_type = 'locked' WHERE task_id = '{held}'");
            other.batch_execute(&update).unwrap();
        }
        let outbox = database.outbox().only([waits::NAME]).inject(probe).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        recorder.wait_for_count(17, State::Succeeded);
        other.batch_execute("COMMIT").unwrap();
        recorder.wait_for_count(20, State::Succeeded);
        assert_eq!(database.count("consistency_task", "state = 2 AND execute_times = 1"), 20);
        assert_eq!(database.count("consistency_task", "biz_type = 'locked'"), 3);
        outbox.shutdown_blocking();
    }
}
