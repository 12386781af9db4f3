use consistency_diesel::prelude::*;

#[consistency_task]
async fn send(text: String) -> Result<(), TaskError> {
    drop(text);
    Ok(())
}

fn wrong() -> Result<(), TaskError> {
    send(String::new())?;
    Ok(())
}

fn main() {
    drop(wrong());
}

