use consistency_diesel::prelude::*;

struct Context;

#[consistency_task]
fn send(#[context] cx: &Context) -> Result<(), TaskError> {
    let _ = cx;
    Ok(())
}

fn main() {}
