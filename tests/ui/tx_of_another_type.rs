use consistency_diesel::prelude::*;
use diesel::SqliteConnection;

#[consistency_task]
fn send(text: String, #[tx] tx: &mut SqliteConnection) -> Result<(), TaskError> {
    let _ = (text, tx);
    Ok(())
}

fn main() {}
