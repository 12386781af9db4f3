//! How many waiting no-op tasks a node drains per second, and whether its memory grows with what waits.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use consistency_diesel::blocking_connection::BlockingConnection;
use consistency_diesel::prelude::*;
use serde_json::json;

use crate::options::Options;
use crate::{counted, process, report};

pub(crate) static DRAINED: AtomicUsize = AtomicUsize::new(0);

#[consistency_task(name = "measure.noop")]
pub(crate) async fn noop(number: u64, note: &str) {
    let _ = (number, note);
    DRAINED.fetch_add(1, Ordering::Relaxed);
}

pub(crate) const NOTE: &str =
    "about a hundred bytes of arguments, as an order with an address and an article number would have";
/// Tasks stored in one transaction.
const TOGETHER: usize = 1000;
/// How often the memory is looked at.
const SAMPLES: usize = 20;

/// Stores the tasks, then starts a node and waits until all of them have run.
pub(crate) fn measure<C: BlockingConnection>(options: &Options) -> Result<String, Box<dyn Error>> {
    let tasks = options.tasks.unwrap_or(100_000);
    let mut conn = C::establish(options.address())?;
    let store_only = Outbox::builder(&options.url).migrate().enqueue_only().start_blocking()?;
    let begun = Instant::now();
    for first in (0..tasks).step_by(TOGETHER) {
        store_only.transaction(&mut conn, |tx| {
            for number in first..(first + TOGETHER).min(tasks) {
                tx.enqueue(noop(number as u64, NOTE))?;
            }
            diesel::QueryResult::Ok(())
        })?;
    }
    let stored = begun.elapsed().as_secs_f64();
    println!("enqueue, {TOGETHER} per transaction: {}", rate(tasks, stored));

    let (sent, mut memory) = (counted::statements(), vec![process::memory_kib()]);
    let begun = Instant::now();
    let outbox = Outbox::builder(&options.url).start_blocking()?;
    while DRAINED.load(Ordering::Relaxed) < tasks {
        std::thread::sleep(Duration::from_millis(1));
        if DRAINED.load(Ordering::Relaxed) >= tasks * memory.len() / SAMPLES {
            memory.push(process::memory_kib());
        }
    }
    let ran = begun.elapsed().as_secs_f64();
    outbox.shutdown_blocking();
    let settled = begun.elapsed().as_secs_f64();
    println!("drain, until the last one ran: {}", rate(tasks, ran));
    println!("drain, until all are settled and the node has stopped: {}", rate(tasks, settled));
    println!("memory in KiB, from first to last: {memory:?}");
    let doubled = DRAINED.load(Ordering::Relaxed) - tasks;
    let figures = json!({
        "enqueue_per_second": report::per_second(tasks, stored), "run_per_second": report::per_second(tasks, ran),
        "settled_per_second": report::per_second(tasks, settled), "statements": counted::statements() - sent,
        "doubled": doubled, "memory_kib": memory,
    });
    Ok(report::line("drain", options, json!({ "tasks": tasks }), figures))
}

fn rate(tasks: usize, seconds: f64) -> String {
    format!("{tasks} in {seconds:.2} s, {} per second", report::per_second(tasks, seconds))
}
