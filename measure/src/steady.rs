//! A steady load: a given rate for a given time from several connections, and the proof that nothing was lost or doubled.

use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use consistency_diesel::blocking_connection::BlockingConnection;
use consistency_diesel::prelude::*;
use serde_json::{Value, json};

use crate::book::Book;
use crate::options::Options;
use crate::steady_tasks::{self, Booking, Kind};
use crate::{counted, process, report};

/// How long the last tasks may take after the last commit.
const AFTERWARDS: Duration = Duration::from_secs(60);
/// How many samples of backlog and memory are taken.
const SAMPLES: u32 = 60;

/// Runs the load and checks what became of it.
pub(crate) fn measure<C>(options: &Options) -> Result<String, Box<dyn Error>>
where
    C: BlockingConnection + Booking,
{
    let time = options.time.unwrap_or(Duration::from_secs(600));
    let tasks = (options.rate as u64 * time.as_secs()) as usize;
    let book = Book::open(tasks);
    let outbox = Outbox::builder(&options.url).migrate().start_blocking()?;
    let mut conn = C::establish(options.address())?;
    set_up(&mut conn, options)?;
    conn.batch_execute("CREATE TABLE measure_effect (number BIGINT NOT NULL)")?;
    conn.batch_execute("CREATE TABLE measure_order (number BIGINT NOT NULL)")?;

    let (sent, used, begun) = (counted::statements(), process::processor_time(), Instant::now());
    let (next, committed, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let (mut backlog, mut memory) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        let produce =
            || produce::<C>(options, &outbox, book, tasks, begun, &next, &committed).map_err(|error| error.to_string());
        let producers: Vec<_> = (0..options.producers).map(|_| scope.spawn(produce)).collect();
        let sampler = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(time / SAMPLES);
                backlog.push(committed.load(Ordering::Relaxed) as i64 - book.ended.load(Ordering::Relaxed) as i64);
                memory.push(process::memory_kib());
            }
        });
        let ended: Vec<_> = producers.into_iter().map(|producer| producer.join()).collect();
        over.store(true, Ordering::Relaxed);
        sampler.join().map_err(|_| "the sampler panicked")?;
        for producer in ended {
            producer.map_err(|_| "a producer panicked")??;
        }
        Ok(())
    })?;
    let produced = begun.elapsed().as_secs_f64();
    let deadline = Instant::now() + AFTERWARDS;
    while (book.ended.load(Ordering::Relaxed) as usize) < tasks && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (sent, used) = (counted::statements() - sent, process::processor_time() - used);
    outbox.shutdown_blocking();

    let proof = prove(&mut conn, book, tasks)?;
    let waits = |kind: Kind| {
        (0..tasks).filter(|number| Kind::of(*number) == kind).filter_map(|number| book.waited_ms(number)).collect()
    };
    let per_second = report::per_second(tasks, produced);
    println!(
        "{tasks} tasks in {produced:.1} s, {per_second} per second; {:.2} statements and {:.3} ms of processor per task",
        sent as f64 / tasks as f64,
        used.as_secs_f64() * 1000.0 / tasks as f64
    );
    let growth = mean(&backlog[backlog.len() * 3 / 4..]) - mean(&backlog[..backlog.len() / 4]);
    println!("backlog: {backlog:?}, growth {growth:.1}; memory in KiB: {memory:?}");
    let figures = json!({
        "committed_per_second": per_second, "statements_per_task": sent as f64 / tasks as f64,
        "plain_commit_to_start_ms": report::percentiles("plain, commit to start", waits(Kind::Plain)),
        "tx_commit_to_start_ms": report::percentiles("#[tx], commit to start", waits(Kind::Transactional)),
        "ordered_commit_to_start_ms": report::percentiles("ordered, commit to start", waits(Kind::Ordered)),
        "delayed_due_to_start_ms": report::percentiles("delayed, due to start", waits(Kind::Delayed)),
        "backlog_growth": growth, "backlog_max": backlog.iter().max(), "memory_kib": memory, "proof": proof,
    });
    let settings = json!({ "rate": options.rate, "seconds": time.as_secs(), "producers": options.producers });
    let line = report::line("steady", options, settings, figures);
    if ["lost", "doubled", "effects_doubled", "effects_missing"].iter().any(|figure| proof[figure] != 0) {
        println!("{line}");
        return Err(format!("tasks were lost or doubled: {proof}").into());
    }
    Ok(line)
}

/// Commits tasks until there are enough, each at its moment: who is late hurries.
fn produce<C: BlockingConnection + Booking>(
    options: &Options,
    outbox: &Outbox,
    book: &Book,
    tasks: usize,
    begun: Instant,
    next: &AtomicUsize,
    committed: &AtomicUsize,
) -> Result<(), Box<dyn Error>> {
    let mut conn = C::establish(options.address())?;
    set_up(&mut conn, options)?;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= tasks {
            return Ok(());
        }
        let moment = begun + Duration::from_secs_f64(number as f64 / options.rate as f64);
        std::thread::sleep(moment.saturating_duration_since(Instant::now()));
        outbox.transaction(&mut conn, |tx| {
            tx.batch_execute(&format!("INSERT INTO measure_order (number) VALUES ({number})"))?;
            tx.enqueue(steady_tasks::call::<C>(number)).map(drop)
        })?;
        book.is_due_in(number, Kind::of(number).delay());
        committed.fetch_add(1, Ordering::Relaxed);
    }
}

/// What an application tells its SQLite connections.
fn set_up(conn: &mut impl BlockingConnection, options: &Options) -> diesel::QueryResult<()> {
    if options.database() == "sqlite" { conn.batch_execute("PRAGMA busy_timeout = 20000") } else { Ok(()) }
}

/// Counts what is lost and what is doubled, in memory and in the database.
fn prove<C: Booking>(conn: &mut C, book: &Book, tasks: usize) -> Result<Value, Box<dyn Error>> {
    let ran =
        |wanted: &dyn Fn(usize, u8) -> bool| (0..tasks).filter(|number| wanted(*number, book.runs(*number))).count();
    // The body of a `#[tx]` task may run again where its transaction was not committed; its effect is what counts.
    let doubled = ran(&|number, runs| runs > 1 && Kind::of(number) != Kind::Transactional);
    Ok(json!({
        "lost": ran(&|_, runs| runs == 0), "doubled": doubled,
        "committed": conn.number("COUNT(*) AS value FROM measure_order")?,
        "succeeded_rows": conn.number("COUNT(*) AS value FROM consistency_task WHERE state = 2")?,
        "effects_doubled": conn.number("COUNT(*) - COUNT(DISTINCT number) AS value FROM measure_effect")?,
        "effects_missing": ran(&|number, _| Kind::of(number) == Kind::Transactional) as i64
            - conn.number("COUNT(DISTINCT number) AS value FROM measure_effect")?,
    }))
}

fn mean(counts: &[i64]) -> f64 {
    counts.iter().sum::<i64>() as f64 / counts.len().max(1) as f64
}
