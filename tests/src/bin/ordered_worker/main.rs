//! A worker process for rows of ordering keys: serves the tasks of `tasks.rs` until its standard input closes.
//!
//! `ordered_worker URL ADDRESS LEASE_MS`: the second is what Diesel connects to.

// A panic is how a test speaks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tasks;

use std::time::Duration;

use consistency_core::event::Event;
use consistency_diesel::prelude::{Outbox, Task};
use consistency_tests::chains::Journal;

use crate::tasks::{in_a_future, in_a_thread};

fn main() {
    // Panics of bodies are part of the play.
    std::panic::set_hook(Box::new(|_| {}));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, address, lease_ms] = arguments.as_slice() else { panic!("ordered_worker URL ADDRESS LEASE_MS") };
    let lease = Duration::from_millis(lease_ms.parse().expect("a number"));
    let outbox = Outbox::builder(url.as_str())
        .only([in_a_thread::NAME, in_a_future::NAME])
        .inject(journal(url, address))
        .concurrency(6)
        .poll_interval(Duration::from_millis(20))
        .lease(lease)
        .heartbeat(lease / 4)
        .busy_wait(Duration::from_secs(30))
        .listener(|event| {
            if let Event::StoreTrouble { doing, error } = event {
                println!("trouble: {doing}: {error}");
            }
        })
        .start_blocking()
        .expect("the outbox starts");
    println!("started");
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()).expect("standard input");
    outbox.shutdown_blocking();
}

fn journal(url: &str, address: &str) -> Journal {
    match url.split_once("://").map(|(scheme, _)| scheme) {
        #[cfg(feature = "sqlite")]
        Some("sqlite") => {
            Journal::new::<diesel::SqliteConnection>(address, "PRAGMA busy_timeout = 30000; PRAGMA synchronous = OFF")
        }
        #[cfg(feature = "postgres")]
        Some("postgres") => Journal::new::<diesel::PgConnection>(address, "SELECT 1"),
        #[cfg(feature = "mysql")]
        Some("mysql") => Journal::new::<diesel::MysqlConnection>(address, "DO 1"),
        _ => panic!("no driver for {url} ({address})"),
    }
}
