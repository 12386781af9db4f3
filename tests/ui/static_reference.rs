use consistency_diesel::prelude::*;

#[consistency_task]
fn send(text: &'static str) -> Result<(), TaskError> {
    drop(text.len());
    Ok(())
}

fn main() {}
