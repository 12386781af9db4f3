use consistency_diesel::prelude::*;

#[consistency_task(retry = "30s")]
fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {}
