//! A process that drains: runs what waits until its standard input ends, and tells how far it is.

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use consistency_diesel::prelude::*;
use serde_json::json;

use crate::commits::connect;
use crate::hand_written::{Finish, HandWritten};
use crate::options::{By, Options};
use crate::{counted, drain_tasks, process};

/// Rows of a claim by hand.
const BATCH: i64 = 1000;
/// How often it tells.
const TELLS: Duration = Duration::from_millis(2);
/// After how many times it looks at its memory.
const SAMPLE: usize = 100;

/// Starts, and runs until it is to stop.
pub(crate) fn run<C: HandWritten>(options: &Options) -> Result<(), Box<dyn Error>> {
    drain_tasks::wait_in_each(options.body);
    let stops = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stops);
    std::thread::spawn(move || {
        // Whatever the end of the input looks like, it is one.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        stop.store(true, Ordering::Release);
    });
    tell("begins")?;
    let memory = match options.by {
        By::Hand | By::HandDeleting => {
            let teller = std::thread::spawn(move || watch(&stops).map_err(|error| error.to_string()));
            let how = if options.by == By::Hand { Finish::Update } else { Finish::Delete };
            by_hand::<C>(options, how, || teller.is_finished())?;
            teller.join().map_err(|_| "the telling thread panicked")??
        }
        _ => {
            let outbox = Outbox::builder(&options.url).start_blocking()?;
            let memory = watch(&stops)?;
            outbox.shutdown_blocking();
            memory
        }
    };
    tell(&drain_tasks::ran().to_string())?;
    let most = process::most_memory_kib();
    tell(&json!({ "memory_kib": memory, "most_memory_kib": most, "statements": counted::statements() }).to_string())
}

/// Tells how many have run until the process is to stop; its memory meanwhile.
fn watch(stops: &AtomicBool) -> Result<Vec<u64>, Box<dyn Error>> {
    let (mut told, mut times, mut memory) = (0, 0, Vec::new());
    while !stops.load(Ordering::Acquire) {
        let ran = drain_tasks::ran();
        if ran > told {
            tell(&ran.to_string())?;
            told = ran;
        }
        if times % SAMPLE == 0 {
            memory.push(process::memory_kib());
        }
        times += 1;
        std::thread::sleep(TELLS);
    }
    Ok(memory)
}

/// One connection, batch after batch, as the peers were measured.
fn by_hand<C: HandWritten>(options: &Options, how: Finish, is_over: impl Fn() -> bool) -> Result<(), Box<dyn Error>> {
    let mut conn = connect::<C>(options)?;
    while !is_over() {
        let claimed = conn.claim(BATCH)?;
        if claimed.is_empty() {
            std::thread::sleep(TELLS);
            continue;
        }
        let bytes: usize = claimed.iter().map(|claimed| claimed.payload.len()).sum();
        std::hint::black_box(bytes);
        let ids: Vec<i64> = claimed.iter().map(|claimed| claimed.id).collect();
        conn.finish(&ids, how)?;
        drain_tasks::count(ids.len());
    }
    Ok(())
}

fn tell(news: &str) -> Result<(), Box<dyn Error>> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{news}")?;
    output.flush()?;
    Ok(())
}
