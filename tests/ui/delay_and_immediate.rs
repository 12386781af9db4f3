use consistency_diesel::prelude::*;

#[consistency_task(mode = immediate, delay = "5s")]
fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {}
