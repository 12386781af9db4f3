use consistency_diesel::prelude::*;

#[consistency_task]
async fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn wrong(outbox: &Outbox) {
    let _ = outbox.enqueue(send(String::new()));
}

fn main() {}

