use consistency_diesel::async_prelude::*;
use diesel::SqliteConnection;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

#[consistency_task]
fn send(#[tx] tx: &mut TaskTx<'_, SyncConnectionWrapper<SqliteConnection>>) -> Result<(), TaskError> {
    let _ = tx;
    Ok(())
}

fn main() {}
