//! What a node costs that has nothing to do: statements and processor time.

use std::error::Error;
use std::time::Duration;

use consistency_diesel::prelude::*;
use serde_json::json;

use crate::options::Options;
use crate::{counted, process, report};

/// Longer than the sixty looks with default settings after which a node is at rest.
const UNTIL_REST: Duration = Duration::from_secs(75);

/// Starts a node and watches it.
pub(crate) fn measure(options: &Options) -> Result<String, Box<dyn Error>> {
    let time = options.time.unwrap_or(Duration::from_secs(60));
    let outbox = Outbox::builder(&options.url).migrate().start_blocking()?;
    // Its start is not what idleness costs, nor is the time until it is at rest.
    std::thread::sleep(UNTIL_REST);
    let (sent, used) = (counted::statements(), process::processor_time());
    std::thread::sleep(time);
    let (sent, used) = (counted::statements() - sent, process::processor_time() - used);
    let memory = process::memory_kib();
    outbox.shutdown_blocking();
    let (seconds, used) = (time.as_secs_f64(), used.as_secs_f64());
    let (statements, share) = (sent as f64 / seconds, used / seconds);
    println!(
        "idle for {seconds} s: {statements:.2} statements per second, {:.2} % of a core, {memory} KiB",
        share * 100.0
    );
    let figures = json!({ "statements_per_second": statements, "cores": share, "memory_kib": memory });
    Ok(report::line("idle", options, json!({ "seconds": seconds }), figures))
}
