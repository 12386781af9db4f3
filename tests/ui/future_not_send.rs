use consistency_diesel::prelude::*;

use std::rc::Rc;

#[consistency_task]
async fn send(text: String) -> Result<(), TaskError> {
    let shared = Rc::new(text);
    std::future::ready(()).await;
    drop(shared);
    Ok(())
}

fn main() {}
