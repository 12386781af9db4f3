//! Measures an outbox with default settings. What it can measure, and how to ask for it, is in [`USAGE`].

mod arrival;
mod backlog;
mod book;
mod bulk;
mod commits;
#[cfg(feature = "async-postgres")]
mod commits_async;
mod costs;
mod counted;
mod cycle;
mod drain;
mod drain_node;
mod drain_tasks;
mod hand_written;
mod idle;
mod latency;
mod options;
mod prepared;
mod process;
mod recovery;
mod report;
#[cfg(feature = "postgres")]
mod snapshot;
mod steady;
mod steady_tasks;

use std::error::Error;

use crate::hand_written::HandWritten;
use crate::options::Options;

/// How the program is called.
pub(crate) const USAGE: &str = "\
measure URL [WHAT] [OPTIONS]

URL names an empty database, which the program migrates and leaves its rows in:
  sqlite://FILE, postgres://.. (--features postgres) or mysql://.. (--features mysql)

WHAT is one of:
  commits   transactions of one business row and one task, per second; nobody runs the tasks meanwhile
              --tasks N     how many (5000)
              --producers N connections that commit them (1)
  bulk      tasks stored in one transaction, per second
              --tasks N     how many (20000)
  drain     how many waiting no-op tasks processes drain per second, and the memory they take meanwhile
              --tasks N     how many (100000)
              --processes N how many run them (1)
              --body-ms N   how long each task waits (0)
              --future N, --finished N   rows that lie beside them (0)
              --analyzed    statistics of the tables are made before
  cycle     stores and runs tasks, for a tool that counts instructions
              --tasks N     how many (2000)
  latency   the time from the commit of a transaction to the start of its task, one after the other
              --tasks N     how many (2000)
  arrival   the same when another process commits; on PostgreSQL it tells
              --tasks N     how many (1000)
  idle      what a node costs that has nothing to do
              --seconds N   for how long it is watched (60)
  steady    a given rate for a given time: plain, `#[tx]`, retried, ordered and delayed tasks; latencies, backlog, memory;
            at the end every committed task must have run once
              --rate N      transactions per second, one task each (200)
              --seconds N   for how long (600)
              --producers N connections that commit them (4)
  recovery  the time from the kill of a node, and from the order to stop, to the start of its task on another
  open-snapshot  a steady load on PostgreSQL, first without and then beside a transaction that holds a snapshot open
               --seconds N   for how long each (600)

The first four also take
  --by WHO    outbox (the default), hand (the same work written by hand on a small table: what the machine allows),
              hand-deleting (finished rows are deleted), business (the business row alone), async-outbox (on PostgreSQL through
              diesel-async; --features async-postgres)
  --payload N bytes of arguments (110)
  --synchronous full|normal   SQLite's, on the application's connections

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
    C: HandWritten,
{
    counted::count_statements()?;
    for what in &options.what {
        let report = match what.as_str() {
            "commits" => commits::measure::<C>(options)?,
            "bulk" => bulk::measure::<C>(options)?,
            "drain" => drain::measure::<C>(options)?,
            "cycle" => cycle::measure::<C>(options)?,
            "latency" => latency::measure::<C>(options)?,
            "arrival" => arrival::measure(options)?,
            "steady" => steady::measure::<C>(options)?,
            "idle" => idle::measure(options)?,
            "recovery" => recovery::measure(options)?,
            #[cfg(feature = "postgres")]
            "open-snapshot" => snapshot::measure(options)?,
            // Processes that others start and hear.
            "drain-node" => return drain_node::run::<C>(options),
            "arrival-producer" => return arrival::producer::<C>(options),
            "recovery-node" => return recovery::node::<C>(options),
            other => return Err(format!("nothing is called `{other}`\n\n{USAGE}").into()),
        };
        println!("{report}");
    }
    Ok(())
}
