use consistency_diesel::prelude::*;

#[consistency_task(mode = "scheduled")]
fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {}
