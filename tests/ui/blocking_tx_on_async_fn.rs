use consistency_diesel::prelude::*;
use diesel::SqliteConnection;

#[consistency_task]
async fn send(#[tx] tx: &mut TaskTx<'_, SqliteConnection>) -> Result<(), TaskError> {
    let _ = tx;
    Ok(())
}

fn main() {}
