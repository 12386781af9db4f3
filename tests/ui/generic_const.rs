use consistency_diesel::prelude::*;

#[consistency_task]
fn send<const N: usize>(message: [u8; N]) -> Result<(), TaskError> {
    drop(message);
    Ok(())
}

fn main() {}
