//! A connection to another database than the outbox's own, given by mistake: it harms no row of the outbox's.

use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::Latch;
use consistency_tests::stage::Stage;

/// Waits until the test has done what it wants to do meanwhile, and fails.
#[consistency_task]
fn fail_when_told(#[inject] go: &Latch) -> Result<(), String> {
    go.raise();
    go.wait_for(2);
    Err("not yet".to_owned())
}

#[consistency_task]
fn quick() {}

for_each_database! {
    fn a_row_stored_elsewhere_is_lost_and_settles_no_row_with_its_id(database: &Database) {
        let other = Database::fresh(BACKEND).unwrap();
        other.migrate();
        let go = Latch::new();
        let stage = Stage::with(database, |builder| builder.inject(go.clone()));
        // The first row of either table, so that both have the same id.
        let own = stage.commit::<Conn>(fail_when_told());
        go.wait_for(1);
        let stray = stage.outbox.transaction(&mut other.connection::<Conn>(), |tx| tx.enqueue(quick())).unwrap();
        stage.recorder.wait_for("the stray row is lost", |events| {
            events.iter().any(|event| matches!(event, Event::LeaseLost { .. }))
        });
        assert_eq!(other.row(stray.task_id()).id, database.row(&own).id);
        go.raise();
        stage.recorder.wait_for_settled(&own, State::Failed);
        assert_eq!(database.row(&own).state(), State::Failed);
        assert_eq!(other.row(stray.task_id()).state(), State::Running, "it waits there for its lease to end");
    }
}
