use consistency_diesel::prelude::*;
use diesel::SqliteConnection;

#[consistency_task]
fn send(#[tx] #[sensitive] tx: &mut TaskTx<SqliteConnection>) {
    let _ = tx;
}

fn main() {}
