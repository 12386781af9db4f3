use consistency_diesel::prelude::*;

struct Client;

#[consistency_task]
async fn send(text: &str, client: &Client, others: Option<&[Client]>) -> Result<(), TaskError> {
    let _ = (text, client, others);
    Ok(())
}

fn main() {}
