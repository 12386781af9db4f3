use consistency_diesel::prelude::*;

#[consistency_task(timeout = 30)]
fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {}
