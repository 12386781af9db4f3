use consistency_diesel::prelude::*;

struct Mailer;

#[consistency_task(queue = "mail")]
impl Mailer {
    #[consistency_task]
    fn send(text: String) {
        drop(text);
    }
}

fn main() {}
