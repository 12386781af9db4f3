//! A server that is lost to PgBouncer during COMMIT: the pooler answers in words of its own, and whatever they are, the outcome
//! is called unknown. Here it is durable: a caller that were told of a failure would do everything twice.
#![cfg(all(feature = "async-postgres", feature = "postgres"))]

use consistency_core::state::State;
use consistency_diesel::async_transact::AsyncTransact;
use consistency_diesel::error::TransactionError;
use consistency_diesel::outbox::Outbox;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::faults::pgbouncer::{PoolMode, behind_pgbouncer};
use consistency_tests::faults::proxy::Proxy;
use consistency_tests::recorder::wait_until;
use consistency_tests::stage::{Probe, Stage};
use diesel::PgConnection;
use diesel::connection::{Connection, SimpleConnection};
use diesel::result::QueryResult;
use diesel_async::{AsyncConnection, AsyncPgConnection};

const ORDER: &str = "INSERT INTO business (id, name) VALUES (1, 'order')";

/// Who waits for the lock that the test holds.
const WAITING: &str = "COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

#[consistency_task(max_attempts = 1)]
fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

/// A line for PgBouncer that leads every database to a proxy before the server, and the proxy.
fn before_the_server() -> (Proxy, String) {
    let (proxy, through) = Proxy::before(&Backend::Postgres.admin_url());
    let rest = through.split_once("://").unwrap().1;
    let (login, place) = rest.split('/').next().unwrap().rsplit_once('@').unwrap_or(("postgres", rest));
    let (user, password) =
        login.split_once(':').map_or((login, String::new()), |(user, word)| (user, format!(" password={word}")));
    let port = place.rsplit_once(':').unwrap().1;
    (proxy, format!("[databases]\n* = host=127.0.0.1 port={port} user={user}{password}"))
}

/// `commit` commits an order and its call through the pooler at the address it is given.
fn lose_the_server_at(test: &str, commit: impl FnOnce(&Outbox, &str) -> QueryResult<()> + Send) {
    let (proxy, server) = before_the_server();
    behind_pgbouncer(PoolMode::Session, &[&server], test, |database, pooler| {
        let stage = Stage::with(database, |builder| builder.only([note::NAME]));
        database.execute(
            "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END'",
        );
        database.execute(
            "CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON business DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION hold()",
        );
        let mut holder = database.connection::<PgConnection>();
        holder.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(1)").unwrap();
        let (url, outbox) = (pooler.url(database), &stage.outbox);
        let ended = std::thread::scope(|scope| {
            let committing = scope.spawn(|| commit(outbox, &url));
            wait_until("COMMIT to be held", || database.number(WAITING) == 1);
            proxy.cut();
            committing.join().unwrap()
        });
        let found = ended.as_ref().map_err(TransactionError::of);
        assert!(matches!(found, Err(Some(TransactionError::CommitUnknown(_)))), "{ended:?}");
        // The server goes on with what it was told.
        holder.batch_execute("COMMIT").unwrap();
        stage.recorder.wait_for_count(1, State::Succeeded);
        assert_eq!((stage.probe.seen(), stage.names()), (vec!["order".to_owned()], vec!["order".to_owned()]));
        assert_eq!(database.count("consistency_task", "state = 2 AND execute_times = 1 AND lost_times = 0"), 1);
    });
}

#[test]
fn a_blocking_commit_that_the_pooler_lost_is_called_unknown_and_its_task_runs() {
    lose_the_server_at("pgbouncer_commits::blocking", |outbox, url| {
        let mut conn = PgConnection::establish(url).unwrap();
        Transact::transaction(outbox, &mut conn, |tx| {
            tx.batch_execute(ORDER)?;
            tx.enqueue(note("order".to_owned())).map(drop)
        })
    });
}

#[test]
fn an_async_commit_that_the_pooler_lost_is_called_unknown_and_its_task_runs() {
    lose_the_server_at("pgbouncer_commits::async", |outbox, url| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut conn = AsyncPgConnection::establish(url).await.unwrap();
            let store = AsyncTransact::transaction(outbox, &mut conn, async |tx| {
                diesel_async::SimpleAsyncConnection::batch_execute(tx, ORDER).await?;
                tx.enqueue(note("order".to_owned())).await.map(drop)
            });
            store.await
        })
    });
}
