use consistency_diesel::prelude::*;

#[consistency_task]
fn send<T: serde::Serialize>(message: T) -> Result<(), TaskError> {
    drop(message);
    Ok(())
}

fn main() {}
