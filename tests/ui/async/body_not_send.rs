use std::rc::Rc;

use consistency_diesel::async_prelude::*;
use diesel::SqliteConnection;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

#[consistency_task]
async fn note(text: String) {
    drop(text);
}

#[consistency_task]
async fn send(#[tx] tx: &mut TaskTx<'_, SyncConnectionWrapper<SqliteConnection>>) -> diesel::QueryResult<()> {
    let local = Rc::new(());
    tx.enqueue(note("sent".to_owned())).await?;
    drop(local);
    Ok(())
}

fn main() {}
