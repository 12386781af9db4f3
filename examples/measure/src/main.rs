//! Measures an outbox with default settings. What it can measure, and how to ask for it, is in [`USAGE`].

mod book;
mod counted;
mod drain;
mod idle;
mod latency;
mod options;
mod process;
mod recovery;
mod report;
#[cfg(feature = "postgres")]
mod snapshot;
mod steady;
mod steady_tasks;

use std::error::Error;

use consistency_diesel::blocking_connection::BlockingConnection;

use crate::options::Options;
use crate::steady_tasks::Booking;

/// How the program is called.
pub(crate) const USAGE: &str = "\
measure URL [WHAT] [OPTIONS]

URL names an empty database, which the program migrates and leaves its rows in:
  sqlite://FILE, postgres://.. (--features postgres) or mysql://.. (--features mysql)

WHAT is one of:
  drain     how many waiting no-op tasks a node drains per second, and the memory it takes meanwhile
              --tasks N     how many (100000)
  latency   the time from the commit of a transaction to the start of its task, one after the other
              --tasks N     how many (2000)
  steady    a given rate for a given time: plain, `#[tx]`, retried, ordered and delayed tasks; latencies, backlog, memory;
            at the end every committed task must have run once
              --rate N      transactions per second, one task each (200)
              --seconds N   for how long (600)
              --producers N connections that commit them (4)
  recovery  the time from the kill of a node, and from the order to stop, to the start of its task on another
  open-snapshot  a steady load on PostgreSQL, first without and then beside a transaction that holds a snapshot open
               --seconds N   for how long each (600)
  idle      what a node costs that has nothing to do
              --seconds N   for how long it is watched (60)

Without WHAT: drain, then latency; a number in its place is the number of tasks to drain.
Each ends with one line of JSON: name, database, settings, figures.";

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse(std::env::args().skip(1))?;
    match options.url.split(':').next() {
        #[cfg(feature = "sqlite")]
        Some("sqlite") => measure::<diesel::SqliteConnection>(&options),
        #[cfg(feature = "postgres")]
        Some("postgres") => measure::<diesel::PgConnection>(&options),
        #[cfg(feature = "mysql")]
        Some("mysql") => measure::<diesel::MysqlConnection>(&options),
        _ => {
            let url = &options.url;
            Err(format!("no driver for {url} is built in; add `--features postgres` or `--features mysql`\n\n{USAGE}")
                .into())
        }
    }
}

fn measure<C>(options: &Options) -> Result<(), Box<dyn Error>>
where
    C: BlockingConnection + Booking,
{
    counted::count_statements()?;
    for what in &options.what {
        let report = match what.as_str() {
            "drain" => drain::measure::<C>(options)?,
            "latency" => latency::measure::<C>(options)?,
            "steady" => steady::measure::<C>(options)?,
            "idle" => idle::measure(options)?,
            "recovery" => recovery::measure(options)?,
            #[cfg(feature = "postgres")]
            "open-snapshot" => snapshot::measure(options)?,
            // The process that `recovery` ends says nothing but that its task is under way.
            "recovery-node" => return recovery::node::<C>(options),
            other => return Err(format!("nothing is called `{other}`\n\n{USAGE}").into()),
        };
        println!("{report}");
    }
    Ok(())
}
