use consistency_diesel::prelude::*;

#[consistency_task(max_attempts = 0)]
fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {}
