//! The time from the commit of one process to the start of its task in another.

use std::error::Error;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use consistency_diesel::builder::OutboxBuilder;
use consistency_diesel::prelude::*;
use serde_json::json;

use crate::commits::connect;
use crate::hand_written::HandWritten;
use crate::options::Options;
use crate::report;

/// The pause between a start and the next commit: no look of the one before is under way then, and what a process tells is not
/// gathered with it.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a task may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

static STARTED: Mutex<Option<mpsc::Sender<u128>>> = Mutex::new(None);

#[consistency_task(name = "measure.come")]
async fn come(number: u64) {
    let _ = number;
    let now = since_epoch();
    if let Ok(guard) = STARTED.lock()
        && let Some(sender) = guard.as_ref()
    {
        sender.send(now).ok();
    }
}

/// In nanoseconds: both processes read the same clock.
fn since_epoch() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

/// Only PostgreSQL has something to tell with.
fn tells(options: &Options) -> bool {
    cfg!(feature = "async-postgres") && options.database() == "postgres"
}

fn builder(options: &Options) -> OutboxBuilder {
    let builder = Outbox::builder(&options.url);
    #[cfg(feature = "async-postgres")]
    if tells(options) {
        return builder.notify();
    }
    builder
}

/// The process that commits: one task for each line it reads, and the time of the commit as its answer.
pub(crate) fn producer<C: HandWritten>(options: &Options) -> Result<(), Box<dyn Error>> {
    let outbox = builder(options).enqueue_only().start_blocking()?;
    let mut conn = connect::<C>(options)?;
    let mut output = std::io::stdout().lock();
    for (number, line) in std::io::stdin().lock().lines().enumerate() {
        line?;
        outbox.transaction(&mut conn, |tx| tx.enqueue(come(number as u64)))?;
        writeln!(output, "{}", since_epoch())?;
        output.flush()?;
    }
    outbox.shutdown_blocking();
    Ok(())
}

/// Has another process commit one task after the other, each when the one before has started here.
pub(crate) fn measure(options: &Options) -> Result<String, Box<dyn Error>> {
    let tasks = options.tasks.unwrap_or(1000);
    let outbox = builder(options).migrate().start_blocking()?;
    let mut command = Command::new(std::env::current_exe()?);
    let mut producer =
        command.args([&options.url, "arrival-producer"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = producer.stdin.take().ok_or("no input of the process")?;
    let mut output = BufReader::new(producer.stdout.take().ok_or("no output of the process")?).lines();
    let (sender, started) = mpsc::channel();
    *STARTED.lock().map_err(|_| "a task panicked")? = Some(sender);
    let mut latencies = Vec::with_capacity(tasks);
    for _ in 0..tasks {
        writeln!(input, "next")?;
        let committed: u128 = output.next().ok_or("the process has ended")??.parse()?;
        let started = started.recv_timeout(PATIENCE)?;
        latencies.push(started.saturating_sub(committed) as f64 / 1e6);
        std::thread::sleep(PAUSE);
    }
    drop(input);
    producer.wait()?;
    outbox.shutdown_blocking();
    let latencies = report::percentiles("commit in another process to start", latencies);
    let settings = json!({ "tasks": tasks, "notified": tells(options) });
    Ok(report::line("arrival", options, settings, json!({ "commit_to_start_ms": latencies })))
}
