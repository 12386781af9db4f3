use consistency_diesel::prelude::*;

struct Connection;

#[consistency_task]
fn send(text: String, #[tx] tx: &mut Connection) -> Result<(), TaskError> {
    let _ = (text, tx);
    Ok(())
}

fn main() {}
