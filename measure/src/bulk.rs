//! Many tasks stored in one transaction.

use std::error::Error;
use std::time::Instant;

use consistency_diesel::prelude::*;
use serde_json::json;

use crate::commits::connect;
use crate::costs::Costs;
use crate::drain_tasks::{noop, payload};
use crate::hand_written::{HandWritten, stored};
use crate::options::{By, Options};
use crate::report::{line, per_second};

/// Stores them once to be warm, and once more to be measured.
pub(crate) fn measure<C: HandWritten>(options: &Options) -> Result<String, Box<dyn Error>> {
    let tasks = options.tasks.unwrap_or(20_000);
    let outbox = Outbox::builder(&options.url).migrate().enqueue_only().start_blocking()?;
    let mut conn = connect::<C>(options)?;
    conn.make_tables()?;
    store(&mut conn, options, &outbox, tasks / 10)?;
    let before = Costs::of(&mut conn)?;
    let begun = Instant::now();
    store(&mut conn, options, &outbox, tasks)?;
    let seconds = begun.elapsed().as_secs_f64();
    let costs = Costs::of(&mut conn)?.since(&before, tasks);
    let (rows, wanted) = (stored(&mut conn, options.by)?, tasks + tasks / 10);
    if rows != wanted {
        return Err(format!("{rows} rows were stored, not {wanted}").into());
    }
    println!("{tasks} in {seconds:.3} s, {} per second", per_second(tasks, seconds));
    let settings = json!({ "by": options.by.name(), "tasks": tasks, "payload": options.payload });
    Ok(line("bulk", options, settings, json!({ "per_second": per_second(tasks, seconds), "costs": costs })))
}

fn store<C: HandWritten>(
    conn: &mut C,
    options: &Options,
    outbox: &Outbox,
    tasks: usize,
) -> Result<(), diesel::result::Error> {
    let note = payload(options.payload);
    if options.by == By::Outbox {
        return outbox.transaction(conn, |tx| {
            (0..tasks).try_for_each(|number| tx.enqueue(noop(number as u64, &note)).map(drop))
        });
    }
    let payloads = vec![note; tasks];
    conn.transaction(|conn| conn.insert_tasks(&payloads))
}
