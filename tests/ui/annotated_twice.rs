use consistency_diesel::prelude::*;

#[consistency_task(name = "mail.send")]
#[consistency_task(queue = "mail")]
fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn main() {}
