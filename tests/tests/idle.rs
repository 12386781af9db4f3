//! What an idle node costs: a bounded number of statements, whatever lies in the table that it cannot run.

use std::collections::HashMap;
use std::time::Duration;

use consistency_core::event::Event;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::bulk::Bulk;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::length::is_long;
use consistency_tests::recorder::Recorder;
use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};
use parking_lot::Mutex;

#[consistency_task]
async fn nothing() {}

/// The statements of every connection of this process, by the address it was opened at.
static SENT: Mutex<Option<HashMap<String, usize>>> = Mutex::new(None);

/// Counts what one connection sends. Statements sent before its address is known are those of its own set-up.
#[derive(Debug, Default)]
struct Counter {
    address: String,
}

impl Instrumentation for Counter {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartEstablishConnection { url, .. } => self.address = url.to_owned(),
            InstrumentationEvent::StartQuery { .. } => {
                *SENT.lock().get_or_insert_default().entry(self.address.clone()).or_default() += 1;
            }
            _ => {}
        }
    }
}

fn counter() -> Option<Box<dyn Instrumentation>> {
    Some(Box::new(Counter::default()))
}

fn sent_to(database: &Database) -> usize {
    let sent = SENT.lock();
    // diesel-async does not tell the address of a PostgreSQL connection whose client was made apart.
    let is_its = |address: &str| match address {
        "" => database.backend() == Backend::Postgres,
        _ => address.contains(database.address()),
    };
    let to_it = sent.iter().flatten().filter(|(address, _)| is_its(address));
    to_it.map(|(_, count)| count).sum()
}

/// How long the nodes are watched, in poll intervals of 200 ms.
fn intervals() -> u32 {
    if is_long() { 300 } else { 15 }
}

for_each_database! {
    fn an_idle_node_sends_a_few_statements_per_poll_interval(database: &Database) {
        set_default_instrumentation(counter).unwrap();
        let (recorder, poll) = (Recorder::new(), Duration::from_millis(200));
        database.migrate();
        // Due for months, and nobody's here; due in a month; dead. None of them may have it look more often.
        Bulk::due("unknown", "gone::somewhere", 500).load(database);
        Bulk { seconds: 30 * 86_400, ..Bulk::due("later", nothing::NAME, 500) }.load(database);
        Bulk { state: 4, ..Bulk::due("dead", nothing::NAME, 500) }.load(database);
        let builder = database.outbox().only([nothing::NAME]).poll_interval(poll).listener(recorder.listener());
        let outbox = builder.start_blocking().unwrap();
        let unknown = |event: &Event| matches!(event, Event::UnknownNames { .. });
        recorder.wait_for("the node to have looked", |events| events.iter().any(unknown));
        let before = sent_to(database);
        // The watch itself is what takes its time.
        std::thread::sleep(poll * intervals());
        let sent = sent_to(database) - before;
        outbox.shutdown_blocking();
        // A look, and a claim that finds nothing because nobody here knows the names of what is due, which MySQL's takes three
        // statements for; a test of each connection taken; and what an interval has shorter by chance.
        let most = 7 * intervals() as usize + 10;
        eprintln!("{BACKEND}: {sent} statements in {} poll intervals", intervals());
        assert!((1..=most).contains(&sent), "{sent} statements in {} poll intervals", intervals());
    }
}
