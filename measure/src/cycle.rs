//! The whole way of a task, once for each: call, row, claim, body, outcome; in one process, to be watched by a tool that counts
//! instructions. It says nothing of time.

use std::error::Error;
use std::sync::mpsc;
use std::time::Duration;

use consistency_diesel::core::event::Event;
use consistency_diesel::prelude::*;
use serde_json::json;

use crate::commits::connect;
use crate::drain_tasks::{noop, payload};
use crate::hand_written::HandWritten;
use crate::options::Options;
use crate::report;

/// Tasks stored in one transaction.
const TOGETHER: usize = 100;
/// Far more than the slowest tool needs for one settlement.
const PATIENCE: Duration = Duration::from_secs(300);

/// Stores the tasks and runs them.
pub(crate) fn measure<C: HandWritten>(options: &Options) -> Result<String, Box<dyn Error>> {
    let tasks = options.tasks.unwrap_or(2000);
    let mut conn = connect::<C>(options)?;
    let store_only = Outbox::builder(&options.url).migrate().enqueue_only().start_blocking()?;
    let note = payload(options.payload);
    for first in (0..tasks).step_by(TOGETHER) {
        store_only.transaction(&mut conn, |tx| {
            let mut numbers = first..(first + TOGETHER).min(tasks);
            numbers.try_for_each(|number| tx.enqueue(noop(number as u64, &note)).map(drop))
        })?;
    }
    let (sender, settled) = mpsc::channel();
    let outbox = Outbox::builder(&options.url).listener(move |event| {
        if matches!(event, Event::Settled { .. }) {
            // The receiver lives until all have come.
            let _ = sender.send(());
        }
    });
    let outbox = outbox.start_blocking()?;
    for _ in 0..tasks {
        settled.recv_timeout(PATIENCE)?;
    }
    outbox.shutdown_blocking();
    Ok(report::line("cycle", options, json!({ "tasks": tasks }), json!({})))
}
