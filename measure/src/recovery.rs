//! Measures how long the tasks of a node wait when it is killed, and when it stops: until they start on another one.
//!
//! Both nodes have default settings. Each round starts a process with one task under way, ends it at a random moment of its
//! heartbeat, and waits for the task's next start in this process.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use consistency_diesel::blocking_connection::BlockingConnection;
use consistency_diesel::prelude::*;
use serde_json::json;

use crate::options::Options;
use crate::report::{line, percentiles};

/// How many rounds end with a kill, and how many with a stop.
const ROUNDS: u32 = 12;
/// The heartbeat's default interval, in which the end falls at random.
const HEARTBEAT_MS: u64 = 3_000;

/// Told of every start, in the process that measures; the one that ends has none.
static STARTS: Mutex<Option<mpsc::Sender<Instant>>> = Mutex::new(None);

#[consistency_task(name = "measure.stay")]
async fn stay(#[context] cx: &TaskContext) -> Result<(), TaskError> {
    let now = Instant::now();
    let measuring = STARTS.lock().ok().and_then(|starts| starts.clone());
    if let Some(starts) = measuring {
        starts.send(now).ok();
        return Ok(());
    }
    println!("under way");
    cx.cancelled().await;
    Err(TaskError::interrupted("the node stops"))
}

/// The process that ends: has one task under way until its standard input closes.
pub(crate) fn node<C: BlockingConnection>(options: &Options) -> Result<(), Box<dyn Error>> {
    let outbox = Outbox::builder(&options.url).start_blocking()?;
    outbox.transaction(&mut C::establish(options.address())?, |tx| tx.enqueue(stay()))?;
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())?;
    outbox.shutdown_blocking();
    Ok(())
}

/// Measures both ends.
pub(crate) fn measure(options: &Options) -> Result<String, Box<dyn Error>> {
    let url = &options.url;
    drop(Outbox::builder(url).migrate().enqueue_only().start_blocking()?);
    let killed = rounds(url, |child| {
        let sent = Instant::now();
        child.kill()?;
        Ok(sent)
    })?;
    let stopped = rounds(url, |child| {
        let sent = Instant::now();
        drop(child.stdin.take());
        Ok(sent)
    })?;
    let figures = json!({
        "killed_ms": percentiles("from kill -9 to the start elsewhere", killed),
        "stopped_ms": percentiles("from the order to stop to the start elsewhere", stopped),
    });
    Ok(line("recovery", options, json!({ "rounds": ROUNDS }), figures))
}

fn rounds(url: &str, end: impl Fn(&mut Child) -> std::io::Result<Instant>) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut waits = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe()?)
            .args([url, "recovery-node"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("no output of the node")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        if line.trim() != "under way" {
            return Err(format!("the node said `{line}`").into());
        }
        let (sender, starts) = mpsc::channel();
        *STARTS.lock().map_err(|_| "a task panicked")? = Some(sender);
        // The node it moves to is there before, as in earnest.
        let outbox = Outbox::builder(url).start_blocking()?;
        // Spread over the heartbeat's interval.
        std::thread::sleep(Duration::from_millis(500 + HEARTBEAT_MS * u64::from(round) / u64::from(ROUNDS)));
        let ended = end(&mut child)?;
        let wait = starts.recv_timeout(Duration::from_secs(60))?.saturating_duration_since(ended);
        waits.push(wait.as_secs_f64() * 1000.0);
        child.wait()?;
        outbox.shutdown_blocking();
    }
    Ok(waits)
}
