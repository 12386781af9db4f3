use consistency_diesel::prelude::*;

#[consistency_task]
fn send(text: &mut String) -> Result<(), TaskError> {
    text.clear();
    Ok(())
}

fn main() {}
