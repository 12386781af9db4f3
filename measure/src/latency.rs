//! The time from the commit of a transaction to the start of its task, when nothing else is to be done.

use std::error::Error;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use consistency_diesel::prelude::*;
use serde_json::json;

use crate::commits::connect;
use crate::drain_tasks::payload;
use crate::hand_written::HandWritten;
use crate::options::{By, Options};
use crate::report;

/// How long a task may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

static STARTED: Mutex<Option<mpsc::Sender<Instant>>> = Mutex::new(None);

#[consistency_task(name = "measure.arrive")]
async fn arrive(number: u64) {
    let _ = number;
    let now = Instant::now();
    if let Ok(guard) = STARTED.lock()
        && let Some(sender) = guard.as_ref()
    {
        sender.send(now).ok();
    }
}

/// Commits one task after the other, each when the one before has started.
pub(crate) fn measure<C: HandWritten>(options: &Options) -> Result<String, Box<dyn Error>> {
    let tasks = options.tasks.filter(|_| options.what.len() == 1).unwrap_or(2000);
    let mut conn = connect::<C>(options)?;
    let latencies = if options.by == By::Outbox {
        by_outbox(&mut conn, options, tasks)?
    } else {
        by_hand(&mut conn, options, tasks)?
    };
    let latencies = report::percentiles("commit to start", latencies);
    let settings = json!({ "by": options.by.name(), "tasks": tasks });
    Ok(report::line("latency", options, settings, json!({ "commit_to_start_ms": latencies })))
}

fn by_outbox<C: HandWritten>(conn: &mut C, options: &Options, tasks: usize) -> Result<Vec<f64>, Box<dyn Error>> {
    let outbox = Outbox::builder(&options.url).migrate().start_blocking()?;
    let (sender, started) = mpsc::channel();
    *STARTED.lock().map_err(|_| "a task panicked")? = Some(sender);
    let latencies = one_by_one(tasks, &started, |number| {
        outbox.transaction(conn, |tx| tx.enqueue(arrive(number as u64)))?;
        Ok(Instant::now())
    })?;
    outbox.shutdown_blocking();
    Ok(latencies)
}

/// The row is stored, and the work handed to a thread that waits for it.
fn by_hand<C: HandWritten>(conn: &mut C, options: &Options, tasks: usize) -> Result<Vec<f64>, Box<dyn Error>> {
    drop(Outbox::builder(&options.url).migrate().enqueue_only().start_blocking()?);
    conn.make_tables()?;
    let (hand, handed) = mpsc::channel::<usize>();
    let (sender, started) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        while let Ok(number) = handed.recv() {
            std::hint::black_box(number);
            sender.send(Instant::now()).ok();
        }
    });
    let note = payload(options.payload);
    let latencies = one_by_one(tasks, &started, |number| {
        conn.transaction(|conn| conn.insert_task(&note))?;
        let committed = Instant::now();
        hand.send(number)?;
        Ok(committed)
    })?;
    drop(hand);
    worker.join().map_err(|_| "the worker panicked")?;
    Ok(latencies)
}

/// A task may start before the committing thread reads its clock.
fn one_by_one(
    tasks: usize,
    started: &mpsc::Receiver<Instant>,
    mut commit: impl FnMut(usize) -> Result<Instant, Box<dyn Error>>,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut latencies = Vec::with_capacity(tasks);
    for number in 0..tasks {
        let committed = commit(number)?;
        let started = started.recv_timeout(PATIENCE)?;
        latencies.push(started.saturating_duration_since(committed).as_secs_f64() * 1000.0);
    }
    Ok(latencies)
}
