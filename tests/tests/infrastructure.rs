//! The tests' own ground: a database is fresh and goes away again, events are heard, one task runs on every database.

use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::Recorder;

for_each_database! {
    items {
        #[consistency_task]
        fn note(text: String, #[tx] tx: &mut TaskTx<Conn>) -> diesel::QueryResult<()> {
            use diesel::connection::SimpleConnection;
            tx.batch_execute(&format!("INSERT INTO note (text) VALUES ('{text}')"))
        }
    }

    fn a_task_with_a_connection_runs_and_its_row_can_be_read(database: &Database) {
        database.execute("CREATE TABLE note (text VARCHAR(20) NOT NULL)");
        let recorder = Recorder::new();
        let outbox = database.outbox().only([note::NAME]).listener(recorder.listener()).start_blocking().unwrap();
        let receipt = outbox.transaction(&mut database.connection::<Conn>(), |tx| tx.enqueue(note("written".to_owned())));
        let task_id = receipt.unwrap().task_id().to_owned();
        recorder.wait_for_settled(&task_id, State::Succeeded);
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.owners()), (State::Succeeded, 1, 1));
        assert_eq!(database.texts("SELECT text AS value FROM note"), ["written"]);
        assert_eq!(database.count("consistency_task", "state = 2"), 1);
        outbox.shutdown_blocking();
    }

    fn a_fresh_database_is_empty(database: &Database) {
        assert!(database.try_execute("SELECT COUNT(*) FROM consistency_task").is_err());
        assert_eq!(database.backend(), BACKEND);
    }
}
