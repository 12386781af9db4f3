//! The database's server is restarted, crashes, or cuts every connection, in every phase of the outbox's work and under load:
//! nothing is lost, nothing half stored, nothing run again after its success, and no attempt is charged for it.

#[macro_use]
#[allow(dead_code, reason = "SQLite has no server")]
mod load;

use std::sync::Arc;
use std::time::{Duration, Instant};

use consistency_core::fault::Point;
use consistency_diesel::error::TransactionError;
use consistency_diesel::outbox::Outbox;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::faults::outage_load::{Load, Producer};
use consistency_tests::faults::server::{Server, Stop, with_own};
use consistency_tests::faults::sitting::{Sitting, Turn, take_turn};
use consistency_tests::length::is_long;
use consistency_tests::recorder::wait_until;

/// What happens to the server while somebody sits in a phase.
#[derive(Debug, Clone, Copy)]
enum Outage {
    /// Stopped in good order; whoever sat goes on while it is away, and it comes back later.
    AwayForAWhile,
    /// Crashes and is back before whoever sat goes on.
    Crash,
    /// Ends every connection.
    Cut,
}

const OUTAGES: [Outage; 3] = [Outage::AwayForAWhile, Outage::Crash, Outage::Cut];

fn start<P: Producer>(database: &Database, load: &Arc<Load>) -> Outbox {
    let builder = database.outbox().only(P::TASKS).inject(Arc::clone(load)).listener(load.listener());
    let patience = builder.lease(Duration::from_secs(2)).heartbeat(Duration::from_millis(300));
    // As by default, nothing waits longer for the database than a lease.
    patience
        .busy_wait(Duration::from_secs(1))
        .store_timeout(Duration::from_secs(2))
        .start_blocking()
        .expect("the outbox starts")
}

/// The answer is lost with the connection where the step has just been committed.
fn is_answer(point: Point) -> bool {
    matches!(
        point,
        Point::AfterCommit
            | Point::AfterClaim
            | Point::AfterCompleteCommit
            | Point::AfterSettle
            | Point::AfterHeartbeat
            | Point::AfterRescue
    )
}

fn go_through(outage: Outage, server: &mut Server, load: &Load, sitting: Sitting) {
    match outage {
        Outage::AwayForAWhile => {
            server.stop(Stop::Fast);
            let (refused, trouble) = (load.not_acknowledged(), load.trouble());
            sitting.leave();
            wait_until("the outage to be noticed", || load.not_acknowledged() > refused || load.trouble() > trouble);
            server.start();
        }
        Outage::Crash => {
            server.stop(Stop::Crash);
            server.start();
            sitting.leave();
        }
        Outage::Cut => {
            server.cut_connections();
            sitting.leave();
        }
    }
}

fn every_phase_survives_a_restart<P: Producer>(backend: Backend, test: &str) {
    with_own(backend, test, Server::fresh(backend), |mut server| {
        let turn = take_turn();
        let database = server.database();
        let load = Load::on(&database);
        let outbox = start::<P>(&database, &load);
        let producers: Vec<_> = (0..2).map(|_| load.produce::<P>(&outbox, database.address())).collect();
        // In the short form each phase meets one outage, another one with each client.
        let shift = usize::from(test.contains("async"));
        for (at, point) in Point::ALL.into_iter().enumerate() {
            for (kind, outage) in OUTAGES.into_iter().enumerate() {
                if is_long() || kind == (at + shift) % OUTAGES.len() {
                    let begun = Instant::now();
                    // The outage before has cut its connection.
                    database.reconnect();
                    let mut left = 0;
                    let sitting = sit(&turn, point, || {
                        if matches!(point, Point::BeforeRescue | Point::AfterRescue) {
                            left += 1;
                            leave_one_behind(&database, &format!("{point:?} {outage:?} {left}"));
                        }
                    });
                    load.through_outage(|| go_through(outage, &mut server, &load, sitting));
                    println!("{point:?} {outage:?}: working again after {:?}", begun.elapsed());
                }
            }
        }
        let sums = load.finish(&database, producers);
        println!("{test}: {sums:?}");
        outbox.shutdown_blocking();
    });
}

/// A row as a node leaves it that was killed: something to rescue. It stands outside of the load and its books.
fn leave_one_behind(database: &Database, task_id: &str) {
    let copied = "parameter_types, method_sign_name, execute_interval_second, delay_time, task_parameter, execute_mode, \
                  thread_way, next_execute_time, priority";
    if database.backend() == Backend::Mysql {
        // It would lock the row it copies, wait for who settles that one, and make them wait for the next id.
        database.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED");
    }
    database.execute(&format!(
        "INSERT INTO consistency_task (task_id, state, method_name, queue, lease_owner, lease_until, {copied}) \
         SELECT '{task_id}', 1, 'worker.gone', 'elsewhere', 'gone-1', gmt_create, {copied} \
         FROM consistency_task ORDER BY id LIMIT 1"
    ));
}

/// Holds whoever reaches the point next. `lure` brings somebody there; again and again, for what it did may be dealt with by
/// one who had passed the point before.
fn sit(turn: &Turn, point: Point, mut lure: impl FnMut()) -> Sitting {
    let sitting = turn.hold_next(point, is_answer(point));
    wait_until("somebody to come to the point", || {
        lure();
        sitting.is_taken()
    });
    sitting
}

/// Holds every COMMIT of the producer's connections, from their address on, or of everybody.
struct Held {
    options: &'static [&'static str],
    address: fn(&Database) -> String,
    hold: &'static str,
    waiting: &'static str,
    outages: &'static [Outage],
}

fn held(backend: Backend) -> Held {
    match backend {
        // It waits for a standby that does not exist. By then it is durable, and only its answer is missing.
        Backend::Postgres => Held {
            options: &["-c", "synchronous_standby_names=nobody", "-c", "synchronous_commit=local"],
            address: |database| format!("{}?options=-c%20synchronous_commit%3Don", database.address()),
            hold: "SELECT 1",
            waiting: "COUNT(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
            outages: &OUTAGES,
        },
        // It waits for a lock, and nothing of it is durable.
        _ => Held {
            options: &[],
            address: |database| database.address().to_owned(),
            hold: "FLUSH TABLES WITH READ LOCK",
            waiting: "COUNT(*) FROM information_schema.processlist WHERE info LIKE 'COMMIT%' AND state LIKE 'Waiting%'",
            // In any other the lock goes first, and COMMIT may come through.
            outages: &[Outage::Crash],
        },
    }
}

fn a_commit_caught_by_an_outage_is_no_success_and_all_or_nothing<P: Producer>(backend: Backend, test: &str) {
    let Held { options, address, hold, waiting, outages } = held(backend);
    with_own(backend, test, Server::with(backend, options), |mut server| {
        let turn = take_turn();
        let database = server.database();
        let load = Load::on(&database);
        let outbox = start::<P>(&database, &load);
        for &outage in outages {
            let mut producer = P::connect(&address(&database)).expect("a connection");
            let sitting = turn.hold_next(Point::AfterInsert, false);
            let committing = {
                let (load, outbox) = (Arc::clone(&load), outbox.clone());
                std::thread::spawn(move || load.commit_next(&mut producer, &outbox))
            };
            sitting.wait();
            database.reconnect();
            database.execute(hold);
            sitting.leave();
            wait_until("the COMMIT to wait", || database.number(waiting) == 1);
            match outage {
                Outage::Cut => server.cut_connections(),
                Outage::AwayForAWhile => server.stop(Stop::Fast),
                Outage::Crash => server.stop(Stop::Crash),
            }
            let caught = committing.join().expect("the producer");
            let found = caught.as_ref().map_err(TransactionError::of);
            assert!(matches!(found, Err(Some(TransactionError::CommitUnknown(_)))), "{caught:?}");
            if !server.is_running() {
                server.start();
            }
        }
        // Every answer on the way is checked against the table.
        let sums = load.finish(&database, Vec::new());
        assert_eq!((sums.unknown, sums.refused, sums.doubled), (outages.len(), 0, 0), "{sums:?}");
        assert_eq!(sums.unknown_stored, if backend == Backend::Postgres { outages.len() } else { 0 }, "{sums:?}");
        outbox.shutdown_blocking();
    });
}

for_each_load! {
    every_phase_survives_a_restart;
    a_commit_caught_by_an_outage_is_no_success_and_all_or_nothing;
}
