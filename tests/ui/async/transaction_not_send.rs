use std::rc::Rc;

use consistency_diesel::async_prelude::*;
use diesel::SqliteConnection;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

#[consistency_task]
async fn note(text: String) {
    drop(text);
}

async fn send(outbox: Outbox, mut conn: SyncConnectionWrapper<SqliteConnection>) -> diesel::QueryResult<()> {
    outbox
        .transaction(&mut conn, async |tx| {
            let local = Rc::new(());
            tx.enqueue(note("sent".to_owned())).await?;
            drop(local);
            Ok(())
        })
        .await
}

fn main() {
    let _ = send;
}
