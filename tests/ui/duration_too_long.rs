use consistency_diesel::prelude::*;

#[consistency_task(delay = "4000d")]
fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {}
