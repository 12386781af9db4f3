//! The helper among ordinary Diesel code: pooled connections, functions over connections, errors of the user's own.

use consistency_core::state::State;
use consistency_diesel::error::{TransactionError, enqueue_error};
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::stage::{Probe, Stage, business};
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::result::{DatabaseErrorKind, Error};

#[consistency_task]
fn note(text: String, #[inject] probe: &Probe) {
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

for_each_database! {
    items {
        /// As application code often looks: written for the connection type, long before an outbox came.
        fn insert_order(conn: &mut Conn, id: i32) -> QueryResult<usize> {
            diesel::insert_into(business::table).values((business::id.eq(id), business::name.eq("plain"))).execute(conn)
        }

        fn insert_generic<C>(conn: &mut C, id: i32) -> QueryResult<usize>
        where
            C: Connection<Backend = <Conn as Connection>::Backend>,
        {
            diesel::insert_into(business::table).values((business::id.eq(id), business::name.eq("generic"))).execute(conn)
        }

        fn count_generic<C>(conn: &mut C) -> QueryResult<i64>
        where
            C: diesel::connection::LoadConnection<Backend = <Conn as Connection>::Backend>,
        {
            conn.transaction(|conn| business::table.count().get_result(conn))
        }

        #[derive(Debug, PartialEq, Queryable, Selectable, Identifiable, AsChangeset)]
        #[diesel(table_name = business)]
        struct Order {
            id: i32,
            name: String,
        }
    }

    fn a_pooled_connection_is_taken_like_a_plain_one(database: &Database) {
        let stage = Stage::on(database);
        let pool = Pool::builder().max_size(2).build(ConnectionManager::<Conn>::new(database.address())).unwrap();
        let mut conn = pool.get().unwrap();
        let receipt = stage.outbox.transaction(&mut conn, |tx| {
            insert_order(tx, 1)?;
            tx.enqueue(text("pooled"))
        }).unwrap();
        stage.recorder.wait_for_settled(receipt.task_id(), State::Succeeded);
        conn.transaction(|conn| stage.outbox.join(conn)?.enqueue(text("joined"))).unwrap();
        stage.recorder.wait_for_count(2, State::Succeeded);
        assert_eq!(stage.probe.seen_sorted(), ["joined", "pooled"]);
        assert_eq!((stage.names(), stage.tasks()), (vec!["plain".to_owned()], 2));
    }

    fn an_outbox_runs_on_a_pool_of_its_own(database: &Database) {
        database.migrate();
        let pool_of = |size: u32| {
            Pool::builder().max_size(size).build(ConnectionManager::<Conn>::new(database.address())).unwrap()
        };
        let too_small = Outbox::builder(pool_of(1)).inject(Probe::default()).start_blocking().unwrap_err();
        assert!(too_small.to_string().contains("pool"), "{too_small}");
        let pool = pool_of(6);
        let (probe, recorder) = (Probe::default(), consistency_tests::recorder::Recorder::new());
        let outbox = Outbox::builder(pool).inject(probe.clone()).listener(recorder.listener()).start_blocking().unwrap();
        let mut conn = database.connection::<Conn>();
        let receipt = outbox.transaction(&mut conn, |tx| tx.enqueue(text("run"))).unwrap();
        recorder.wait_for_settled(receipt.task_id(), State::Succeeded);
        assert_eq!((probe.seen(), database.row(receipt.task_id()).state()), (vec!["run".to_owned()], State::Succeeded));
        outbox.shutdown_blocking();
    }

    fn functions_over_connections_work_on_the_transaction(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        let counted = stage.outbox.transaction(&mut conn, |tx| {
            insert_order(tx, 1)?;
            insert_generic(tx, 2)?;
            // A savepoint of the function's own.
            let counted = count_generic(tx)?;
            tx.transaction(|tx| insert_generic(tx, 3))?;
            tx.enqueue(text("done"))?;
            QueryResult::Ok(counted)
        }).unwrap();
        assert_eq!(counted, 2);
        assert_eq!(stage.names(), ["generic", "generic", "plain"]);
        stage.recorder.wait_for_count(1, State::Succeeded);
    }

    fn rows_are_read_changed_and_saved_through_the_transaction(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        let saved = stage.outbox.transaction(&mut conn, |tx| {
            insert_order(tx, 7)?;
            let mut order: Order = business::table.find(7).select(Order::as_select()).first(tx)?;
            order.name = "saved".to_owned();
            tx.enqueue(note(order.name.clone()))?;
            order.save_changes::<Order>(tx)
        }).unwrap();
        assert_eq!(saved, Order { id: 7, name: "saved".to_owned() });
        assert_eq!(stage.names(), ["saved"]);
        stage.recorder.wait_for_count(1, State::Succeeded);
        assert_eq!(stage.probe.seen(), ["saved"]);
    }

    fn question_marks_turn_every_error_into_the_users_own(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        let mut place = |id: i32, call: Call| -> Result<String, OnlyFromDiesel> {
            stage.outbox.transaction(&mut conn, |tx| {
                insert_order(tx, id)?;
                let receipt = tx.enqueue(call)?;
                Ok::<_, OnlyFromDiesel>(receipt.task_id().to_owned())
            })
        };
        let task_id = place(1, text("first")).unwrap();
        let twin = place(1, text("twin")).unwrap_err();
        assert!(matches!(twin.0, Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)), "{twin:?}");
        let refused = place(2, text("refused").priority(10)).unwrap_err();
        assert!(enqueue_error(&refused.0).is_some(), "{refused:?}");
        stage.recorder.wait_for_settled(&task_id, State::Succeeded);
        assert_eq!((stage.names().len(), stage.tasks()), (1, 1));
    }

    fn anyhow_carries_our_errors_so_that_they_are_found_again(database: &Database) {
        let stage = Stage::on(database);
        let mut conn = database.connection::<Conn>();
        let kept = stage.outbox.transaction(&mut conn, |tx| -> anyhow::Result<i64> {
            insert_order(tx, 1)?;
            tx.enqueue(text("kept"))?;
            Ok("42".parse::<i64>()?)
        });
        assert_eq!(kept.unwrap(), 42);
        let failed = stage.outbox.transaction(&mut conn, |tx| -> anyhow::Result<i64> {
            tx.enqueue(text("gone"))?;
            Ok("no number".parse::<i64>()?)
        });
        assert!(failed.unwrap_err().is::<std::num::ParseIntError>());
        let nested = conn.transaction(|conn| stage.outbox.transaction(conn, |tx| -> anyhow::Result<()> {
            tx.enqueue(text("gone"))?;
            Ok(())
        }));
        let error = nested.unwrap_err();
        let found = error.downcast_ref::<Error>().and_then(TransactionError::of);
        assert!(matches!(found, Some(TransactionError::AlreadyOpen)), "{error:?}");
        stage.recorder.wait_for_count(1, State::Succeeded);
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["kept".to_owned()], 1));
    }
}
