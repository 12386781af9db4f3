//! Futures of the helper, dropped after every number of polls there is from none to all: whatever was under way on the
//! connection, what was written is there as a whole or not at all, and nothing is called committed that is not.

#![cfg(feature = "async")]

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use consistency_diesel::async_prelude::*;
use consistency_diesel::error::TransactionError;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::for_each_async_database;
use consistency_tests::recorder::{DEADLINE, wait_until};
use consistency_tests::stage::{Probe, Stage, business};
use diesel::result::QueryResult;
use diesel::sql_types::BigInt;
use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};

const POLLS_MOST: usize = 400;

#[consistency_task]
async fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

/// Part of the future of the one who commits it, which may be given up in its middle.
#[consistency_task(run_on = caller)]
async fn note_on_caller(text: String, #[inject] probe: &Probe) {
    tokio::task::yield_now().await;
    probe.saw(text);
}

/// A statement that is given up.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Sent as text.
    Text,
    /// Prepared and executed.
    Prepared,
    /// It violates a constraint.
    Refused,
    /// It answers many rows.
    Rows,
    /// It stores a task with a key.
    Enqueue,
}

/// When a future is given up.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// After so many polls;
    polls: usize,
    /// not right after the last of them, while an answer is awaited, but when the answer is there.
    late: bool,
}

impl Cut {
    /// Every one there is, in growing order.
    fn each() -> impl Iterator<Item = Cut> {
        (0..POLLS_MOST).flat_map(|polls| [false, true].map(|late| Cut { polls, late }))
    }

    /// What `future` gives, if it is not given up.
    async fn of<T>(self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let mut polls = 0;
        let cut = poll_fn(|cx| {
            if polls == self.polls {
                return Poll::Ready(None);
            }
            polls += 1;
            match future.as_mut().poll(cx) {
                Poll::Ready(value) => Poll::Ready(Some(value)),
                Poll::Pending if polls == self.polls && !self.late => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        });
        cut.await
    }
}

/// What nobody was told of a commit that was given up is decided soon.
fn stage(database: &Database) -> Stage<'_> {
    Stage::with(database, |builder| builder.lease(Duration::from_secs(1)).heartbeat(Duration::from_millis(300)))
}

/// How many business rows and tasks of `place(tx, id)` there are.
fn stored(database: &Database, id: i32) -> (i64, i64) {
    let tasks = database.count("consistency_task", &format!("task_parameter LIKE '%\"{id}-%'"));
    (database.count("business", &format!("id IN ({id}, {id} + 1)")), tasks)
}

/// Waits until the server has done what it was sent on the connection of this session, which is closed.
fn wait_for_end(database: &Database, session: i64) {
    let (table, condition) = match database.backend() {
        Backend::Sqlite => return,
        Backend::Postgres => ("pg_stat_activity", format!("pid = {session}")),
        Backend::Mysql => ("information_schema.PROCESSLIST", format!("ID = {session}")),
    };
    wait_until("the end of a closed session", || database.count(table, &condition) == 0);
}

/// All of it is stored, or nothing.
#[track_caller]
fn assert_whole(database: &Database, id: i32, cut: Cut) -> bool {
    let found = stored(database, id);
    assert!(found == (0, 0) || found == (2, 4), "{cut:?}: {found:?}");
    found != (0, 0)
}

/// The tasks of every `place(tx, id)` that was committed run, and no other.
async fn assert_run(stage: &Stage<'_>, committed: &[i32]) {
    wait_until("every committed task to run", || stage.database.count("consistency_task", "state <> 2") == 0);
    stage.outbox.shutdown().await;
    let of = |id: &i32| ["caller", "inner", "keyed", "plain"].map(|kind| format!("{id}-{kind}"));
    let mut expected: Vec<String> = committed.iter().flat_map(of).collect();
    expected.sort();
    let mut seen = stage.probe.seen_sorted();
    seen.dedup(); // a lease may end under a task that had begun
    assert_eq!(seen, expected);
}

for_each_async_database! {
    items {
        async fn session(conn: &mut Conn) -> i64 {
            let whoami = match BACKEND {
                Backend::Sqlite => "1",
                Backend::Postgres => "pg_backend_pid()::bigint",
                Backend::Mysql => "CAST(CONNECTION_ID() AS SIGNED)",
            };
            diesel::select(diesel::dsl::sql::<BigInt>(whoami)).get_result(conn).await.unwrap()
        }

        async fn insert(tx: &mut TaskTx<'_, Conn>, id: i32) -> QueryResult<()> {
            let row = (business::id.eq(id), business::name.eq("order"));
            diesel::insert_into(business::table).values(row).execute(tx).await.map(drop)
        }

        /// Two business rows and four tasks.
        async fn place(tx: &mut TaskTx<'_, Conn>, id: i32) -> QueryResult<()> {
            insert(tx, id).await?;
            tx.enqueue(note(format!("{id}-plain"))).await?;
            tx.enqueue(note(format!("{id}-keyed")).key(format!("{id}"))).await?;
            tx.enqueue(note_on_caller(format!("{id}-caller"))).await?;
            tx.transaction(async |tx| {
                insert(tx, id + 1).await?;
                tx.enqueue(note(format!("{id}-inner"))).await.map(drop)
            }).await
        }

        async fn one_more(tx: &mut TaskTx<'_, Conn>, way: Way, id: i32) -> QueryResult<()> {
            match way {
                Way::Text => tx.batch_execute("UPDATE business SET name = 'changed' WHERE id < 0").await,
                Way::Prepared => insert(tx, id + 3).await,
                Way::Refused => insert(tx, id).await,
                Way::Rows => {
                    let names: Vec<String> = business::table.select(business::name).load(tx).await?;
                    assert!(names.len() >= 500);
                    Ok(())
                }
                Way::Enqueue => tx.enqueue(note("extra".to_owned()).key(format!("extra-{id}"))).await.map(drop),
            }
        }

        /// The connection goes on working durably, or says clearly that it does not: to us and to diesel-async alike.
        async fn assert_honest(stage: &Stage<'_>, conn: &mut Conn, id: i32, cut: Cut) -> bool {
            let again = stage.outbox.transaction(&mut *conn, async |tx| place(tx, id).await);
            let again: QueryResult<()> = tokio::time::timeout(DEADLINE, again).await.expect("it hangs");
            match &again {
                Ok(()) => assert_eq!(stored(stage.database, id), (2, 4), "{cut:?}: not durable"),
                Err(error) => {
                    let found = TransactionError::of(error);
                    assert!(matches!(found, Some(TransactionError::BrokenConnection)), "{cut:?}: {error}");
                }
            }
            let own = conn.transaction(async |conn| {
                let row = (business::id.eq(id + 2), business::name.eq("own"));
                diesel::insert_into(business::table).values(row).execute(conn).await
            });
            let own: QueryResult<usize> = tokio::time::timeout(DEADLINE, own).await.expect("it hangs");
            assert_eq!(own.is_ok(), again.is_ok(), "{cut:?}: {own:?}");
            assert_eq!(stage.database.count("business", &format!("id = {} + 2", id)), i64::from(own.is_ok()), "{cut:?}");
            again.is_ok()
        }
    }

    async fn a_transaction_given_up_after_any_number_of_polls_is_whole_or_absent(database: &Database) {
        let stage = stage(database);
        let (mut committed, mut completed) = (Vec::new(), 0);
        for (id, cut) in (0..).step_by(10).zip(Cut::each()) {
            let mut conn = database.async_connection::<Conn>().await;
            let session = session(&mut conn).await;
            let ended: Option<QueryResult<()>> = cut.of(stage.outbox.transaction(&mut conn, async |tx| place(tx, id).await)).await;
            if let Some(ended) = ended {
                ended.unwrap();
                assert_eq!(stored(database, id), (2, 4), "{cut:?}: not durable");
                completed += 1;
            }
            if assert_honest(&stage, &mut conn, id + 5, cut).await {
                committed.push(id + 5);
            }
            drop(conn);
            wait_for_end(database, session);
            if assert_whole(database, id, cut) {
                committed.push(id);
            }
            if completed == 2 {
                return assert_run(&stage, &committed).await;
            }
        }
        panic!("it took more than {POLLS_MOST} polls");
    }

    async fn a_savepoint_given_up_after_any_number_of_polls_never_half_commits(database: &Database) {
        let stage = stage(database);
        // The closure ends after it, or goes on as if nothing had happened.
        let both = Cut::each().flat_map(|cut| [(cut, false), (cut, true)]);
        let mut completed = 0;
        for (id, (cut, goes_on)) in (0..).step_by(10).zip(both) {
            let mut conn = database.async_connection::<Conn>().await;
            let session = session(&mut conn).await;
            let mut given_up = false;
            let outer = stage.outbox.transaction(&mut conn, async |tx| {
                insert(tx, id).await?;
                tx.enqueue(note(format!("{id}-plain"))).await?;
                let inner: Option<QueryResult<()>> = cut.of(tx.transaction(async |tx| {
                    insert(tx, id + 1).await?;
                    tx.enqueue(note(format!("{id}-keyed")).key(format!("{id}"))).await?;
                    tx.enqueue(note(format!("{id}-inner"))).await.map(drop)
                })).await;
                given_up = inner.is_none();
                if given_up && goes_on {
                    let _ = tx.enqueue(note("after".to_owned()).key(format!("after-{id}"))).await;
                    let _: QueryResult<()> = tx.transaction(async |tx| insert(tx, id + 2).await).await;
                }
                inner.unwrap_or(Ok(()))
            });
            let outer: QueryResult<()> = tokio::time::timeout(DEADLINE, outer).await.expect("it hangs");
            let found = stored(database, id);
            match &outer {
                // Never polled, it is as if it had never been.
                Ok(()) if given_up => assert_eq!(found, (1, 1), "{cut:?}"),
                Ok(()) => assert_eq!(found, (2, 3), "{cut:?}"),
                Err(error) => {
                    assert!(given_up && matches!(TransactionError::of(error), Some(TransactionError::Lost)), "{cut:?}: {error}");
                }
            }
            completed += usize::from(!given_up);
            assert_honest(&stage, &mut conn, id + 5, cut).await;
            drop(conn);
            wait_for_end(database, session);
            assert_eq!(stored(database, id), if outer.is_ok() { found } else { (0, 0) }, "{cut:?}");
            let after = database.count("business", &format!("id = {id} + 2")) + database.count("consistency_task", &format!("task_id = 'after-{id}'"));
            assert_eq!(after, if outer.is_ok() && given_up && goes_on { 2 } else { 0 }, "{cut:?}");
            if completed == 4 {
                return;
            }
        }
        panic!("it took more than {POLLS_MOST} polls");
    }

    /// What the statement would have done may be done or not. The rest is whole or absent, and what is called committed is.
    async fn a_statement_given_up_after_any_number_of_polls_leaves_the_rest_whole_or_absent(database: &Database) {
        let stage = stage(database);
        for number in 1..=500 {
            database.execute(&format!("INSERT INTO business (id, name) VALUES (-{number}, '{number:0>90}')"));
        }
        let ways = [Way::Text, Way::Prepared, Way::Refused, Way::Rows, Way::Enqueue];
        for (first, way) in (0..).step_by(10_000).zip(ways) {
            let mut completed = 0;
            for (id, cut) in (first..).step_by(10).zip(Cut::each()) {
                let mut conn = database.async_connection::<Conn>().await;
                let session = session(&mut conn).await;
                let mut given_up = false;
                let outer = stage.outbox.transaction(&mut conn, async |tx| {
                    place(tx, id).await?;
                    // Not a word of it, nor of its error.
                    given_up = cut.of(one_more(tx, way, id)).await.is_none();
                    Ok(())
                });
                let outer: QueryResult<()> = tokio::time::timeout(DEADLINE, outer).await.expect("it hangs");
                if outer.is_ok() {
                    assert_eq!(stored(database, id), (2, 4), "{way:?} {cut:?}: not durable, or in part");
                }
                assert_honest(&stage, &mut conn, id + 5, cut).await;
                drop(conn);
                wait_for_end(database, session);
                assert_eq!(assert_whole(database, id, cut), outer.is_ok(), "{way:?} {cut:?}: {outer:?}");
                completed += usize::from(!given_up);
                if completed == 2 {
                    break;
                }
            }
        }
    }
}
