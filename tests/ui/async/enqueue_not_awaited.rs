use consistency_diesel::async_prelude::*;
use diesel::SqliteConnection;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

#[consistency_task]
async fn note(text: String) {
    drop(text);
}

async fn send(tx: &mut TaskTx<'_, SyncConnectionWrapper<SqliteConnection>>) -> diesel::QueryResult<()> {
    tx.enqueue(note("sent".to_owned()))?;
    Ok(())
}

fn main() {
    let _ = send;
}
