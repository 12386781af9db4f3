use consistency_diesel::prelude::*;

#[consistency_task(backoff = exponential(max = "1h"))]
fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {}
