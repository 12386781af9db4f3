//! An order is stored together with the task that finishes it, and a carrier that really fails hears of every parcel.
//!
//! Start reading in `tasks.rs`: it is the whole use of the outbox. `shop` is ordinary Diesel code, `carrier` is the other
//! side, and `play.rs` puts them together.

mod args;
mod carrier;
mod carrier_process;
mod delivery;
mod orders;
mod play;
mod progress;
mod report;
mod shop;
mod tasks;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::args::{Arguments, Command, Driver, SceneArguments};
use crate::play::{Ending, play};

/// Some order is not delivered, and will not be without a person.
const SOME_UNDELIVERED: u8 = 1;
/// The scene could not be played: bad input, or something it needs is not there. Clap uses the same code.
const NOT_PLAYED: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        Some(Command::Carrier(carrier)) => carrier::run(carrier).map(|()| Ending::AllDelivered),
        None => play_on_its_database(&arguments.scene),
    };
    match outcome {
        Ok(Ending::AllDelivered) => ExitCode::SUCCESS,
        Ok(Ending::SomeUndelivered) => ExitCode::from(SOME_UNDELIVERED),
        Err(error) => {
            // Drivers break their messages into lines; one sentence reads better.
            let text = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
            eprintln!("warehouse: {text}");
            ExitCode::from(NOT_PLAYED)
        }
    }
}

fn play_on_its_database(arguments: &SceneArguments) -> Result<Ending> {
    let driver = arguments.driver()?;
    let orders = orders::read(arguments.orders.as_deref())?;
    match driver {
        #[cfg(feature = "sqlite")]
        Driver::Sqlite => play::<diesel::SqliteConnection>(arguments, driver, orders),
        #[cfg(feature = "postgres")]
        Driver::Postgres => play::<diesel::PgConnection>(arguments, driver, orders),
        #[cfg(feature = "mysql")]
        Driver::Mysql => play::<diesel::MysqlConnection>(arguments, driver, orders),
        #[cfg(not(all(feature = "sqlite", feature = "postgres", feature = "mysql")))]
        not_built_in => {
            let feature = match not_built_in {
                Driver::Sqlite => "sqlite",
                Driver::Postgres => "postgres",
                Driver::Mysql => "mysql",
            };
            anyhow::bail!(
                "this build has no {feature} driver: run it with `cargo run -p warehouse --features {feature} -- ..`"
            )
        }
    }
}
