//! Texts made to break out of SQL, JSON or a placeholder come back as they were, wherever a caller may put one.
//!
//! `CONSISTENCY_TEST_SEED` repeats a run; `CONSISTENCY_TEST_LONG=1` makes many of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::length::is_long;
use consistency_tests::recorder::Recorder;
use consistency_tests::scene::{Probe, store_all};
use consistency_tests::seed::seed;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// What hostile texts are made of.
const PIECES: [&str; 48] = [
    "'",
    "''",
    "\"",
    "\\",
    "\\'",
    "\\\\",
    "`",
    "{",
    "}",
    "{}",
    "{rows}",
    "{task_id}",
    "{{rows}}",
    "${x}",
    "#{y}",
    "--",
    "/*",
    "*/",
    ";",
    "#",
    "$1",
    "?",
    "?1",
    ":name",
    "@p",
    "%s",
    "%",
    "_",
    "\\u0000",
    "\\x00",
    "\\0",
    "NULL",
    "null",
    "' OR '1'='1",
    "'; DROP TABLE consistency_task; --",
    "\"}]",
    "[{\"",
    "\u{1f680}",
    "\u{e4}",
    "e\u{301}",
    "\u{202e}",
    "\u{feff}",
    "\u{fffe}",
    "\u{7f}",
    "\u{1b}[31m",
    "\n",
    "\t",
    " ",
];

/// Words in `{}` that statements really ask for stand in the name too.
#[consistency_task(
    name = "hostile'; DROP TABLE consistency_task; -- {rows} {names} \" \\ /* ? $1 :a %s `",
    retry_every = "1h"
)]
fn echo(
    text: String,
    map: BTreeMap<String, String>,
    error: &str,
    #[context] cx: &TaskContext,
    #[inject] probe: &Arc<Probe>,
) -> Result<(), String> {
    probe.note(format!("{text:?} {map:?} {:?} {:?}", cx.task_id(), cx.node()));
    probe.go.wait_for(1);
    Err(error.to_owned())
}

/// The texts of one call.
struct Texts {
    argument: String,
    key: String,
    order_key: String,
    queue: String,
    biz: (String, String),
    title: String,
    error: String,
}

/// Up to `pieces` pieces, no longer than a column of `most` characters takes, as the checks of a call want it.
fn text(random: &mut StdRng, pieces: usize, most: usize) -> String {
    let count = random.random_range(1..=pieces);
    let long: String = (0..count).filter_map(|_| PIECES.choose(random)).copied().collect();
    let cut: String = long.chars().take(most).collect();
    if cut.trim().is_empty() { "'".to_owned() } else { cut.trim().to_owned() }
}

impl Texts {
    fn random(random: &mut StdRng, number: usize) -> Texts {
        // The number at the end keeps them apart.
        let mut unique = |most: usize| format!("{}{number}", text(random, 30, most - 8));
        let (key, order_key, queue) = (unique(500), unique(100), unique(100));
        let with_nul = |random: &mut StdRng, most: usize| format!("\0{}\0", text(random, 60, most - 2));
        Texts {
            key,
            order_key,
            queue,
            argument: with_nul(random, 10_000),
            biz: (text(random, 12, 100), text(random, 12, 100)),
            title: with_nul(random, 1000),
            error: with_nul(random, 10_000),
        }
    }

    fn map(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(self.argument.clone(), self.key.clone()), (self.error.clone(), self.argument.clone())])
    }

    fn call(&self) -> Call {
        let call = echo(self.argument.clone(), self.map(), &self.error).key(&self.key).ordered_by(&self.order_key);
        call.queue(&self.queue).biz(&self.biz.0, &self.biz.1).title(&self.title)
    }
}

fn play(database: &Database, random: &mut StdRng, store_all: impl Fn(&Outbox, Vec<Call>) -> Vec<String>) {
    const CALLS: usize = 6;
    let (recorder, probe) = (Recorder::new(), Probe::new());
    let all: Vec<Texts> = (0..CALLS).map(|number| Texts::random(random, number)).collect();
    let node = text(random, 20, 50);
    let mut builder =
        database.outbox().only([echo::NAME]).node(&node).inject(Arc::clone(&probe)).listener(recorder.listener());
    for texts in &all {
        builder = builder.queue(&texts.queue, 1);
    }
    let outbox = builder.start_blocking().unwrap();
    let ids = store_all(&outbox, all.iter().map(Texts::call).collect());
    assert_eq!(ids, all.iter().map(|texts| texts.key.clone()).collect::<Vec<_>>());
    // Every one of them a second time: found again under its key.
    let receipts: Vec<_> = all.iter().map(|texts| outbox.status_blocking(&texts.key).unwrap().unwrap()).collect();
    assert_eq!(receipts.iter().map(|status| &status.task_id).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());

    probe.wait_for_notes(CALLS);
    let running = database.rows("1 = 1");
    assert_eq!(running.len(), CALLS);
    for (row, texts) in running.iter().zip(&all) {
        assert_eq!(
            (&row.task_id, &row.queue, row.order_key.as_ref()),
            (&texts.key, &texts.queue, Some(&texts.order_key))
        );
        assert_eq!((row.method_name.as_str(), row.state()), (echo::NAME, State::Running));
        let owner = row.lease_owner.as_ref().unwrap();
        assert!(owner.starts_with(&format!("{node}-")), "{owner} {node}");
        let note = format!("{:?} {:?} {:?} {owner:?}", texts.argument, texts.map(), texts.key);
        assert_eq!(probe.count(&note), 1, "{note}");
        let meta: serde_json::Value = serde_json::from_str(row.meta.as_ref().unwrap()).unwrap();
        assert_eq!(meta["title"], texts.title);
    }
    let column = |name: &str| database.texts(&format!("SELECT {name} AS value FROM consistency_task ORDER BY id"));
    assert_eq!(column("biz_type"), all.iter().map(|texts| texts.biz.0.clone()).collect::<Vec<_>>());
    assert_eq!(column("biz_id"), all.iter().map(|texts| texts.biz.1.clone()).collect::<Vec<_>>());

    probe.go.raise();
    recorder.wait_for_count(CALLS, State::Failed);
    outbox.shutdown_blocking();
    let errors: Vec<String> = database.rows("1 = 1").into_iter().filter_map(|row| row.error_message).collect();
    assert_eq!(errors, all.iter().map(|texts| texts.error.replace('\0', "\u{fffd}")).collect::<Vec<_>>());
    database.execute("DELETE FROM consistency_task");
}

for_each_database! {
    fn hostile_texts_come_back_from_every_place_a_caller_may_put_them(database: &Database) {
        let mut random = StdRng::seed_from_u64(seed(module_path!()));
        for _ in 0..if is_long() { 200 } else { 5 } {
            play(database, &mut random, |outbox, calls| store_all::<Conn>(database, outbox, calls));
        }
    }
}
