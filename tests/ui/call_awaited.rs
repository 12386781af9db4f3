use consistency_diesel::prelude::*;

#[consistency_task]
async fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

async fn wrong() {
    send(String::new()).await;
}

fn main() {
    drop(wrong());
}

