use consistency_diesel::prelude::*;

#[consistency_task(backoff = linear(jitter = 101))]
fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {}
