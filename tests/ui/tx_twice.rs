use consistency_diesel::prelude::*;
use diesel::SqliteConnection;

#[consistency_task]
fn send(#[tx] one: &mut TaskTx<SqliteConnection>, #[tx] two: &mut TaskTx<SqliteConnection>) -> Result<(), TaskError> {
    let _ = (one, two);
    Ok(())
}

fn main() {}
