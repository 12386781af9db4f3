use consistency_diesel::prelude::*;

#[consistency_task(priority = 10)]
fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {}
