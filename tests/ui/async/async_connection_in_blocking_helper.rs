use consistency_diesel::prelude::*;
use diesel::SqliteConnection;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

fn send(outbox: Outbox, mut conn: SyncConnectionWrapper<SqliteConnection>) -> diesel::QueryResult<()> {
    outbox.transaction(&mut conn, |_| Ok(()))
}

fn main() {
    let _ = send;
}
