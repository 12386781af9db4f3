//! Every store behaves as the model of the state machine: after every operation of random sequences, and, in memory, after
//! every order of operations up to a depth. Without the fence it is noticed.

use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::length::is_long;
use consistency_tests::memory_store::MemoryStore;
use consistency_tests::model::bench::{Bench, DatabaseBench};
use consistency_tests::model::draft::{Draft, drafts};
use consistency_tests::model::operation::Stored;
use consistency_tests::model::play::Play;
use consistency_tests::model::row::{Due, Node};
use consistency_tests::model::search::search;
use consistency_tests::seed::runner;
use consistency_tests::store_under_test::DatabaseStore;
#[cfg(feature = "async")]
use consistency_tests::{async_stage::on_a_plain_thread, for_each_async_database};
use proptest::test_runner::{TestCaseError, TestError};

/// Most operations of a random sequence.
const LONGEST: usize = 60;

/// Plays one sequence.
fn play<B: Bench>(bench: B, drafts: &[Draft]) -> Result<(), String> {
    let mut play = Play::new(bench);
    let mut last = None;
    for draft in drafts {
        if let Some(operation) = draft.fit(&play.model, last.as_ref()) {
            play.step(&operation)?;
            last = Some(operation);
        }
    }
    Ok(())
}

/// Plays `cases` random sequences, each on what `bench` gives; fails with the shortest trace it can find.
fn play_many<B: Bench>(test: &str, cases: u32, bench: impl Fn() -> B) {
    let played =
        runner(test, cases).run(&drafts(LONGEST), |drafts| play(bench(), &drafts).map_err(TestCaseError::fail));
    if let Err(error) = played {
        panic!("{test}: {}", trace(error));
    }
}

/// What a play said of the shortest sequence that fails; the drafts it was made from would only hide it.
fn trace(error: TestError<Vec<Draft>>) -> String {
    match error {
        TestError::Fail(reason, _) | TestError::Abort(reason) => reason.message().to_owned(),
    }
}

fn cases() -> u32 {
    if is_long() { 5_000 } else { 100 }
}

fn play_on(test: &str, database: &Database, store: DatabaseStore<'_>) {
    let bench = DatabaseBench::new(database, store);
    play_many(test, cases(), || {
        bench.clear();
        &bench
    });
}

for_each_database! {
    fn after_every_operation_the_table_is_the_models(database: &Database) {
        play_on(module_path!(), database, DatabaseStore::open::<Conn>(database));
    }
}

#[cfg(feature = "async")]
for_each_async_database! {
    async fn after_every_operation_the_table_is_the_models(database: &Database) {
        on_a_plain_thread(|| play_on(module_path!(), database, DatabaseStore::open_async::<Conn>(database)));
    }
}

mod memory {
    use super::*;

    #[test]
    fn after_every_operation_the_table_is_the_models() {
        play_many(module_path!(), 10 * cases(), MemoryStore::new);
    }
}

fn waiting(since: u8, key: Option<u8>, most: Option<i64>) -> Stored {
    Stored { leased_to: None, due: Due::Since(since), key, most }
}

fn leased(most: Option<i64>) -> Stored {
    Stored { leased_to: Some(Node::A), due: Due::Lately, key: None, most }
}

/// The pairs of rows that are searched.
fn pairs() -> [(&'static str, [Stored; 2]); 3] {
    [
        ("two of one ordering key", [waiting(0, Some(0), Some(2)), waiting(1, Some(0), None)]),
        ("one handed over, one waiting", [leased(Some(1)), waiting(0, None, Some(2))]),
        ("two handed over", [leased(None), leased(Some(2))]),
    ]
}

#[test]
fn no_order_of_operations_breaks_an_invariant() {
    let depth = if is_long() { 6 } else { 5 };
    for (what, rows) in pairs() {
        let found = search(&MemoryStore::new(), &rows, depth).unwrap_or_else(|trace| panic!("{what}: {trace}"));
        println!("{what}: {} states, {} transitions, depth {depth}", found.states, found.transitions);
        assert!(found.states > 1_000, "a search that sees {} states shows little", found.states);
    }
}

#[test]
fn without_the_fence_the_search_finds_who_writes_past_it() {
    for (what, rows) in pairs() {
        let trace = search(&MemoryStore::without_fence(), &rows, 6).expect_err("a missing fence is noticed");
        println!("{what}: {trace}");
        assert!(trace.contains("it was changed by a node that does not hold it"), "{trace}");
        assert!(trace.contains("-> "), "{trace}");
    }
}

#[test]
fn without_the_fence_random_sequences_find_it_too() {
    let found = runner("without_the_fence", 2_000)
        .run(&drafts(LONGEST), |drafts| play(MemoryStore::without_fence(), &drafts).map_err(TestCaseError::fail));
    let trace = trace(found.expect_err("a missing fence is noticed"));
    println!("{trace}");
    assert!(trace.contains("it was changed by a node that does not hold it"), "{trace}");
}
