//! What happened, in words and numbers, and the SQL to look at it.

use std::fmt;
use std::time::Duration;

use consistency_diesel::core::state::State;
use consistency_diesel::prelude::Task;
use diesel::result::QueryResult;
use indicatif::HumanCount;

use crate::args::{Driver, SceneArguments, sqlite_file};
use crate::carrier::CarrierReport;
use crate::shop::TaskCount;
use crate::tasks::{Scene, TASKS, notify_carrier};

/// The operator's question.
const NEEDS_A_LOOK: &str = "SELECT * FROM consistency_task WHERE state IN (3,4);";
/// A document that was finished twice would show here.
const BOOKED_TWICE: &str = "SELECT order_no FROM stock_booking GROUP BY order_no HAVING COUNT(*) > 1;";

/// The codes in `consistency_task.state` that the report tells apart.
const SUCCEEDED: i16 = State::Succeeded as i16;
const DEAD: i16 = State::Dead as i16;

/// What the outbox's table says about all runs so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) tasks: i64,
    pub(crate) attempts: i64,
    /// Attempts that did not succeed.
    pub(crate) failures: i64,
    /// Attempts after the first.
    pub(crate) retries: i64,
    /// Most attempts one task took.
    pub(crate) most_attempts: i64,
    pub(crate) delivered: i64,
    pub(crate) dead: i64,
}

impl Totals {
    /// Counts the scene's tasks in the table.
    pub(crate) fn read<S: Scene>(database: &mut S) -> QueryResult<Self> {
        Ok(Self::of(&database.task_counts(&TASKS)?))
    }

    fn of(counts: &[TaskCount]) -> Self {
        let mut totals = Totals::default();
        for TaskCount { name, state, attempts, count } in counts {
            let attempts = i64::from(*attempts);
            let succeeded = if *state == SUCCEEDED { *count } else { 0 };
            totals.tasks += count;
            totals.attempts += attempts * count;
            totals.failures += attempts * count - succeeded;
            totals.retries += (attempts - 1).max(0) * count;
            totals.most_attempts = totals.most_attempts.max(attempts);
            totals.delivered += if name == notify_carrier::NAME { succeeded } else { 0 };
            totals.dead += if *state == DEAD { *count } else { 0 };
        }
        totals
    }
}

/// The end of a run.
pub(crate) struct Report {
    pub(crate) orders: u64,
    pub(crate) totals: Totals,
    /// The longest a delivery took in this run.
    pub(crate) slowest: Duration,
    /// None when RabbitMQ took the carrier's place.
    pub(crate) carrier: Option<CarrierReport>,
    pub(crate) elapsed: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { tasks, attempts, failures, retries, most_attempts, delivered, dead } = self.totals;
        let count = |number: i64| HumanCount(number.unsigned_abs());
        writeln!(f, "orders       {} ({} delivered)", HumanCount(self.orders), count(delivered))?;
        writeln!(f, "tasks        {} ({} dead)", count(tasks), count(dead))?;
        writeln!(f, "attempts     {} (at most {} for one task)", count(attempts), count(most_attempts))?;
        writeln!(f, "failures     {}", count(failures))?;
        writeln!(f, "retries      {}", count(retries))?;
        writeln!(f, "slowest      {:.3} s from the call to the answer", self.slowest.as_secs_f64())?;
        if let Some(carrier) = self.carrier {
            writeln!(f, "duplicates   {} seen and dropped by the carrier", HumanCount(carrier.duplicates))?;
            writeln!(
                f,
                "carrier      {} parcels; in this run {} refusals (500), {} slow answers, {} lost ones",
                HumanCount(carrier.parcels),
                HumanCount(carrier.broken),
                HumanCount(carrier.slow),
                HumanCount(carrier.forgetful)
            )?;
            if carrier.double_parcels > 0 {
                writeln!(
                    f,
                    "             {} parcels for orders that had one: is the ledger of another database?",
                    HumanCount(carrier.double_parcels)
                )?;
            }
        }
        write!(f, "elapsed      {:.1} s", self.elapsed.as_secs_f64())
    }
}

/// The commands that show what the table says, for this database.
pub(crate) fn sql_to_look_at(arguments: &SceneArguments, driver: Driver) -> String {
    let client = client(arguments, driver);
    format!(
        "What needs a look:       {client} \"{NEEDS_A_LOOK}\"\nDocuments booked twice:  {client} \"{BOOKED_TWICE}\""
    )
}

/// The client's command line up to the SQL. A password in the URL is not repeated: the client asks for it.
fn client(arguments: &SceneArguments, driver: Driver) -> String {
    match (driver, reqwest::Url::parse(&arguments.database_url)) {
        (Driver::Sqlite, _) => format!("sqlite3 {}", sqlite_file(&arguments.database_url)),
        (Driver::Postgres, _) => format!("psql {} -c", arguments.shown_url()),
        (Driver::Mysql, Ok(url)) => {
            let port = url.port().map(|port| format!(" --port={port}")).unwrap_or_default();
            let password = if url.password().is_some() { " -p" } else { "" };
            let (host, database) = (url.host_str().unwrap_or("localhost"), url.path().trim_start_matches('/'));
            format!("mariadb --host={host}{port} --user={}{password} {database} -e", url.username())
        }
        (Driver::Mysql, Err(_)) => "mariadb -e".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Arguments;

    fn count(name: &str, state: i16, attempts: i32, count: i64) -> TaskCount {
        TaskCount { name: name.to_owned(), state, attempts, count }
    }

    #[test]
    fn the_table_is_summed_up() {
        let totals = Totals::of(&[
            count(TASKS[0], SUCCEEDED, 1, 10),
            count(notify_carrier::NAME, SUCCEEDED, 1, 6),
            count(notify_carrier::NAME, SUCCEEDED, 3, 2),
            count(notify_carrier::NAME, DEAD, 5, 1),
            count(notify_carrier::NAME, 0, 0, 1),
        ]);
        let expected =
            Totals { tasks: 20, attempts: 27, failures: 9, retries: 8, most_attempts: 5, delivered: 8, dead: 1 };
        assert_eq!(totals, expected);
    }

    #[test]
    fn the_command_fits_the_database_and_keeps_the_password() {
        let client = |url: &str| {
            let scene = Arguments::parse_from(["warehouse", "--database-url", url]).scene;
            client(&scene, scene.driver().unwrap())
        };
        assert_eq!(client("sqlite://warehouse.db"), "sqlite3 warehouse.db");
        assert_eq!(client("postgres://me:secret@db/shop"), "psql postgres://me@db/shop -c");
        assert_eq!(
            client("mysql://root:x@127.0.0.1:3307/test"),
            "mariadb --host=127.0.0.1 --port=3307 --user=root -p test -e"
        );
    }
}
