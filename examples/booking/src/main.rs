//! Books a room, lets the guest go, and waits for the mail: the service with an outbox that runs tasks by itself.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context, Result};
use booking::mail::{Mailer, PrintingMailer};
use booking::schema::TABLES;
use booking::service::{book, check_out};
use consistency_diesel::core::event::Event;
use consistency_diesel::prelude::*;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;

/// What a stay leaves to do: the confirmation, the credit, and the mail about it.
const TASKS: usize = 3;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let room = arguments.next().map_or(Ok(101), |room| room.parse()).context("usage: booking [ROOM [NIGHT]]")?;
    let night = arguments.next().unwrap_or_else(|| "2026-12-24".to_owned());

    let mailer: Arc<dyn Mailer> = Arc::new(PrintingMailer);
    let (sender, settled) = mpsc::channel();
    let outbox = Outbox::builder("sqlite://booking.db")
        .inject(mailer)
        .listener(move |event| {
            if matches!(event, Event::Settled { .. }) {
                // Who waited no longer does.
                let _ = sender.send(());
            }
        })
        .migrate()
        .start_blocking()?;
    let mut conn = SqliteConnection::establish("booking.db")?;
    conn.batch_execute("PRAGMA busy_timeout = 10000;")?;
    conn.batch_execute(TABLES)?;

    book(&mut conn, &outbox, room, &night, "ann@example.org")?;
    check_out(&mut conn, &outbox, room, &night)?;
    for _ in 0..TASKS {
        settled.recv_timeout(Duration::from_secs(10)).context("what is missing comes with the next start")?;
    }
    outbox.shutdown_blocking();
    Ok(())
}
