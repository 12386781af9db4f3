//! The table's migrations: up, down, several at once, what they refuse, and what a start says without them.

use std::sync::Barrier;

use consistency_core::error::Problem;
use consistency_diesel::migrations;
use consistency_diesel::outbox::Outbox;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness};

/// The widest table Diesel reads without a feature that slows every user's build, and what is to stay free of it.
const WIDEST: i64 = 32;
const FREE: i64 = 3;

fn embedded(backend: Backend) -> EmbeddedMigrations {
    match backend {
        #[cfg(feature = "sqlite")]
        Backend::Sqlite => migrations::SQLITE,
        #[cfg(feature = "postgres")]
        Backend::Postgres => migrations::POSTGRES,
        #[cfg(feature = "mysql")]
        Backend::Mysql => migrations::MYSQL,
        #[allow(unreachable_patterns)]
        other => panic!("the tests are built without {other}"),
    }
}

fn plain(backend: Backend) -> &'static [migrations::PlainSql] {
    match backend {
        Backend::Sqlite => migrations::SQLITE_SQL,
        Backend::Postgres => migrations::POSTGRES_SQL,
        Backend::Mysql => migrations::MYSQL_SQL,
    }
}

/// The only problem a start meets.
#[track_caller]
fn problem(database: &Database) -> Problem {
    let Err(error) = Outbox::builder(database.url()).enqueue_only().start_blocking() else {
        panic!("the start is not refused")
    };
    assert_eq!(error.problems().len(), 1, "{error}");
    error.problems()[0].clone()
}

/// Stores a row with SQL, as a person would, with these columns besides the necessary ones.
fn insert(database: &Database, columns: &str, values: &str) -> diesel::QueryResult<()> {
    database.try_execute(&format!(
        "INSERT INTO consistency_task (task_id, method_name, parameter_types, method_sign_name, task_parameter{columns}) \
         VALUES ('by hand', 'a::task', '', '', '{{}}'{values})"
    ))
}

fn column_count(database: &Database) -> i64 {
    match database.backend() {
        Backend::Sqlite => database.number("COUNT(*) FROM pragma_table_xinfo('consistency_task')"),
        Backend::Postgres => {
            database.count("information_schema.columns", "table_name = 'consistency_task' AND table_schema = 'public'")
        }
        Backend::Mysql => database
            .count("information_schema.columns", "table_name = 'consistency_task' AND table_schema = DATABASE()"),
    }
}

for_each_database! {
    fn starts_at_the_same_time_migrate_once(database: &Database) {
        const STARTS: usize = 4;
        let barrier = Barrier::new(STARTS);
        std::thread::scope(|scope| {
            let start = || {
                barrier.wait();
                let started = Outbox::builder(database.url()).enqueue_only().migrate().start_blocking();
                started.map(drop).map_err(|error| error.to_string())
            };
            let threads: Vec<_> = (0..STARTS).map(|_| scope.spawn(start)).collect();
            for thread in threads {
                assert_eq!(thread.join().unwrap(), Ok(()));
            }
        });
        let ours = format!("version = '{}'", migrations::NEWEST);
        assert_eq!(database.count("__diesel_schema_migrations", &ours), 1);
        assert_eq!(database.count("consistency_task", "1 = 1"), 0);
    }

    fn up_down_and_up_again(database: &Database) {
        let mut conn = database.connection::<Conn>();
        let up = conn.run_pending_migrations(embedded(BACKEND)).unwrap().len();
        assert_eq!(up, 1);
        insert(database, "", "").unwrap();
        conn.revert_all_migrations(embedded(BACKEND)).unwrap();
        for name in ["consistency_task", "consistency_task_readable", "consistency_task_failed", "consistency_order_lock"] {
            assert!(database.try_execute(&format!("SELECT 1 FROM {name}")).is_err(), "{name} is left");
        }
        assert!(matches!(problem(database), Problem::Table(_)));
        assert_eq!(conn.run_pending_migrations(embedded(BACKEND)).unwrap().len(), 1);
        assert_eq!(database.count("consistency_task", "1 = 1"), 0);
        drop(Outbox::builder(database.url()).enqueue_only().start_blocking().unwrap());
    }

    fn the_plain_sql_makes_and_removes_the_same(database: &Database) {
        for migration in plain(BACKEND) {
            database.execute(migration.up);
        }
        drop(Outbox::builder(database.url()).enqueue_only().start_blocking().unwrap());
        assert!(plain(BACKEND).last().unwrap().version.replace('-', "").starts_with(migrations::NEWEST));
        for migration in plain(BACKEND).iter().rev() {
            database.execute(migration.down);
        }
        assert!(matches!(problem(database), Problem::Table(_)));
    }

    fn a_missing_table_is_named_with_the_migration_that_makes_it(database: &Database) {
        let Problem::Table(message) = problem(database) else { panic!("not a problem of the table") };
        assert!(message.contains("missing") && message.contains(migrations::NEWEST), "{message}");
        assert!(message.contains(".migrate()"), "{message}");
    }

    fn a_table_without_a_column_is_called_older(database: &Database) {
        database.migrate();
        database.execute("DROP VIEW consistency_task_readable");
        database.execute("DROP VIEW consistency_task_failed");
        database.execute("ALTER TABLE consistency_task RENAME COLUMN meta TO metadata");
        let Problem::Table(message) = problem(database) else { panic!("not a problem of the table") };
        assert!(message.contains("older") && message.contains("meta"), "{message}");
        assert!(message.contains(migrations::NEWEST), "{message}");
        database.execute("ALTER TABLE consistency_task DROP COLUMN metadata");
        let Problem::Table(message) = problem(database) else { panic!("not a problem of the table") };
        assert!(message.contains("older"), "{message}");
    }

    fn the_table_is_narrow_enough_for_every_user(database: &Database) {
        database.migrate();
        // Generated columns are for the indexes alone: no schema names them.
        let generated = if BACKEND == Backend::Mysql { 3 } else { 0 };
        let columns = column_count(database);
        assert!(columns <= WIDEST, "{columns} columns");
        assert!(columns - generated <= WIDEST - FREE, "{columns} columns leave too few free");
    }

    // With anything else in its columns a row is found by somebody: see `hostile_rows.rs`.
    fn rows_that_nobody_would_find_are_refused(database: &Database) {
        database.migrate();
        for (columns, values) in [
            (", state", ", 9"),
            (", state", ", -1"),
            (", priority", ", 10"),
            (", priority", ", -1"),
            (", order_policy, order_key", ", 3, 'key'"),
            (", order_policy, order_key", ", -1, 'key'"),
        ] {
            assert!(insert(database, columns, values).is_err(), "accepted{columns} ={values}");
        }
        insert(database, "", "").unwrap();
        assert!(insert(database, "", "").is_err(), "a second row with the same handle");
        let row = database.row("by hand");
        assert_eq!((row.state, row.execute_times, row.priority, row.queue.as_str()), (0, 0, 5, "default"));
    }

    fn the_views_answer_what_people_ask(database: &Database) {
        database.migrate();
        insert(database, ", state, execute_times, error_message", ", 3, 2, 'no stock'").unwrap();
        assert_eq!(database.texts("SELECT state_name AS value FROM consistency_task_failed"), ["failed"]);
        assert_eq!(database.texts("SELECT error_message AS value FROM consistency_task_failed"), ["no stock"]);
        assert_eq!(database.count("consistency_task_failed", "attempts = 2 AND retried_at IS NOT NULL"), 1);
        database.execute("UPDATE consistency_task SET state = 4");
        assert_eq!(database.texts("SELECT state_name AS value FROM consistency_task_failed"), ["dead"]);
        assert_eq!(database.count("consistency_task_failed", "retried_at IS NULL"), 1);
        for state in consistency_core::state::State::ALL {
            let holder = if state.code() == 1 { ("'node'", "gmt_create") } else { ("NULL", "NULL") };
            let (owner, until) = holder;
            let code = state.code();
            database.execute(&format!(
                "UPDATE consistency_task SET state = {code}, lease_owner = {owner}, lease_until = {until}"
            ));
            assert_eq!(database.texts("SELECT state_name AS value FROM consistency_task_readable"), [state.name()]);
            let listed = i64::from(matches!(code, 3 | 4));
            assert_eq!(database.count("consistency_task_failed", "1 = 1"), listed);
        }
        assert_eq!(database.count("consistency_task_readable", "mode_name = 'scheduled' AND runs_on = 'worker'"), 1);
    }
}
