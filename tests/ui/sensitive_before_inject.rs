use consistency_diesel::prelude::*;

struct Client;

#[consistency_task]
fn send(#[sensitive] #[inject] client: &Client) {
    let _ = client;
}

fn main() {}
