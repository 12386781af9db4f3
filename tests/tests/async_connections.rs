//! The helper among ordinary diesel-async code: guards of its pools, functions over connections, spawned futures, borrowed
//! values, errors of the user's own.

#![cfg(feature = "async")]

use std::collections::HashMap;
use std::pin::Pin;

use consistency_core::state::State;
use consistency_diesel::async_prelude::*;
use consistency_diesel::connection::AsTaskConnection;
use consistency_diesel::error::{TransactionError, enqueue_error};
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::for_each_async_database;
use consistency_tests::stage::{Probe, Stage, business};
use diesel::prelude::{AsChangeset, Identifiable, Queryable, Selectable};
use diesel::result::{DatabaseErrorKind, Error, QueryResult};
use diesel::{ExpressionMethods, QueryDsl, SelectableHelper};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, bb8, deadpool, mobc};
use diesel_async::{AsyncConnection, AsyncConnectionCore, RunQueryDsl, SaveChangesDsl, SimpleAsyncConnection};

#[consistency_task]
async fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

fn text(text: &str) -> Call {
    note(text.to_owned())
}

/// An error as applications write it, with nothing but what `?` on Diesel's results needs.
#[derive(Debug)]
struct OnlyFromDiesel(Error);

impl From<Error> for OnlyFromDiesel {
    fn from(error: Error) -> Self {
        OnlyFromDiesel(error)
    }
}

for_each_async_database! {
    items {
        /// As application code often looks: written for the connection type, long before an outbox came.
        async fn insert_order(conn: &mut Conn, id: i32) -> QueryResult<usize> {
            diesel::insert_into(business::table).values((business::id.eq(id), business::name.eq("plain"))).execute(conn).await
        }

        async fn insert_generic<C>(conn: &mut C, id: i32) -> QueryResult<usize>
        where
            C: AsyncConnection<Backend = <Conn as AsyncConnectionCore>::Backend>,
        {
            diesel::insert_into(business::table).values((business::id.eq(id), business::name.eq("generic"))).execute(conn).await
        }

        /// Boxed, as the compiler wants it of a generic function with savepoints of its own, without an outbox too.
        fn count_generic<'c, C>(conn: &'c mut C) -> Pin<Box<dyn Future<Output = QueryResult<i64>> + Send + 'c>>
        where
            C: AsyncConnection<Backend = <Conn as AsyncConnectionCore>::Backend>,
        {
            Box::pin(conn.transaction(async |conn| business::table.count().get_result(conn).await))
        }

        #[derive(Debug, PartialEq, Queryable, Selectable, Identifiable, AsChangeset)]
        #[diesel(table_name = business)]
        struct Order {
            id: i32,
            name: String,
        }

        /// Of connections that wait for a lock, which on SQLite somebody must tell them.
        fn manager(database: &Database) -> AsyncDieselConnectionManager<Conn> {
            let mut config = ManagerConfig::<Conn>::default();
            config.custom_setup = Box::new(|address| Box::pin(async move {
                let mut conn = Conn::establish(address).await?;
                if BACKEND == Backend::Sqlite {
                    let set_up = conn.batch_execute("PRAGMA busy_timeout = 20000").await;
                    set_up.map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
                }
                Ok(conn)
            }));
            AsyncDieselConnectionManager::new_with_config(database.address(), config)
        }

        /// A business row and a call, by way of whatever carries the connection.
        async fn place<G>(stage: &Stage<'_>, guard: &mut G, id: i32) -> QueryResult<Receipt>
        where
            G: AsTaskConnection<Connection = Conn> + Send,
        {
            stage.outbox.transaction(guard, async |tx| {
                insert_order(tx.connection(), id).await?;
                tx.enqueue(note(format!("order {id}"))).await
            }).await
        }

        /// The guard is taken like a connection, again and again.
        async fn assert_carries<G>(stage: &Stage<'_>, mut guard: G)
        where
            G: AsTaskConnection<Connection = Conn> + std::ops::DerefMut<Target = Conn> + Send,
        {
            place(stage, &mut guard, 1).await.unwrap();
            place(stage, &mut guard, 1).await.unwrap_err();
            place(stage, &mut guard, 2).await.unwrap();
            let joined = guard.transaction(async |conn| stage.outbox.join(conn).await?.enqueue(text("joined")).await).await;
            joined.unwrap();
            stage.recorder.wait_for_count(3, State::Succeeded);
            assert_eq!(stage.probe.seen_sorted(), ["joined", "order 1", "order 2"]);
            assert_eq!((stage.names().len(), stage.tasks()), (2, 3));
        }
    }

    async fn a_guard_of_deadpool_is_taken_like_a_plain_connection(database: &Database) {
        let stage = Stage::on(database);
        let pool: deadpool::Pool<Conn> = deadpool::Pool::builder(manager(database)).max_size(1).build().unwrap();
        assert_carries(&stage, pool.get().await.unwrap()).await;
    }

    async fn a_guard_of_bb8_is_taken_like_a_plain_connection(database: &Database) {
        let stage = Stage::on(database);
        let pool: bb8::Pool<Conn> = bb8::Pool::builder().max_size(1).build(manager(database)).await.unwrap();
        assert_carries(&stage, pool.get().await.unwrap()).await;
    }

    async fn a_guard_of_mobc_is_taken_like_a_plain_connection(database: &Database) {
        let stage = Stage::on(database);
        let pool: mobc::Pool<Conn> = mobc::Pool::builder().max_open(1).build(manager(database));
        assert_carries(&stage, pool.get().await.unwrap()).await;
    }

    async fn functions_over_connections_work_on_the_transaction(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let counted = stage.outbox.transaction(&mut conn, async |tx| {
            insert_order(tx.connection(), 1).await?;
            insert_generic(tx, 2).await?;
            // A savepoint of the function's own.
            let counted = count_generic(tx).await?;
            tx.transaction(async |tx| insert_generic(tx, 3).await).await?;
            tx.enqueue(text("done")).await?;
            QueryResult::Ok(counted)
        }).await;
        assert_eq!(counted, Ok(2));
        assert_eq!(stage.names(), ["generic", "generic", "plain"]);
        stage.recorder.wait_for_count(1, State::Succeeded);
    }

    async fn rows_are_read_changed_and_saved_through_the_transaction(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let saved = stage.outbox.transaction(&mut conn, async |tx| {
            insert_order(tx.connection(), 7).await?;
            let mut order: Order = business::table.find(7).select(Order::as_select()).first(tx).await?;
            order.name = "saved".to_owned();
            tx.enqueue(note(order.name.clone())).await?;
            order.save_changes::<Order>(tx).await
        }).await;
        assert_eq!(saved, Ok(Order { id: 7, name: "saved".to_owned() }));
        assert_eq!(stage.names(), ["saved"]);
        stage.recorder.wait_for_count(1, State::Succeeded);
        assert_eq!(stage.probe.seen(), ["saved"]);
    }

    /// What the closure borrows may be shared, changed, or consumed.
    async fn the_closure_borrows_from_around_it(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let (name, mut receipts, consumed) = ("borrowed".to_owned(), HashMap::new(), vec![text("a"), text("b")]);
        let shared = name.as_str();
        for id in 1..=2 {
            let stored = stage.outbox.transaction(&mut conn, async |tx| {
                let row = (business::id.eq(id), business::name.eq(shared));
                diesel::insert_into(business::table).values(row).execute(tx).await?;
                let inner = tx.transaction(async |tx| tx.enqueue(text(shared)).await).await?;
                QueryResult::Ok(receipts.insert(id, inner).is_none())
            }).await;
            assert_eq!(stored, Ok(true));
        }
        let both: QueryResult<()> = stage.outbox.transaction(&mut conn, async move |tx| {
            for call in consumed {
                tx.enqueue(call).await?;
            }
            Ok(())
        }).await;
        both.unwrap();
        stage.recorder.wait_for_count(4, State::Succeeded);
        assert_eq!(stage.probe.seen_sorted(), ["a", "b", "borrowed", "borrowed"]);
        assert_eq!((stage.names(), receipts.len()), (vec![name.clone(), name], 2));
    }

    async fn many_spawned_futures_share_an_outbox_and_a_pool(database: &Database) {
        let stage = Stage::on(database);
        let pool: deadpool::Pool<Conn> = deadpool::Pool::builder(manager(database)).max_size(2).build().unwrap();
        let mut futures = Vec::new();
        for id in 0..12 {
            let (outbox, pool) = (stage.outbox.clone(), pool.clone());
            futures.push(tokio::spawn(async move {
                let mut conn = pool.get().await.unwrap();
                outbox.transaction(&mut conn, async |tx| {
                    insert_generic(tx, id).await?;
                    tx.enqueue(note(format!("{id:02}"))).await
                }).await
            }));
        }
        for future in futures {
            let stored: QueryResult<Receipt> = future.await.unwrap();
            stored.unwrap();
        }
        stage.recorder.wait_for_count(12, State::Succeeded);
        assert_eq!(stage.probe.seen_sorted(), (0..12).map(|id| format!("{id:02}")).collect::<Vec<_>>());
        assert_eq!((stage.names().len(), stage.tasks()), (12, 12));
    }

    async fn question_marks_turn_every_error_into_the_users_own(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        let mut ended = Vec::new();
        for (id, call) in [(1, text("first")), (1, text("twin")), (2, text("refused").priority(10))] {
            ended.push(stage.outbox.transaction(&mut conn, async |tx| {
                insert_generic(tx, id).await?;
                Ok::<_, OnlyFromDiesel>(tx.enqueue(call).await?.task_id().to_owned())
            }).await);
        }
        let [Ok(task_id), Err(twin), Err(refused)] = &ended[..] else { panic!("{ended:?}") };
        assert!(matches!(twin.0, Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)), "{twin:?}");
        assert!(enqueue_error(&refused.0).is_some(), "{refused:?}");
        stage.recorder.wait_for_settled(task_id, State::Succeeded);
        assert_eq!((stage.names().len(), stage.tasks()), (1, 1));
    }

    async fn anyhow_carries_our_errors_so_that_they_are_found_again(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.async_connection::<Conn>().await;
        for (number, kept) in [("42", true), ("no number", false)] {
            let ended: anyhow::Result<i64> = stage.outbox.transaction(&mut conn, async |tx| {
                tx.enqueue(text(number)).await?;
                Ok(number.parse::<i64>()?)
            }).await;
            assert_eq!(ended.is_ok(), kept);
            assert!(ended.err().is_none_or(|error| error.is::<std::num::ParseIntError>()));
        }
        let nested: anyhow::Result<()> = conn.transaction(async |conn| {
            stage.outbox.transaction(conn, async |_| anyhow::Ok(())).await
        }).await;
        let error = nested.unwrap_err();
        let found = error.downcast_ref::<Error>().and_then(TransactionError::of);
        assert!(matches!(found, Some(TransactionError::AlreadyOpen)), "{error:?}");
        stage.recorder.wait_for_count(1, State::Succeeded);
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["42".to_owned()], 1));
    }
}

/// Connections of one kind at an outbox of another; needs more than one driver.
#[cfg(all(feature = "async-sqlite", feature = "async-postgres", feature = "async-mysql"))]
mod other_kinds {
    use consistency_diesel::async_connection::AsyncTaskConnection;
    use consistency_tests::async_stage::drive;
    use consistency_tests::database::on_fresh;
    use diesel::SqliteConnection;
    use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
    use diesel_async::{AsyncMysqlConnection, AsyncPgConnection};

    use super::*;

    fn assert_refused<Other: AsyncTaskConnection>(own: Backend, other: Backend) {
        on_fresh(own, "an_asynchronous_connection_to_another_kind_of_database_is_refused", |own| {
            on_fresh(other, "an_asynchronous_connection_to_another_kind_of_database_is_refused", |other| {
                drive(async {
                    let stage = Stage::on(own);
                    let mut conn = other.async_connection::<Other>().await;
                    let refused: QueryResult<Receipt> =
                        stage.outbox.transaction(&mut conn, async |tx| tx.enqueue(text("never")).await).await;
                    let joined = stage.outbox.join(&mut conn).await.map(drop);
                    for error in [refused.unwrap_err(), joined.unwrap_err()] {
                        let found = TransactionError::of(&error);
                        assert!(matches!(found, Some(TransactionError::WrongDatabase { .. })), "{error:?}");
                        for part in [own.backend().to_string(), other.backend().to_string()] {
                            assert!(error.to_string().contains(&part), "{part}: {error}");
                        }
                    }
                    assert_eq!(stage.tasks(), 0);
                });
            });
        });
    }

    #[test]
    fn an_asynchronous_connection_to_another_kind_of_database_is_refused() {
        assert_refused::<AsyncPgConnection>(Backend::Sqlite, Backend::Postgres);
        assert_refused::<AsyncMysqlConnection>(Backend::Postgres, Backend::Mysql);
        assert_refused::<SyncConnectionWrapper<SqliteConnection>>(Backend::Mysql, Backend::Sqlite);
    }
}
