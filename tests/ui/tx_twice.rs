use consistency_diesel::prelude::*;

struct Connection;

#[consistency_task]
fn send(#[tx] one: &mut TaskTx<Connection>, #[tx] two: &mut TaskTx<Connection>) -> Result<(), TaskError> {
    let _ = (one, two);
    Ok(())
}

fn main() {}
