use consistency_diesel::prelude::*;

#[consistency_task(mode = delayed)]
fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {}
