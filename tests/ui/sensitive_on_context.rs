use consistency_diesel::prelude::*;

#[consistency_task]
fn send(#[context] #[sensitive] cx: &TaskContext) {
    let _ = cx;
}

fn main() {}
