use consistency_diesel::prelude::*;

#[consistency_task]
fn send(texts: Vec<&str>, pairs: &[(&str, i64)]) -> Result<(), TaskError> {
    drop((texts.len(), pairs.len()));
    Ok(())
}

fn main() {}
