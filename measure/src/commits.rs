//! Committed transactions of one business row and one task each: per second, and how long one takes.

use std::error::Error;
use std::sync::Barrier;
use std::time::Instant;

use consistency_diesel::prelude::*;
use serde_json::json;

use crate::costs::Costs;
use crate::drain_tasks::{noop, payload};
use crate::hand_written::{HandWritten, stored};
use crate::options::{By, Options};
use crate::report::{line, per_second, percentiles};

/// Makes the tables, then commits.
pub(crate) fn measure<C: HandWritten>(options: &Options) -> Result<String, Box<dyn Error>> {
    let (tasks, producers) = (options.tasks.unwrap_or(5_000), options.producers_or(1));
    // Nobody runs them: what is measured is the price of the commit.
    let outbox = Outbox::builder(&options.url).migrate().enqueue_only().start_blocking()?;
    let mut conn = connect::<C>(options)?;
    conn.make_tables()?;
    let before = Costs::of(&mut conn)?;
    let (seconds, times) = match options.by {
        #[cfg(feature = "async-postgres")]
        By::AsyncOutbox if options.database() == "postgres" => crate::commits_async::commit(options, tasks, producers)?,
        By::AsyncOutbox => return Err("`--by async-outbox` needs PostgreSQL and `--features async-postgres`".into()),
        _ => commit::<C>(options, &outbox, tasks, producers)?,
    };
    let costs = Costs::of(&mut conn)?.since(&before, tasks);
    let rows = stored(&mut conn, options.by)?;
    if rows != tasks {
        return Err(format!("{rows} rows were stored, not {tasks}").into());
    }
    println!("{} in {seconds:.2} s, {} per second", tasks, per_second(tasks, seconds));
    let figures = json!({
        "per_second": per_second(tasks, seconds), "commit_ms": percentiles("transaction", times), "costs": costs,
    });
    let settings = json!({
        "by": options.by.name(), "tasks": tasks, "connections": producers, "payload": options.payload,
        "synchronous": options.synchronous,
    });
    Ok(line("commits", options, settings, figures))
}

/// A connection of the application's own.
pub(crate) fn connect<C: HandWritten>(options: &Options) -> Result<C, Box<dyn Error>> {
    let mut conn = C::establish(options.address())?;
    conn.set_up(&options.synchronous)?;
    Ok(conn)
}

/// Commits so many on so many connections; the seconds that took, and each one's milliseconds.
fn commit<C: HandWritten>(
    options: &Options,
    outbox: &Outbox,
    tasks: usize,
    producers: usize,
) -> Result<(f64, Vec<f64>), Box<dyn Error>> {
    let ready = Barrier::new(producers + 1);
    let note = payload(options.payload);
    let produce = |first: usize| -> Result<Vec<f64>, String> {
        let conn = connect::<C>(options).map_err(|error| error.to_string());
        ready.wait();
        let mut conn = conn?;
        let mut times = Vec::new();
        for number in (first..tasks).step_by(producers) {
            let begun = Instant::now();
            one(&mut conn, options.by, outbox, number, &note).map_err(|error| error.to_string())?;
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(times)
    };
    std::thread::scope(|scope| {
        let produce = &produce;
        let threads: Vec<_> = (0..producers).map(|first| scope.spawn(move || produce(first))).collect();
        ready.wait();
        let begun = Instant::now();
        let mut times = Vec::with_capacity(tasks);
        for thread in threads {
            times.extend(thread.join().map_err(|_| "a producer panicked")??);
        }
        Ok((begun.elapsed().as_secs_f64(), times))
    })
}

fn one<C: HandWritten>(
    conn: &mut C,
    by: By,
    outbox: &Outbox,
    number: usize,
    note: &str,
) -> Result<(), diesel::result::Error> {
    let key = number as i64;
    if by == By::Outbox {
        return outbox.transaction(conn, |tx| {
            tx.insert_business(key)?;
            tx.enqueue(noop(number as u64, note)).map(drop)
        });
    }
    conn.transaction(|conn| {
        conn.insert_business(key)?;
        if by == By::Business { Ok(()) } else { conn.insert_task(note) }
    })
}
