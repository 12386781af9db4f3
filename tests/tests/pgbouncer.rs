//! PgBouncer between the outbox and PostgreSQL: with sessions it serves everything; where it shares sessions, a start is
//! refused, and the application's own connections may go through it.
#![cfg(all(feature = "async-postgres", feature = "postgres"))]

use std::time::Duration;

use consistency_core::error::{Problem, StartError};
use consistency_core::state::State;
use consistency_diesel::builder::OutboxBuilder;
use consistency_diesel::error::TransactionError;
use consistency_diesel::outbox::Outbox;
use consistency_diesel::prelude::*;
use consistency_diesel::source::Source;
use consistency_tests::database::Database;
use consistency_tests::faults::pgbouncer::{PgBouncer, PoolMode, behind_pgbouncer};
use consistency_tests::recorder::{Recorder, wait_until, wait_until_some};
use consistency_tests::stage::Probe;
use diesel::ConnectionResult;
use diesel::connection::{CacheSize, Connection, SimpleConnection};
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::result::{Error, QueryResult};
use diesel::{PgConnection, RunQueryDsl};
use diesel_async::{AsyncConnection, AsyncPgConnection};

/// Calls of each client.
const CALLS: usize = 25;
/// Clients of each world at once.
const CLIENTS: usize = 4;

#[consistency_task]
async fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

#[consistency_task]
fn write_down(name: &str, #[tx] tx: &mut TaskTx<PgConnection>) -> QueryResult<usize> {
    diesel::sql_query("INSERT INTO business (name) VALUES ($1)").bind::<diesel::sql_types::Text, _>(name).execute(tx)
}

#[consistency_task]
async fn write_down_async(name: &str, #[tx] tx: &mut TaskTx<'_, AsyncPgConnection>) -> QueryResult<usize> {
    let insert = diesel::sql_query("INSERT INTO business (name) VALUES ($1)").bind::<diesel::sql_types::Text, _>(name);
    diesel_async::RunQueryDsl::execute(insert, tx).await
}

/// An outbox at `url`, shut down with this value.
struct Running {
    outbox: Outbox,
    probe: Probe,
    recorder: Recorder,
}

impl Running {
    fn at(url: &str) -> Self {
        let (probe, recorder) = (Probe::default(), Recorder::new());
        let builder = Outbox::builder(url).migrate().poll_interval(Duration::from_millis(50)).notify();
        let outbox = builder.inject(probe.clone()).listener(recorder.listener()).start_blocking().unwrap();
        Self { outbox, probe, recorder }
    }

    /// A call that is handed over after the commit, and one that is claimed.
    fn calls(client: &str, number: usize) -> [Call; 2] {
        let delay = Duration::from_millis(1);
        [note(format!("{client} {number}")), note(format!("{client} {number}, later")).delay(delay)]
    }

    fn assert_ran(&self, clients: &[String]) {
        let mut texts: Vec<String> = Vec::new();
        for client in clients {
            texts.extend(
                (0..CALLS).flat_map(|number| [format!("{client} {number}"), format!("{client} {number}, later")]),
            );
        }
        texts.sort();
        self.probe.wait_for(texts.len());
        assert_eq!(self.probe.seen_sorted(), texts);
        self.recorder.wait_for_count(texts.len(), State::Succeeded);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.outbox.shutdown_blocking();
    }
}

/// Commits the calls of a client of Diesel's own on `conn`.
fn commit_all(outbox: &Outbox, conn: &mut PgConnection, client: &str) {
    for number in 0..CALLS {
        let stored: QueryResult<()> = outbox.transaction(conn, |tx| {
            Running::calls(client, number).into_iter().try_for_each(|call| tx.enqueue(call).map(drop))
        });
        stored.unwrap_or_else(|error| panic!("{client} {number}: {error}"));
    }
}

/// Commits the calls of a client of diesel-async on `conn`.
async fn commit_all_async(outbox: &Outbox, conn: &mut AsyncPgConnection, client: &str) {
    use consistency_diesel::async_transact::AsyncTransact;
    for number in 0..CALLS {
        let store = AsyncTransact::transaction(outbox, conn, async |tx| {
            for call in Running::calls(client, number) {
                tx.enqueue(call).await?;
            }
            Ok(())
        });
        let stored: QueryResult<()> = store.await;
        stored.unwrap_or_else(|error| panic!("{client} {number}: {error}"));
    }
}

/// Commits from several clients of both worlds at once, each on a connection to `url`, and checks that everything ran once.
fn commit_and_run(running: &Running, url: &str, cache: fn() -> CacheSize) {
    let clients: Vec<String> = (0..CLIENTS).map(|number| format!("client {number}")).collect();
    let async_clients: Vec<String> = (0..CLIENTS).map(|number| format!("async client {number}")).collect();
    std::thread::scope(|scope| {
        for client in &clients {
            scope.spawn(move || {
                let mut conn = connect(url);
                conn.set_prepared_statement_cache_size(cache());
                commit_all(&running.outbox, &mut conn, client);
            });
        }
        for client in &async_clients {
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let mut conn = until_connected(|| runtime.block_on(AsyncPgConnection::establish(url)));
                conn.set_prepared_statement_cache_size(cache());
                runtime.block_on(commit_all_async(&running.outbox, &mut conn, client));
            });
        }
    });
    running.assert_ran(&[clients, async_clients].concat());
}

/// Diesel and diesel-async prepare statements while they connect, before anybody can tell them not to; a pooler that shares
/// sessions may give the statement to another one.
fn until_connected<C>(mut connected: impl FnMut() -> ConnectionResult<C>) -> C {
    wait_until_some("a connection", || match connected() {
        Ok(conn) => Some(conn),
        Err(error) if error.to_string().contains("prepared statement") => None,
        Err(error) => panic!("{error}"),
    })
}

fn connect(url: &str) -> PgConnection {
    until_connected(|| PgConnection::establish(url))
}

/// Several sessions in the pooler that clients have used and left.
fn use_several_sessions(pooler: &PgBouncer, database: &Database) {
    let mut conns: Vec<_> = (0..3).map(|_| connect(&pooler.url(database))).collect();
    conns.iter_mut().for_each(|conn| conn.batch_execute("BEGIN").unwrap());
    conns.iter_mut().for_each(|conn| conn.batch_execute("COMMIT").unwrap());
}

fn starting(source: impl Into<Source>) -> OutboxBuilder {
    Outbox::builder(source).only([note::NAME]).inject(Probe::default())
}

#[track_caller]
fn assert_refused(started: Result<Outbox, StartError>, address: &str) {
    let refused = started.expect_err("a start through a pooler that shares sessions");
    let [Problem::Database(message)] = refused.problems() else { panic!("{refused}") };
    assert!(message.starts_with(address), "{message}");
    for part in ["leads through a pooler", "`pool_mode = transaction`", "PostgreSQL itself", "`pool_mode = session`"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn through_a_pooler_with_sessions_everything_works() {
    behind_pgbouncer(PoolMode::Session, &["default_pool_size = 60"], "pgbouncer::sessions", |database, pooler| {
        let url = pooler.url(database);
        database.execute("CREATE TABLE business (name TEXT NOT NULL)");
        let running = Running::at(&url);
        commit_and_run(&running, &url, || CacheSize::Unbounded);
        let mut conn = connect(&url);
        for number in 0..10 {
            let stored: QueryResult<_> = running.outbox.transaction(&mut conn, |tx| {
                tx.enqueue(write_down(&format!("{number}")))?;
                tx.enqueue(write_down_async(&format!("async {number}")))
            });
            stored.unwrap();
        }
        wait_until("the tasks with a transaction to be done", || database.count("business", "true") == 20);
        assert_eq!(database.count("consistency_task", "error_message IS NOT NULL"), 0);
    });
}

#[test]
fn a_pooler_that_shares_sessions_is_refused_with_the_mend() {
    for settings in [&[][..], &["server_round_robin = 1"]] {
        behind_pgbouncer(PoolMode::Transaction, settings, "pgbouncer::refused", |database, pooler| {
            let url = pooler.url(database);
            for _ in 0..2 {
                assert_refused(starting(&url).start_blocking(), &url);
                assert_refused(starting(&url).migrate().start_blocking(), &url);
                assert_refused(starting(&url).enqueue_only().start_blocking(), &url);
                let pool = Pool::builder().max_size(6).connection_timeout(Duration::from_secs(2));
                let pool = pool.build_unchecked(ConnectionManager::<PgConnection>::new(&url));
                assert_refused(starting(pool).start_blocking(), "the given pool");
                use_several_sessions(pooler, database);
            }
            let migrated = "COUNT(*) FROM information_schema.tables WHERE table_name = 'consistency_task'";
            assert_eq!(database.number(migrated), 0, "nothing is done through it");
        });
    }
}

#[test]
fn a_pooler_that_shares_sessions_is_refused_under_traffic() {
    behind_pgbouncer(PoolMode::Transaction, &[], "pgbouncer::traffic", |database, pooler| {
        let url = pooler.url(database);
        database.migrate();
        let enough = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut conn = connect(&url);
                    while !enough.load(std::sync::atomic::Ordering::Relaxed) {
                        conn.batch_execute("BEGIN; SELECT 1").unwrap();
                        conn.batch_execute("COMMIT").unwrap();
                    }
                });
            }
            let starts: Vec<_> = (0..20).map(|_| starting(&url).start_blocking()).collect();
            enough.store(true, std::sync::atomic::Ordering::Relaxed);
            starts.into_iter().for_each(|started| assert_refused(started, &url));
        });
    });
}

#[test]
fn connections_through_a_pooler_that_shares_sessions_enqueue_without_a_statement_cache() {
    behind_pgbouncer(PoolMode::Transaction, &[], "pgbouncer::no_cache", |database, pooler| {
        let running = Running::at(database.address());
        commit_and_run(&running, &pooler.url(database), || CacheSize::Disabled);
    });
}

/// Where the pooler keeps the names of prepared statements apart, as newer ones can, everything succeeds instead.
#[test]
fn with_a_statement_cache_the_error_names_its_cause_and_nothing_is_stored() {
    behind_pgbouncer(PoolMode::Transaction, &[], "pgbouncer::cache", |database, pooler| {
        let running = Running::at(database.address());
        let mut conns = [(); 2].map(|()| connect(&pooler.url(database)));
        let mut stored = 0;
        for number in 0..10 {
            for conn in &mut conns {
                // One that is written at the commit, and one that is written at once.
                let at_the_commit =
                    running.outbox.transaction(conn, |tx| tx.enqueue(note(number.to_string())).map(drop));
                let call = note(number.to_string()).delay(Duration::from_secs(3600));
                let at_once = running.outbox.transaction(conn, |tx| tx.enqueue(call).map(drop));
                for result in [at_the_commit, at_once] {
                    match result {
                        Ok(()) => stored += 1,
                        Err(error) => assert_names_its_cause(&error),
                    }
                }
            }
        }
        assert_eq!(database.count("consistency_task", "true"), stored);
    });
}

#[track_caller]
fn assert_names_its_cause(error: &Error) {
    assert!(TransactionError::of(error).is_none(), "{error}");
    assert!(error.to_string().contains("prepared statement"), "{error}");
}
