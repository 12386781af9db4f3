use consistency_diesel::prelude::*;

struct Mailer;

#[consistency_task]
impl Mailer {
    #[consistency_task]
    fn send(text: String) {
        drop(text);
    }

    fn send_body() {}
}

fn main() {}
