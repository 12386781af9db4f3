use consistency_diesel::prelude::*;

#[consistency_task(retry_every = "30")]
fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {}
