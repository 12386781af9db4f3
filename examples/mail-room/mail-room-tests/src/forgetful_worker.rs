//! A worker that expects the tasks of two crates and names only one of them: the mistake that `expect_tasks` is there for.

use std::path::Path;

use anyhow::{Context, Result};
use consistency_diesel::prelude::*;
// `use mail_room_billing as _;` is missing here.
use mail_room_tasks::Postman;

fn main() -> Result<()> {
    let round_book = std::env::args().nth(1).context("usage: mail-room-forgetful-worker ROUND_BOOK")?;
    Outbox::builder("sqlite://never-opened.db")
        .expect_tasks(["letter.charge", "letter.deliver"])
        .inject(Postman::with_round_book(Path::new(&round_book))?)
        .check()?;
    Ok(())
}
