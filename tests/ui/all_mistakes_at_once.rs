use consistency_diesel::prelude::*;

struct Client;

#[consistency_task(nam = "mail.send", priority = 12, retry_every = "soon")]
unsafe fn send<T>(
    (to, text): (String, String),
    #[inject] client: Client,
    #[context] cx: TaskContext,
    count: &mut i64,
    texts: Vec<&str>,
) -> Result<(), TaskError> {
    let _ = (to, text, client, cx, count, texts);
    Ok(())
}

fn main() {}
