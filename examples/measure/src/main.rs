//! Measures two figures with default settings: how many waiting no-op tasks a node drains per second, and how long it takes
//! from the commit of a transaction to the start of its task.
//!
//! `cargo run --release -p measure --features postgres -- postgres://postgres@127.0.0.1/scratch [tasks]`
//!
//! The database must be an empty one: the program migrates it and leaves its rows there.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use consistency_diesel::blocking_connection::BlockingConnection;
use consistency_diesel::prelude::*;

static DRAINED: AtomicUsize = AtomicUsize::new(0);
static STARTED: Mutex<Option<mpsc::Sender<Instant>>> = Mutex::new(None);

#[consistency_task(name = "measure.noop")]
async fn noop(number: u64, note: &str) {
    let _ = (number, note);
    DRAINED.fetch_add(1, Ordering::Relaxed);
}

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

const NOTE: &str = "about a hundred bytes of arguments, as an order with an address and an article number would have";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("name the database: sqlite://FILE, postgres://.. or mysql://..")?;
    let tasks = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    match url.split(':').next() {
        #[cfg(feature = "sqlite")]
        Some("sqlite") => measure::<diesel::SqliteConnection>(&url, url.trim_start_matches("sqlite://"), tasks),
        #[cfg(feature = "postgres")]
        Some("postgres") => measure::<diesel::PgConnection>(&url, &url, tasks),
        #[cfg(feature = "mysql")]
        Some("mysql") => measure::<diesel::MysqlConnection>(&url, &url, tasks),
        _ => Err(format!("no driver for {url} is built in; add `--features postgres` or `--features mysql`").into()),
    }
}

fn measure<C>(url: &str, address: &str, tasks: usize) -> Result<(), Box<dyn Error>>
where
    C: BlockingConnection,
{
    let mut conn = C::establish(address)?;
    let store_only = Outbox::builder(url).migrate().enqueue_only().start_blocking()?;
    let begun = Instant::now();
    for first in (0..tasks).step_by(1000) {
        store_only.transaction(&mut conn, |tx| {
            for number in first..(first + 1000).min(tasks) {
                tx.enqueue(noop(number as u64, NOTE))?;
            }
            diesel::QueryResult::Ok(())
        })?;
    }
    report("enqueue, 1000 per transaction", tasks, begun.elapsed());

    let begun = Instant::now();
    let outbox = Outbox::builder(url).start_blocking()?;
    while DRAINED.load(Ordering::Relaxed) < tasks {
        std::thread::sleep(Duration::from_millis(1));
    }
    let ran = begun.elapsed();
    outbox.shutdown_blocking();
    report("drain, until the last one ran", tasks, ran);
    report("drain, until all are settled and the node has stopped", tasks, begun.elapsed());

    let outbox = Outbox::builder(url).start_blocking()?;
    let (sender, receiver) = mpsc::channel();
    *STARTED.lock().map_err(|_| "a task panicked")? = Some(sender);
    let mut latencies = Vec::new();
    for number in 0..2000 {
        outbox.transaction(&mut conn, |tx| tx.enqueue(arrive(number)))?;
        let committed = Instant::now();
        // A task may start before the committing thread reads its clock.
        latencies.push(receiver.recv_timeout(Duration::from_secs(30))?.saturating_duration_since(committed));
    }
    latencies.sort();
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100].as_secs_f64() * 1000.0;
    println!("commit to start: p50 {:.3} ms, p99 {:.3} ms, most {:.3} ms", at(50), at(99), at(100));
    outbox.shutdown_blocking();
    Ok(())
}

fn report(what: &str, tasks: usize, took: Duration) {
    println!("{what}: {tasks} in {:.2} s, {:.0} per second", took.as_secs_f64(), tasks as f64 / took.as_secs_f64());
}
