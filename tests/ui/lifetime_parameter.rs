use consistency_diesel::prelude::*;

#[consistency_task]
fn send<'a>(message: &'a str) -> Result<(), TaskError> {
    drop(message.len());
    Ok(())
}

fn main() {}
