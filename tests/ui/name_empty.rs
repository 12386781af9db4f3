use consistency_diesel::prelude::*;

#[consistency_task(name = "")]
fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {}
