//! Ordering keys when much goes wrong: killed processes, random failures, producers of both worlds, and thousands of rows held
//! up. The order of each key is exact throughout, and other keys flow.

#[path = "../src/bin/ordered_worker/tasks.rs"]
mod ordered_tasks;

use std::sync::Arc;
use std::time::{Duration, Instant};

use consistency_core::call::Call;
use consistency_core::new_task::NewTask;
use consistency_core::state::State;
use consistency_core::store::{ClaimRequest, Share};
use consistency_diesel::outbox::Outbox;
use consistency_diesel::prelude::*;
use consistency_diesel::store_access;
use consistency_tests::backend::Backend;
use consistency_tests::chains::{check, create_tables, note_commit};
use consistency_tests::contract::steps::{NAME, due_since};
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::length::is_long;
use consistency_tests::recorder::{Recorder, wait_until};
use consistency_tests::scene::{Probe, now, store, store_all};
use consistency_tests::seed::seed;
use consistency_tests::worker_process::WorkerProcess;
use diesel::connection::SimpleConnection;
use diesel::result::Error;
use ordered_tasks::{in_a_future, in_a_thread};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const WORKER: &str = env!("CARGO_BIN_EXE_ordered_worker");
/// Long enough that a process that gets little of the machine does not lose its rows, short enough to wait for.
const LEASE_MS: &str = "4000";

/// The call of one row: in a thread or in a future, with the policy its chain is named for.
fn call(seed: u64, chain: &str, number: i64) -> Call {
    let call = if number % 2 == 0 { in_a_thread(seed, chain, number) } else { in_a_future(seed, chain, number) };
    let policy = match chain.split('-').next() {
        Some("park") => WhenDead::Park,
        Some("skip") => WhenDead::Skip,
        _ => WhenDead::Block,
    };
    call.ordered_by(chain).when_dead(policy)
}

/// Stores the rows of one blocking producer, a transaction each; some roll back.
fn produce<C>(database: &Database, outbox: &Outbox, seed: u64, numbers: impl Iterator<Item = i64>, chains: &[String])
where
    C: consistency_diesel::blocking_connection::BlockingConnection,
{
    let mut dice = StdRng::seed_from_u64(seed);
    let mut conn = database.connection::<C>();
    for number in numbers {
        let chain = &chains[dice.random_range(0..chains.len())];
        let rolls_back = dice.random_range(0..10) == 0;
        let stored = outbox.transaction(&mut conn, |tx| {
            tx.enqueue(call(seed, chain, number))?;
            // Whoever comes next in the wrong way has time to overtake.
            std::thread::yield_now();
            for statement in note_commit(chain, number) {
                tx.batch_execute(&statement)?;
            }
            if rolls_back { Err(Error::RollbackTransaction) } else { Ok(()) }
        });
        assert_eq!(stored.is_err(), rolls_back, "{stored:?}");
    }
}

/// The same for a producer on diesel-async. Stamped, because `TaskTx` runs Diesel's statements on connections it knows.
#[cfg(feature = "async")]
macro_rules! async_producer {
    ($name:ident, $feature:literal, $connection:ty) => {
        #[cfg(feature = $feature)]
        async fn $name(
            database: &Database,
            outbox: &Outbox,
            seed: u64,
            numbers: std::ops::Range<i64>,
            chains: &[String],
        ) {
            use consistency_diesel::async_prelude::AsyncTransact;
            use diesel_async::SimpleAsyncConnection;

            let mut dice = StdRng::seed_from_u64(seed);
            let mut conn = database.async_connection::<$connection>().await;
            for number in numbers {
                let chain = &chains[dice.random_range(0..chains.len())];
                let rolls_back = dice.random_range(0..10) == 0;
                let stored = AsyncTransact::transaction(outbox, &mut conn, async |tx| {
                    tx.enqueue(call(seed, chain, number)).await?;
                    tokio::task::yield_now().await;
                    for statement in note_commit(chain, number) {
                        tx.batch_execute(&statement).await?;
                    }
                    if rolls_back { Err(Error::RollbackTransaction) } else { Ok(()) }
                });
                let stored = stored.await;
                assert_eq!(stored.is_err(), rolls_back, "{stored:?}");
            }
        }
    };
}

#[cfg(feature = "async")]
async_producer!(
    on_sqlite,
    "async-sqlite",
    diesel_async::sync_connection_wrapper::SyncConnectionWrapper<diesel::SqliteConnection>
);
#[cfg(feature = "async")]
async_producer!(on_postgres, "async-postgres", diesel_async::AsyncPgConnection);
#[cfg(feature = "async")]
async_producer!(on_mysql, "async-mysql", diesel_async::AsyncMysqlConnection);

/// How many rows are through: succeeded, parked or skipped.
fn through(database: &Database) -> i64 {
    database.count("consistency_task", "state IN (2, 4, 7)")
}

/// Waits until as many rows are through; long plays may take several deadlines as long as they get on.
fn wait_for_rows(database: &Database, rows: i64) {
    loop {
        let done = through(database);
        if done >= rows {
            return;
        }
        wait_until("one more row to get through", || through(database) > done);
    }
}

/// Never succeeds.
#[consistency_task]
fn hopeless(key: &str, #[inject] probe: &Arc<Probe>) -> Result<(), TaskError> {
    probe.note(format!("{key} head"));
    Err(TaskError::permanent("a poison head"))
}

/// Says that it ran.
#[consistency_task]
fn behind(key: &str, number: i64, #[inject] probe: &Arc<Probe>) {
    probe.note(format!("{key} {number}"));
}

for_each_database! {
    items {
        #[cfg(feature = "async")]
        fn produce_in_futures(database: &Database, outbox: &Outbox, seed: u64, numbers: std::ops::Range<i64>, chains: &[String]) {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(async {
                match BACKEND {
                    #[cfg(feature = "async-sqlite")]
                    Backend::Sqlite => on_sqlite(database, outbox, seed, numbers, chains).await,
                    #[cfg(feature = "async-postgres")]
                    Backend::Postgres => on_postgres(database, outbox, seed, numbers, chains).await,
                    #[cfg(feature = "async-mysql")]
                    Backend::Mysql => on_mysql(database, outbox, seed, numbers, chains).await,
                    #[allow(unreachable_patterns)]
                    _ => produce::<Conn>(database, outbox, seed, numbers, chains),
                }
            });
        }
    }

    fn the_order_of_every_key_is_exact_whoever_fails_and_whoever_is_killed(database: &Database) {
        let seed = seed("rows of ordering keys under fire");
        let (each, kills) = if is_long() { (1_000, 40) } else { (50, 3) };
        let chains: Vec<String> =
            ["block-a", "block-b", "park-a", "park-b", "skip-a", "skip-b"].map(str::to_owned).to_vec();
        database.migrate();
        create_tables(database, &chains);
        let outbox = &database.outbox().enqueue_only().busy_wait(Duration::from_secs(60)).start_blocking().unwrap();
        let (url, address) = (database.url(), database.address().to_owned());
        let start = || WorkerProcess::start(WORKER, database, &[&address, LEASE_MS]);
        let mut workers: Vec<_> = (0..3).map(|_| start()).collect();
        workers.iter().for_each(|worker| worker.wait_for_line("started"));
        let mut dice = StdRng::seed_from_u64(seed);
        let chains = &chains;
        std::thread::scope(|scope| {
            for producer in 0..2_i64 {
                scope.spawn(move || {
                    produce::<Conn>(database, outbox, seed + producer.unsigned_abs(), producer * 10_000..producer * 10_000 + each, chains);
                });
            }
            for producer in 2..4_i64 {
                let numbers = producer * 10_000..producer * 10_000 + each;
                #[cfg(feature = "async")]
                scope.spawn(move || produce_in_futures(database, outbox, seed + producer.unsigned_abs(), numbers, chains));
                #[cfg(not(feature = "async"))]
                scope.spawn(move || produce::<Conn>(database, outbox, seed + producer.unsigned_abs(), numbers, chains));
            }
            for kill in 1..=kills {
                // Spread over the whole play, each among running rows.
                wait_for_rows(database, 4 * each * 8 / 10 * kill / kills - dice.random_range(0..=10));
                let victim = dice.random_range(0..workers.len());
                println!("{BACKEND}: kill {kill} after {} rows", through(database));
                workers.swap_remove(victim).kill();
                workers.push(start());
            }
        });
        wait_for_rows(database, database.count("committed", "1 = 1"));
        let trouble: Vec<String> =
            workers.iter().flat_map(WorkerProcess::lines).filter(|line| line.starts_with("trouble: look")).collect();
        for worker in workers {
            worker.stop();
        }
        if let Err(wrong) = check(database) {
            panic!("{url}, seed {seed}: {wrong}");
        }
        assert_eq!(database.count("consistency_task", "1 = 1"), database.count("committed", "1 = 1"));
        // Given up is only what may be, in the way its chain is named for.
        assert_eq!(database.count("consistency_task", "state = 4 AND order_policy <> 1 OR state = 7 AND order_policy <> 2"), 0);
        println!("{BACKEND}: {} rows given up, {} complaints of claims", database.count("consistency_task", "state IN (4, 7)"), trouble.len());
    }

    fn other_keys_flow_past_two_hundred_blocked_ones(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        database.migrate();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let blocked = (0..200).flat_map(|key| {
            let key = format!("blocked-{key}");
            let rest = (1..=4).map(|number| behind(&key, number).ordered_by(&key)).collect::<Vec<_>>();
            [hopeless(&key).ordered_by(&key)].into_iter().chain(rest)
        });
        store_all::<Conn>(database, &elsewhere, blocked);
        // Few slots and small claims: the front of the index is full of rows that nobody may take.
        let outbox = database.outbox().only([hopeless::NAME, behind::NAME]).concurrency(4).claim_batch(4);
        let outbox = outbox.inject(Arc::clone(&probe)).listener(recorder.listener()).start_blocking().unwrap();
        recorder.wait_for_count(200, State::Dead);
        let flowing = (0..30).map(|number| {
            let key = format!("flowing-{}", number % 10);
            behind(&key, number).ordered_by(&key)
        });
        store_all::<Conn>(database, &outbox, flowing);
        let free = store::<Conn>(database, &outbox, behind("free", 0));
        recorder.wait_for_settled(&free, State::Succeeded);
        recorder.wait_for_count(31, State::Succeeded);
        assert_eq!(database.count("consistency_task", "order_key LIKE 'blocked-%' AND state = 0 AND version = 0"), 800);
        assert_eq!(probe.notes().iter().filter(|note| note.starts_with("blocked") && !note.ends_with("head")).count(), 0);
        outbox.shutdown_blocking();
    }

    fn twenty_thousand_rows_behind_one_head_hide_no_other_key_and_slow_no_claim_down(database: &Database) {
        // The claim that finds nothing of it reads over all of them; the plan that went wrong took seconds.
        const BOUND: Duration = Duration::from_secs(5);
        const ROWS: i64 = 20_000;
        database.migrate();
        let store = store_access::open::<Conn>(database.address(), Duration::from_secs(20));
        let ordered = |task_id: String, key: &str, second| NewTask { order_key: Some(key.to_owned()), ..due_since(&task_id, second) };
        let insert = |rows: Vec<NewTask>| {
            for part in rows.chunks(1000) {
                store.insert(part, "node", Duration::from_secs(60)).unwrap();
            }
        };
        insert((0..=ROWS).map(|number| ordered(format!("hot-{number}"), "hot", number / 100)).collect());
        if BACKEND != Backend::Mysql {
            database.execute("ANALYZE");
        }
        let names = [NAME.to_owned()];
        let request = ClaimRequest { node: "node", lease: Duration::from_secs(60), queue: "default", priority: 5, names: &names, limit: 32, share: Share::Workers };
        let later = match BACKEND {
            Backend::Sqlite => "strftime('%Y-%m-%d %H:%M:%f', 'now', '+1 hour')",
            Backend::Postgres => "clock_timestamp() + INTERVAL '1 hour'",
            Backend::Mysql => "UTC_TIMESTAMP(6) + INTERVAL 1 HOUR",
        };
        let running = format!("state = 1, lease_owner = 'other', lease_until = {later}");
        let failed = format!("state = 3, lease_owner = NULL, lease_until = NULL, next_execute_time = {later}");
        let dead = format!("state = 4, lease_owner = NULL, lease_until = NULL, next_execute_time = {}", now(BACKEND));
        for (round, (head, change)) in [("running", running), ("failed", failed), ("dead", dead)].into_iter().enumerate() {
            database.execute(&format!("UPDATE consistency_task SET {change} WHERE task_id = 'hot-0'"));
            insert((0..20).map(|number| ordered(format!("{head}-{number}"), &format!("{head}-{}", number % 10), 10_000)).collect());
            let begun = Instant::now();
            let taken = store.claim(&request).unwrap();
            let full = begun.elapsed();
            assert_eq!(taken.len(), 10, "every other key's first row, in one claim, while the head is {head}");
            assert!(taken.iter().all(|task| task.task_id.starts_with(head)));
            let begun = Instant::now();
            assert_eq!(store.claim(&request).unwrap().len(), 0);
            let empty = begun.elapsed();
            println!("{BACKEND}: {ROWS} rows behind a {head} head: a claim takes {full:?}, one that finds nothing {empty:?}");
            assert!(full < BOUND && empty < BOUND, "round {round}: {full:?}, {empty:?}");
        }
    }
}
