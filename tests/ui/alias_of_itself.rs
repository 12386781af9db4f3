use consistency_diesel::prelude::*;

#[consistency_task(name = "mail.send", alias = "mail.send")]
fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {}
