use consistency_diesel::prelude::*;

#[consistency_task]
unsafe fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {}
