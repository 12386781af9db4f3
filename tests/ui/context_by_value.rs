use consistency_diesel::prelude::*;

#[consistency_task]
fn send(#[context] cx: TaskContext) -> Result<(), TaskError> {
    drop(cx);
    Ok(())
}

fn main() {}
