//! One mistake yields one error: everything that uses the refused function stays quiet.

use consistency_diesel::prelude::*;

struct Client;

#[consistency_task(priority = 12)]
fn send(text: &str, #[inject] client: &Client) -> Result<(), TaskError> {
    let _ = (text, client);
    Ok(())
}

fn main() {
    let call: Call = send("x").delay(std::time::Duration::from_secs(1));
    drop(call);
    let _ = send::body("x", &Client);
    Outbox::builder("sqlite://shop.db").register::<send>();
}

