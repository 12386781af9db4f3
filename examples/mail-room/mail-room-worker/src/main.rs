//! Runs the mail room's tasks until it is asked to stop. It knows their names and nothing of their tables.

mod stop;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use consistency_diesel::prelude::*;
// The linker drops a crate that nobody names, and its tasks with it. `Postman` names one of the two; this line the other.
use mail_room_billing as _;
use mail_room_tasks::Postman;

use crate::stop::StopSignals;

/// What this worker is for. A name that no linked crate answers to is an error at start, and not a row that waits for ever.
const TASKS: [&str; 2] = ["letter.charge", "letter.deliver"];

/// Delivers and charges until Ctrl-C or SIGTERM.
#[derive(Debug, Parser)]
#[command(name = "mail-room-worker", version)]
struct Arguments {
    /// sqlite://FILE, postgres://USER@HOST/DATABASE or mysql://USER@HOST/DATABASE.
    #[arg(long, value_name = "URL", default_value = "sqlite://mail-room.db")]
    database_url: String,
    /// Where the postman writes down what he has delivered.
    #[arg(long, value_name = "FILE", default_value = "round-book.txt")]
    round_book: PathBuf,
    /// Tasks at a time.
    #[arg(long, value_name = "N", default_value_t = 8)]
    slots: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { database_url, round_book, slots } = Arguments::parse();
    // Before anything runs: a signal that comes during the start is heard after it.
    let mut stop = StopSignals::listen().context("cannot listen for signals")?;
    let postman = Postman::with_round_book(&round_book)
        .with_context(|| format!("cannot open the round book {}", round_book.display()))?;
    let outbox =
        Outbox::builder(database_url).expect_tasks(TASKS).inject(postman).concurrency(slots).migrate().start().await?;
    println!("started");

    stop.heard().await;
    // What runs is waited for; what has not begun goes back to the table without an attempt.
    outbox.shutdown().await;
    println!("stopped");
    Ok(())
}
