//! A node never takes back a row it is running itself, whatever keeps it from renewing its leases.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::error::StoreError;
use consistency_core::event::Event;
use consistency_core::fault::Point;
use consistency_core::state::State;
use consistency_diesel::outbox::Outbox;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::faults::at_points::AtPoints;
use consistency_tests::for_each_database;
use consistency_tests::recorder::{Recorder, wait_until};
use consistency_tests::scene::{Probe, now, store};
use diesel::Connection;
use diesel::connection::SimpleConnection;

/// Runs until the test lets it go.
#[consistency_task(retry_every = "50ms")]
fn long(#[inject] probe: &Arc<Probe>) {
    probe.note("begun");
    probe.go.wait_for(1);
}

const HEARTBEAT: Duration = Duration::from_millis(250);

fn start(database: &Database, recorder: &Recorder, probe: &Arc<Probe>) -> Outbox {
    let outbox = database.outbox().only([long::NAME]).inject(Arc::clone(probe)).listener(recorder.listener());
    let outbox = outbox.lease(4 * HEARTBEAT).heartbeat(HEARTBEAT).poll_interval(Duration::from_millis(10));
    outbox.start_blocking().unwrap()
}

fn wait_for_the_end_of_a_lease(database: &Database) {
    let over = format!("state = 1 AND lease_until < {}", now(database.backend()));
    wait_until("a lease to end", || database.count("consistency_task", &over) == 1);
}

/// Lets the body end, and checks that it was the only one.
fn end(database: &Database, recorder: &Recorder, probe: &Probe, task_id: &str) {
    probe.go.raise();
    recorder.wait_for_settled(task_id, State::Succeeded);
    let row = database.row(task_id);
    assert_eq!((row.state(), row.execute_times, row.owners(), row.lost_times), (State::Succeeded, 1, 1, 0));
    assert_eq!(probe.notes(), ["begun"]);
    assert!(!recorder.events().iter().any(|event| matches!(event, Event::Rescued { .. } | Event::LeaseLost { .. })));
}

/// How many renewals the dispatcher made in vain, while none is let through.
static IN_VAIN: AtPoints<Option<usize>> = AtPoints::new(meet);

fn meet(point: Point) -> Result<(), StoreError> {
    IN_VAIN.with(|in_vain| {
        let Some(in_vain) = in_vain.as_mut().filter(|_| point == Point::BeforeHeartbeat) else { return Ok(()) };
        *in_vain += usize::from(std::thread::current().name() == Some("consistency-dispatch"));
        Err(StoreError::Transient("no renewal is let through".into()))
    })
}

for_each_database! {
    fn no_rescue_follows_a_renewal_that_failed(database: &Database) {
        let _turn = IN_VAIN.take_turn();
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = start(database, &recorder, &probe);
        let task_id = store::<Conn>(database, &outbox, long());
        probe.wait_for("begun", 1);
        IN_VAIN.with(|in_vain| *in_vain = Some(0));
        wait_for_the_end_of_a_lease(database);
        IN_VAIN.with(|in_vain| *in_vain = Some(0));
        wait_until("the dispatcher to meet its own lease", || IN_VAIN.with(|in_vain| in_vain.is_some_and(|in_vain| in_vain >= 3)));
        IN_VAIN.with(|in_vain| *in_vain = None);
        end(database, &recorder, &probe, &task_id);
        outbox.shutdown_blocking();
    }

    fn no_rescue_takes_a_row_whose_lease_ended_while_an_operator_had_it_locked(database: &Database) {
        if BACKEND == Backend::Sqlite {
            // Its renewals fail then: the test above.
            return;
        }
        let _turn = IN_VAIN.take_turn();
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = start(database, &recorder, &probe);
        let task_id = store::<Conn>(database, &outbox, long());
        probe.wait_for("begun", 1);
        let mut operator = database.connection::<Conn>();
        for _ in 0..3 {
            operator
                .transaction(|operator| {
                    operator.batch_execute("UPDATE consistency_task SET biz_id = CONCAT(COALESCE(biz_id, ''), 'x')")?;
                    wait_for_the_end_of_a_lease(database);
                    diesel::QueryResult::Ok(())
                })
                .unwrap();
            let held = format!("state = 1 AND lease_until > {}", now(BACKEND));
            wait_until("the lease to be renewed", || database.count("consistency_task", &held) == 1);
        }
        end(database, &recorder, &probe, &task_id);
        outbox.shutdown_blocking();
    }
}
