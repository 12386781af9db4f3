use consistency_diesel::prelude::*;

#[consistency_task(queue = "mail", queue = "letters")]
fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {}
