use consistency_diesel::prelude::*;

#[consistency_task]
fn send(message: impl ToString) -> Result<(), TaskError> {
    drop(message.to_string());
    Ok(())
}

fn main() {}
