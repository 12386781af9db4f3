//! On SQLite, which has one writer, a `#[tx]` task that opens a transaction of the same outbox on another connection would wait
//! for itself, and everybody with it: it is told so at once.
#![cfg(feature = "sqlite")]

use std::sync::{Arc, OnceLock};

use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::database::on_fresh;
use consistency_tests::stage::{Probe, Stage};
use diesel::SqliteConnection;
use diesel::connection::Connection;
use diesel::result::QueryResult;

/// Where the body finds the outbox it runs in, once that is there.
#[derive(Clone, Default)]
struct Around {
    outbox: Arc<OnceLock<Outbox>>,
    address: String,
}

#[consistency_task]
fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

#[consistency_task(max_attempts = 1)]
fn nests(#[inject] around: &Around, #[tx] tx: &mut TaskTx<SqliteConnection>) -> QueryResult<()> {
    let mut other = SqliteConnection::establish(&around.address).unwrap();
    tx.enqueue(note("never".to_owned()))?;
    around.outbox.wait().transaction(&mut other, |tx| tx.enqueue(note("never".to_owned())).map(drop))
}

#[test]
fn a_task_with_a_transaction_that_opens_another_fails_at_once_and_says_why() {
    on_fresh(Backend::Sqlite, "nested_transactions::nests", |database| {
        let around = Around { address: database.address().to_owned(), ..Around::default() };
        let stage = Stage::with(database, |builder| builder.inject(around.clone()));
        around.outbox.set(stage.outbox.clone()).unwrap();
        let nested = stage.commit::<SqliteConnection>(nests());
        stage.recorder.wait_for_settled(&nested, State::Dead);
        let error = database.row(&nested).error_message.unwrap();
        assert!(error.contains("this transaction would wait for itself"), "{error}");
        // Nobody is held up any more.
        stage.run::<SqliteConnection>(note("afterwards".to_owned()));
        assert_eq!((stage.probe.seen(), stage.tasks()), (vec!["afterwards".to_owned()], 2));
    });
}
