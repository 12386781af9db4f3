//! The time from the commit of a transaction to the start of its task, when nothing else is to be done.

use std::error::Error;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use consistency_diesel::blocking_connection::BlockingConnection;
use consistency_diesel::prelude::*;
use serde_json::json;

use crate::options::Options;
use crate::report;

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
pub(crate) fn measure<C: BlockingConnection>(options: &Options) -> Result<String, Box<dyn Error>> {
    let tasks = options.tasks.filter(|_| options.what.len() == 1).unwrap_or(2000);
    let mut conn = C::establish(options.address())?;
    let outbox = Outbox::builder(&options.url).migrate().start_blocking()?;
    let (sender, receiver) = mpsc::channel();
    *STARTED.lock().map_err(|_| "a task panicked")? = Some(sender);
    let mut latencies = Vec::with_capacity(tasks);
    for number in 0..tasks {
        outbox.transaction(&mut conn, |tx| tx.enqueue(arrive(number as u64)))?;
        let committed = Instant::now();
        // A task may start before the committing thread reads its clock.
        let started = receiver.recv_timeout(Duration::from_secs(30))?;
        latencies.push(started.saturating_duration_since(committed).as_secs_f64() * 1000.0);
    }
    outbox.shutdown_blocking();
    let latencies = report::percentiles("commit to start", latencies);
    Ok(report::line("latency", options, json!({ "tasks": tasks }), json!({ "commit_to_start_ms": latencies })))
}
