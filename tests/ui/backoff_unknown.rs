use consistency_diesel::prelude::*;

#[consistency_task(backoff = exponental(jitter = 20))]
fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {}
