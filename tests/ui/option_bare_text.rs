use consistency_diesel::prelude::*;

#[consistency_task("mail.send")]
fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {}
