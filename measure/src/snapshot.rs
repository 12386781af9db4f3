//! Measures what a transaction of somebody else's does that is open for long on PostgreSQL: while it may still see them, old
//! versions of rows cannot be removed, neither from the table nor from the index the claim reads.
//!
//! A steady load is stored and run twice for as many seconds, first without such a transaction and then beside one.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use consistency_diesel::prelude::*;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use serde_json::{Value, json};

use crate::drain_tasks::{noop, payload, ran};
use crate::options::Options;
use crate::report::{line, per_second};

/// Tasks stored per second, in transactions of so many.
const RATE: usize = 1000;
const PER_TRANSACTION: usize = 20;
/// Lines printed of each of the two runs.
const SAMPLES: u32 = 12;

/// Where the claim begins to read.
const HEAD: &str = "SELECT COUNT(*) AS value FROM (SELECT 1 FROM consistency_task WHERE queue = 'default' AND priority = 5 \
                    AND (CASE WHEN execute_mode = 2 AND thread_way = 2 THEN 1 ELSE 0 END) = 0 AND state IN (0, 3) \
                    ORDER BY next_execute_time LIMIT 1) AS head";
const DEAD: &str =
    "SELECT COALESCE(MAX(n_dead_tup), 0) AS value FROM pg_stat_user_tables WHERE relname = 'consistency_task'";
const VACUUMED: &str = "SELECT CASE current_setting('autovacuum') WHEN 'on' THEN 1::bigint ELSE 0 END AS value";
const SIZE: &str = "SELECT pg_table_size('consistency_task') AS value";
const INDEX_SIZE: &str = "SELECT pg_relation_size('consistency_task_claim') AS value";

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

/// For how long each of the two loads runs, if nothing else is said.
const USUALLY: Duration = Duration::from_secs(600);

/// Runs the load for a time without and for as long with the open snapshot.
pub(crate) fn measure(options: &Options) -> Result<String, Box<dyn Error>> {
    let (url, length) = (options.url.as_str(), options.time.unwrap_or(USUALLY));
    let mut figures = serde_json::Map::new();
    let is_vacuumed = ask(&mut PgConnection::establish(url)?, VACUUMED)? == 1;
    if !is_vacuumed {
        println!("the server's autovacuum is off: dead rows stay, also without an open snapshot");
    }
    println!("{RATE} tasks a second; the look is the time to find the first due row");
    drop(Outbox::builder(url).migrate().enqueue_only().start_blocking()?);
    for beside in [false, true] {
        let mut admin = PgConnection::establish(url)?;
        admin.batch_execute("TRUNCATE consistency_task")?;
        let mut other = PgConnection::establish(url)?;
        if beside {
            // The first statement takes the snapshot.
            other.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM consistency_task LIMIT 1")?;
        }
        let (name, title) = match beside {
            true => ("beside", "beside an open snapshot"),
            false => ("without", "without an open snapshot"),
        };
        println!("\n{title}");
        figures.insert(name.to_owned(), run(url, &mut admin, length)?);
    }
    Ok(line(
        "snapshot",
        options,
        json!({ "rate": RATE, "seconds": length.as_secs(), "autovacuum": is_vacuumed }),
        figures.into(),
    ))
}

fn run(url: &str, admin: &mut PgConnection, length: Duration) -> Result<Value, Box<dyn Error>> {
    let producer = Outbox::builder(url).enqueue_only().start_blocking()?;
    let worker = Outbox::builder(url).start_blocking()?;
    let (enough, before) = (AtomicBool::new(false), ran());
    let (stored, mut figures) = std::thread::scope(|scope| -> Result<(usize, Value), Box<dyn Error>> {
        let storing = scope.spawn(|| store(url, &producer, &enough).map_err(|error| error.to_string()));
        let sampled = sample(admin, length, before);
        enough.store(true, Ordering::Relaxed);
        let figures = sampled?;
        Ok((storing.join().map_err(|_| "the producer panicked")??, figures))
    })?;
    let begun = Instant::now();
    while ran() - before < stored {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("{stored} stored; the rest ran within {:.1} s", begun.elapsed().as_secs_f64());
    worker.shutdown_blocking();
    figures["stored_per_s"] = per_second(stored, length.as_secs_f64()).into();
    Ok(figures)
}

/// Stores at the rate until it is enough; how many.
fn store(url: &str, producer: &Outbox, enough: &AtomicBool) -> Result<usize, Box<dyn Error>> {
    let mut conn = PgConnection::establish(url)?;
    let (note, begun, mut stored) = (payload(110), Instant::now(), 0);
    while !enough.load(Ordering::Relaxed) {
        producer.transaction(&mut conn, |tx| {
            (stored..stored + PER_TRANSACTION).try_for_each(|number| tx.enqueue(noop(number as u64, &note)).map(drop))
        })?;
        stored += PER_TRANSACTION;
        let due = begun + Duration::from_secs_f64(stored as f64 / RATE as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(stored)
}

/// Prints what it is like now and then; returns the last figures.
fn sample(conn: &mut PgConnection, length: Duration, before: usize) -> Result<Value, Box<dyn Error>> {
    println!(
        "{:>6} {:>9} {:>9} {:>10} {:>9} {:>10} {:>9}",
        "s", "run/s", "waiting", "dead rows", "table MB", "index MB", "look ms"
    );
    let begun = Instant::now();
    let (mut last, mut counted) = (begun, before);
    let mut figures = Value::Null;
    for number in 1..=SAMPLES {
        std::thread::sleep((begun + length * number / SAMPLES).saturating_duration_since(Instant::now()));
        let (now, drained) = (Instant::now(), ran());
        let rate = (drained - counted) as f64 / (now - last).as_secs_f64();
        (last, counted) = (now, drained);
        let waiting = ask(conn, "SELECT COUNT(*) AS value FROM consistency_task WHERE state IN (0, 3)")?;
        let looks = (0..5).map(|_| {
            let asked = Instant::now();
            ask(conn, HEAD).map(|_| asked.elapsed().as_secs_f64() * 1000.0)
        });
        let look = looks.collect::<QueryResult<Vec<_>>>()?.into_iter().fold(f64::INFINITY, f64::min);
        let dead = ask(conn, DEAD)?;
        let (table, index) = (megabytes(ask(conn, SIZE)?), megabytes(ask(conn, INDEX_SIZE)?));
        println!(
            "{:>6.0} {rate:>9.0} {waiting:>9} {dead:>10} {table:>9.1} {index:>10.1} {look:>9.2}",
            begun.elapsed().as_secs_f64(),
        );
        figures = json!({
            "run_per_s_at_end": rate.round(), "waiting_at_end": waiting, "dead_rows": dead,
            "table_mb": table.round(), "claim_index_mb": index.round(), "look_ms": look,
        });
    }
    Ok(figures)
}

fn ask(conn: &mut PgConnection, sql: &str) -> QueryResult<i64> {
    diesel::sql_query(sql).get_result::<Number>(conn).map(|number| number.value)
}

fn megabytes(bytes: i64) -> f64 {
    bytes as f64 / 1e6
}
