//! The isolation level of the sessions that write into the table: read committed for all of the runtime's own, and the
//! application's own choice for those of its connections.

use std::time::Duration;

use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::bulk::Bulk;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::wait_until;
use consistency_tests::stage::Stage;

/// Has the database itself note at which level each row is changed. Nothing on SQLite, which has but one level.
fn note_levels(database: &Database) {
    match database.backend() {
        Backend::Sqlite => {}
        Backend::Postgres => database.execute(
            "CREATE TABLE level (done VARCHAR(10) NOT NULL, name VARCHAR(30) NOT NULL); \
             CREATE FUNCTION note_level() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN \
               INSERT INTO level VALUES (TG_OP, current_setting('transaction_isolation')); RETURN NULL; END $$; \
             CREATE TRIGGER note_level AFTER INSERT OR UPDATE OR DELETE ON consistency_task \
               FOR EACH ROW EXECUTE FUNCTION note_level()",
        ),
        Backend::Mysql => {
            let is_mariadb = database.texts("SELECT VERSION() AS value")[0].contains("MariaDB");
            let level = if is_mariadb { "@@tx_isolation" } else { "@@transaction_isolation" };
            database.execute("CREATE TABLE level (done VARCHAR(10) NOT NULL, name VARCHAR(30) NOT NULL)");
            for done in ["INSERT", "UPDATE", "DELETE"] {
                database.execute(&format!(
                    "CREATE TRIGGER note_{done} AFTER {done} ON consistency_task FOR EACH ROW \
                     INSERT INTO level VALUES ('{done}', LOWER(REPLACE({level}, '-', ' ')))"
                ));
            }
        }
    }
}

/// The levels noted for `done`, each once.
fn levels(database: &Database, done: &str) -> Vec<String> {
    database.texts(&format!("SELECT DISTINCT name AS value FROM level WHERE done = '{done}' ORDER BY name"))
}

for_each_database! {
    items {
        #[consistency_task]
        fn plain() {}

        #[consistency_task]
        fn transactional(#[tx] tx: &mut TaskTx<Conn>) -> diesel::QueryResult<()> {
            use diesel::connection::SimpleConnection;
            tx.batch_execute("INSERT INTO business (id, name) VALUES (1, 'effect')")
        }

        /// Longer than its lease, so that it is renewed.
        #[consistency_task]
        async fn long() {
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    }

    fn the_runtime_writes_at_read_committed_whatever_the_servers_default_is(database: &Database) {
        database.migrate();
        note_levels(database);
        // The default of MySQL and MariaDB is another one anyway.
        if BACKEND == Backend::Postgres {
            let name = database.address().rsplit('/').next().unwrap();
            database.execute(&format!("ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'"));
        }
        let names = [plain::NAME, transactional::NAME, long::NAME];
        let lease = Duration::from_millis(600);
        let stage = Stage::with(database, |builder| builder.only(names).lease(lease).heartbeat(Duration::from_millis(50)));
        stage.run::<Conn>(plain());
        stage.run::<Conn>(plain().key("claimed"));
        stage.run::<Conn>(transactional().key("with a transaction"));
        stage.run::<Conn>(long());
        Bulk { state: 1, ..Bulk::due("orphan", "gone::somewhere", 1) }.load(database);
        wait_until("the orphan to be taken back", || database.row("orphan 0").state() == State::Failed);
        assert!(stage.outbox.prune_blocking(Duration::ZERO, 100).unwrap() >= 4);
        if BACKEND == Backend::Sqlite {
            return;
        }
        // The callers' own connections keep the level their application gave them.
        assert!(levels(database, "INSERT").contains(&"repeatable read".to_owned()));
        assert_eq!(levels(database, "UPDATE"), ["read committed"]);
        assert_eq!(levels(database, "DELETE"), ["read committed"]);
    }
}
