use consistency_diesel::prelude::*;

#[consistency_task(retry_every = "0s")]
fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {}
