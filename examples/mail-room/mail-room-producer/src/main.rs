//! Commits letters, each in one transaction with its two tasks, and ends. It runs no task: that is the worker's part.

use anyhow::{Context, Result, bail};
use clap::Parser;
use consistency_diesel::prelude::*;
use diesel::result::QueryResult;
use mail_room_billing::Billing;
use mail_room_tasks::{Letter, Letters, deliver};
use uuid::Uuid;

/// What a letter costs.
const POSTAGE_PENCE: i32 = 87;

/// Hands in letters. Each is committed together with the tasks that deliver it and charge for it.
#[derive(Debug, Parser)]
#[command(name = "mail-room-producer", version)]
struct Arguments {
    /// sqlite://FILE, postgres://USER@HOST/DATABASE or mysql://USER@HOST/DATABASE.
    #[arg(long, value_name = "URL", default_value = "sqlite://mail-room.db")]
    database_url: String,
    /// How many letters.
    #[arg(long, value_name = "N", default_value_t = 100)]
    letters: u32,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.database_url.split_once("://") {
        #[cfg(feature = "sqlite")]
        Some(("sqlite", file)) => hand_in::<diesel::SqliteConnection>(&arguments, file),
        #[cfg(feature = "postgres")]
        Some(("postgres" | "postgresql", _)) => hand_in::<diesel::PgConnection>(&arguments, &arguments.database_url),
        #[cfg(feature = "mysql")]
        Some(("mysql", _)) => hand_in::<diesel::MysqlConnection>(&arguments, &arguments.database_url),
        _ => bail!(
            "--database-url names no database this build knows; write `sqlite://FILE`, or build it with a feature"
        ),
    }
}

/// Hands in the letters on a connection to `address`.
fn hand_in<C: Letters + Billing>(arguments: &Arguments, address: &str) -> Result<()> {
    let outbox = Outbox::builder(&arguments.database_url).enqueue_only().migrate().start_blocking()?;
    let mut conn = C::establish(address).context("cannot open the database")?;
    conn.set_up_letters().context("cannot create the table of letters")?;
    conn.set_up_billing().context("cannot create the table of postage")?;

    for number in 1..=arguments.letters {
        let letter = Letter { id: Uuid::now_v7().to_string(), recipient: format!("box {}", number % 50) };
        store(&outbox, &mut conn, &letter).with_context(|| format!("cannot store letter {number}"))?;
        println!("committed {}", letter.id);
    }
    Ok(())
}

/// Stores a letter and its two tasks: all or nothing.
fn store<C: Letters + Billing>(outbox: &Outbox, conn: &mut C, letter: &Letter) -> QueryResult<()> {
    outbox.transaction(conn, |tx| {
        tx.insert_letter(letter)?;
        tx.enqueue(deliver(&letter.id, &letter.recipient))?;
        tx.enqueue(C::charge(&letter.id, POSTAGE_PENCE))?;
        Ok(())
    })
}
