use consistency_diesel::prelude::*;

struct Client;

#[consistency_task]
fn send(#[default] #[inject] client: &Client) -> Result<(), TaskError> {
    let _ = client;
    Ok(())
}

fn main() {}
