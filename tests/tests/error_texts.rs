//! Error texts of any size, depth and content are stored whole or cut, within a bounded time, and never stop an outbox.

use std::error::Error as StdError;
use std::fmt;

use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::length::is_long;
use consistency_tests::recorder::Recorder;
use consistency_tests::scene::{store, store_all};

const LIMIT: usize = 16 << 10;

/// Size of the largest error, in bytes.
fn huge() -> usize {
    if is_long() { 100_000_000 } else { 20_000_000 }
}

/// An error with sources behind it.
#[derive(Debug)]
struct Link {
    text: String,
    behind: Behind,
}

#[derive(Debug)]
enum Behind {
    Nothing,
    Itself,
    Another(Box<Link>),
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Link {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.behind {
            Behind::Nothing => None,
            Behind::Itself => Some(self),
            Behind::Another(link) => Some(&**link),
        }
    }
}

/// Fails in the way `kind` says.
#[consistency_task(name = "error_texts.fails", retry_every = "1h")]
fn fails(kind: &str) -> Result<(), Link> {
    let alone = |text: String| Link { text, behind: Behind::Nothing };
    Err(match kind {
        "multi-byte" => alone("a\u{e4}\u{8ba2}\u{1f680}".repeat(huge() / 10)),
        "nul" => alone("\0".repeat(100_000)),
        "noncharacters" => alone("\u{fffe}\u{ffff}\u{10ffff}\u{202e}\u{feff}\u{1}\u{7f}".to_owned()),
        // Without the hook, which would print it.
        "panic" => std::panic::resume_unwind(Box::new("\u{1f680}".repeat(huge() / 4))),
        "circle" => Link { text: "round".to_owned(), behind: Behind::Itself },
        "large sources" => (0..4).fold(alone("last".to_owned()), |inner, number| Link {
            text: format!("{number} {}", "x".repeat(huge() / 4)),
            behind: Behind::Another(Box::new(inner)),
        }),
        _ => (0..10_000).fold(alone("last".to_owned()), |inner, number| Link {
            text: format!("source {number}"),
            behind: Behind::Another(Box::new(inner)),
        }),
    })
}

#[consistency_task(name = "error_texts.reads")]
fn reads(text: String) {
    drop(text);
}

for_each_database! {
    fn however_large_and_deep_an_error_is_what_is_stored_is_bounded(database: &Database) {
        let recorder = Recorder::new();
        let outbox = database.outbox().only([fails::NAME]).concurrency(1).listener(recorder.listener()).start_blocking().unwrap();
        let stored = |kind: &str| {
            let task_id = store::<Conn>(database, &outbox, fails(kind));
            recorder.wait_for_settled(&task_id, State::Failed);
            let error = database.row(&task_id).error_message.unwrap();
            assert!(error.len() <= LIMIT, "{kind}: {} bytes", error.len());
            error
        };
        for kind in ["multi-byte", "panic", "large sources", "nul"] {
            let error = stored(kind);
            assert!(error.ends_with(" [cut]") && error.len() > LIMIT - 10, "{kind}: {} bytes", error.len());
        }
        assert!(stored("nul").starts_with("\u{fffd}\u{fffd}"));
        assert_eq!(stored("noncharacters"), "\u{fffe}\u{ffff}\u{10ffff}\u{202e}\u{feff}\u{1}\u{7f}");
        assert_eq!(stored("circle"), "round\ncaused by further sources, which are left out");
        let deep = stored("deep");
        assert!(deep.starts_with("source 9999\ncaused by: source 9998\ncaused by: ") && deep.ends_with(" [cut]"), "{deep}");
        outbox.shutdown_blocking();
    }

    fn an_error_for_a_test_is_cleaned_as_well(database: &Database) {
        database.migrate();
        let outbox = Outbox::for_test::<Conn>().only([fails::NAME]).build().unwrap();
        let mut conn = database.connection::<Conn>();
        outbox.transaction(&mut conn, |tx| tx.enqueue(fails("nul"))).unwrap();
        let report = outbox.run_pending(&mut conn).unwrap();
        assert!(report.failures[0].1.starts_with("\u{fffd}") && report.failures[0].1.len() <= LIMIT);
    }

    fn half_a_character_in_stored_arguments_makes_that_row_dead_and_no_other(database: &Database) {
        let recorder = Recorder::new();
        database.migrate();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let ids = store_all::<Conn>(database, &elsewhere, (0..3).map(|number| reads(format!("{number}"))));
        // On MySQL a backslash in a literal is one only when doubled.
        let lone = if BACKEND == consistency_tests::backend::Backend::Mysql { "\\\\ud800" } else { "\\ud800" };
        database.execute(&format!("UPDATE consistency_task SET task_parameter = '{{\"text\":\"{lone}\"}}' WHERE task_id = '{}'", ids[1]));
        let outbox = database.outbox().only([reads::NAME]).listener(recorder.listener()).start_blocking().unwrap();
        recorder.wait_for_settled(&ids[1], State::Dead);
        recorder.wait_for_count(2, State::Succeeded);
        let error = database.row(&ids[1]).error_message.unwrap();
        assert!(error.contains("parameter `text`: ") && error.contains("escape"), "{error}");
        outbox.shutdown_blocking();
    }
}
