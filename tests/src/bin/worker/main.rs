//! A worker process: serves the tasks of `tasks.rs` until its standard input closes.
//!
//! `worker URL [slots=N] [batch=N] [lease_ms=N] [stay]`

// A panic is how a test speaks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tasks;

use std::time::{Duration, SystemTime};

use consistency_core::event::Event;
use consistency_diesel::prelude::{Outbox, Task};
use consistency_tests::effects::Effects;

use crate::tasks::{Staying, abort_process, fail_once, linger, record, record_later, stay};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("the database's URL");
    let rest: Vec<String> = arguments.collect();
    let value = |name: &str| rest.iter().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='));
    let number = |name: &str, default: u64| value(name).map_or(default, |text| text.parse().expect("a number"));
    let lease = Duration::from_millis(number("lease_ms", 10_000));

    let outbox = Outbox::builder(url.as_str())
        .only([record::NAME, stay::NAME, abort_process::NAME, fail_once::NAME, linger::NAME, record_later::NAME])
        .inject(Effects::new(&url))
        .inject(Staying(rest.iter().any(|argument| argument == "stay")))
        .concurrency(usize::try_from(number("slots", 8)).expect("a number of slots"))
        .claim_batch(usize::try_from(number("batch", 1000)).expect("a number of rows"))
        .poll_interval(Duration::from_millis(50))
        .lease(lease)
        .heartbeat(lease / 4)
        .busy_wait(Duration::from_secs(30))
        .shutdown_grace(Duration::from_secs(10))
        .listener(say_trouble)
        .start_blocking()
        .expect("the outbox starts");
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
    println!("clock {}", clock.as_secs());
    println!("started");
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()).expect("standard input");
    outbox.shutdown_blocking();
    println!("stopped");
}

/// Prints what an undisturbed run must not meet.
fn say_trouble(event: &Event) {
    match event {
        Event::StoreTrouble { doing, error } => println!("trouble: {doing}: {error}"),
        Event::SettleRefused { error, .. } => println!("trouble: refused: {error}"),
        Event::LeaseLost { attempt } => println!("trouble: lease lost: {attempt:?}"),
        Event::Rescued { id, state, lost_times, .. } => println!("rescued {id} {state} {lost_times}"),
        Event::Settled { attempt, error: Some(error), .. } => println!("trouble: {} failed: {error}", attempt.name),
        _ => {}
    }
}
