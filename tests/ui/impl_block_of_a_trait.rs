use consistency_diesel::prelude::*;

struct Mailer;

trait Sends {
    fn send(text: String);
}

#[consistency_task]
impl Sends for Mailer {
    #[consistency_task]
    fn send(text: String) {
        drop(text);
    }
}

fn main() {}
