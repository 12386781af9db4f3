use consistency_diesel::prelude::*;

#[consistency_task]
fn send(_: String) -> Result<(), TaskError> {
    Ok(())
}

fn main() {}
