use consistency_diesel::prelude::*;
use diesel::SqliteConnection;

#[consistency_task]
fn send(#[tx] tx: &TaskTx<SqliteConnection>) -> Result<(), TaskError> {
    let _ = tx;
    Ok(())
}

fn main() {}
