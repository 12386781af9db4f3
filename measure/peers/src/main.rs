//! Drains no-op tasks with graphile_worker, set up for throughput as its own benchmark is: `measure-peers URL drain --tasks N`.
//!
//! It deletes what is done, and hands out no time-limited leases.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext, WorkerOptions,
};
use serde::{Deserialize, Serialize};

/// Jobs stored with one call.
const TOGETHER: usize = 10_000;
const NOTE: &str = "about a hundred bytes of arguments, as an order with an address and an article number would have";

static RAN: AtomicUsize = AtomicUsize::new(0);

#[derive(Serialize, Deserialize)]
struct Noop {
    number: u64,
    note: String,
}

impl TaskHandler for Noop {
    const IDENTIFIER: &'static str = "noop";

    async fn run(self, _context: WorkerContext) -> impl IntoTaskHandlerResult {
        RAN.fetch_add(1, Ordering::Relaxed);
        Ok::<(), String>(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, what, option, tasks] = arguments.as_slice() else { return Err("usage: URL drain --tasks N".into()) };
    if what != "drain" || option != "--tasks" {
        return Err("usage: URL drain --tasks N".into());
    }
    let tasks: usize = tasks.parse()?;
    let worker = WorkerOptions::default()
        .database_url(url)
        .max_pg_conn(20)
        .concurrency(500)
        .poll_interval(Duration::from_millis(5))
        .complete_job_batch_delay(Duration::from_millis(5))
        .local_queue(LocalQueueConfig::default().with_size(5000))
        .define_job::<Noop>()
        .init()
        .await?;
    let worker = Arc::new(worker);
    let utils = worker.create_utils();
    for first in (0..tasks).step_by(TOGETHER) {
        let jobs = (first..(first + TOGETHER).min(tasks)).map(|number| RawJobSpec {
            identifier: "noop".to_owned(),
            payload: serde_json::json!({ "number": number, "note": NOTE }),
            spec: JobSpec::default(),
        });
        utils.add_raw_jobs(&jobs.collect::<Vec<_>>()).await?;
    }
    let begun = Instant::now();
    let running = tokio::spawn({
        let worker = Arc::clone(&worker);
        async move { worker.run().await.map_err(|error| error.to_string()) }
    });
    while RAN.load(Ordering::Relaxed) < tasks {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    worker.request_shutdown();
    running.await??;
    let rate = (tasks as f64 / seconds).round();
    println!("{}", serde_json::json!({ "name": "drain", "figures": { "run_per_second": rate } }));
    Ok(())
}
