//! A database that refuses some updates of the table, in words of the test's choice.

use crate::backend::Backend;
use crate::database::Database;

/// Has the database refuse every update of a row that meets `condition` (on `OLD` and `NEW`), with these words.
pub fn refuse_updates(database: &Database, condition: &str, words: &str) {
    match database.backend() {
        Backend::Sqlite => database.execute(&format!(
            "CREATE TRIGGER refusal BEFORE UPDATE ON consistency_task WHEN {condition} \
             BEGIN SELECT RAISE(ABORT, '{words}'); END"
        )),
        Backend::Postgres => {
            database.execute(&format!(
                "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE EXCEPTION '{words}'; END $$"
            ));
            database.execute(&format!(
                "CREATE TRIGGER refusal BEFORE UPDATE ON consistency_task FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION refuse()"
            ));
        }
        Backend::Mysql => database.execute(&format!(
            "CREATE TRIGGER refusal BEFORE UPDATE ON consistency_task FOR EACH ROW IF {condition} THEN \
             SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{words}'; END IF"
        )),
    }
}

/// Ends that.
pub fn allow_updates(database: &Database) {
    let table = if database.backend() == Backend::Postgres { " ON consistency_task" } else { "" };
    database.execute(&format!("DROP TRIGGER refusal{table}"));
}
