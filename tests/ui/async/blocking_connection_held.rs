use consistency_diesel::async_prelude::*;
use diesel::SqliteConnection;

#[consistency_task]
async fn note(text: String) {
    drop(text);
}

async fn send(outbox: Outbox, mut conn: SqliteConnection) -> diesel::QueryResult<()> {
    outbox
        .transaction(&mut conn, async |tx| {
            tx.enqueue(note("sent".to_owned())).await?;
            Ok(())
        })
        .await
}

fn main() {
    let _ = send;
}
