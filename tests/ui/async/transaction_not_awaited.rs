#![deny(unused_must_use)]

use consistency_diesel::async_prelude::*;
use diesel::SqliteConnection;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

#[consistency_task]
async fn note(text: String) {
    drop(text);
}

async fn send(outbox: Outbox, mut conn: SyncConnectionWrapper<SqliteConnection>) {
    outbox.transaction(&mut conn, async |tx| {
        tx.enqueue(note("sent".to_owned())).await?;
        diesel::QueryResult::Ok(())
    });
}

fn main() {
    let _ = send;
}
