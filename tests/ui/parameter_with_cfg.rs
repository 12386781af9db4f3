use consistency_diesel::prelude::*;

#[consistency_task]
fn send(#[cfg(unix)] text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {}
