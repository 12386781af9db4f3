use consistency_diesel::prelude::*;

struct Connection;

#[consistency_task]
fn send(#[tx] tx: &TaskTx<Connection>) -> Result<(), TaskError> {
    let _ = tx;
    Ok(())
}

fn main() {}
