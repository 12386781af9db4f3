//! The command line.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};

/// Stores each order together with the task that finishes it, and tells a carrier that really fails until it knows all.
#[derive(Debug, Parser)]
#[command(name = "warehouse", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) scene: SceneArguments,
}

/// What the program does beside playing the scene.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The carrier; the scene starts it by itself, in a process of its own.
    #[command(hide = true)]
    Carrier(CarrierArguments),
}

/// How to play the scene.
#[derive(Debug, Args)]
pub(crate) struct SceneArguments {
    /// sqlite://FILE, postgres://USER@HOST/DATABASE or mysql://USER@HOST/DATABASE.
    #[arg(long, value_name = "URL", default_value = "sqlite://warehouse.db")]
    pub(crate) database_url: String,
    /// Orders as CSV (order_no,customer_id,ordered_on,quantity,amount) instead of the 6,919 built in.
    #[arg(long, value_name = "FILE")]
    pub(crate) orders: Option<PathBuf>,
    /// Publish to this RabbitMQ (amqp://USER:PASSWORD@HOST) instead of the carrier.
    #[arg(long, value_name = "URL", conflicts_with_all = ["carrier_dir", "calm"])]
    pub(crate) amqp: Option<String>,
    /// Where the carrier keeps its ledger (default: beside the SQLite file, or warehouse-carrier-postgres, -mysql).
    #[arg(long, value_name = "DIR")]
    pub(crate) carrier_dir: Option<PathBuf>,
    /// A carrier that never fails, for timing.
    #[arg(long)]
    pub(crate) calm: bool,
}

/// How to run the carrier.
#[derive(Debug, Args)]
pub(crate) struct CarrierArguments {
    /// Where it keeps its ledger.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Never fail.
    #[arg(long)]
    pub(crate) calm: bool,
}

/// The databases the scene can be played on, built in or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driver {
    Sqlite,
    Postgres,
    Mysql,
}

impl SceneArguments {
    /// Which database the URL names.
    pub(crate) fn driver(&self) -> Result<Driver> {
        match self.database_url.split_once("://") {
            Some(("sqlite", file)) if !file.is_empty() => Ok(Driver::Sqlite),
            Some(("postgres" | "postgresql", _)) => Ok(Driver::Postgres),
            Some(("mysql", _)) => Ok(Driver::Mysql),
            _ => bail!(
                "--database-url `{}` is none of sqlite://FILE, postgres://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE",
                self.database_url
            ),
        }
    }

    /// The database URL without its password, for messages.
    pub(crate) fn shown_url(&self) -> String {
        match reqwest::Url::parse(&self.database_url) {
            Ok(mut url) if url.password().is_some() => {
                // Refused only for addresses without a host, which have no password either.
                let _ = url.set_password(None);
                url.to_string()
            }
            _ => self.database_url.clone(),
        }
    }

    /// Where the carrier keeps its ledger. A database of its own gets a ledger of its own: the keys differ.
    pub(crate) fn carrier_directory(&self, driver: Driver) -> PathBuf {
        match (&self.carrier_dir, driver) {
            (Some(directory), _) => directory.clone(),
            (None, Driver::Sqlite) => {
                let file = Path::new(sqlite_file(&self.database_url));
                let name = file.file_stem().unwrap_or_default().to_string_lossy();
                file.with_file_name(format!("{name}-carrier"))
            }
            (None, Driver::Postgres) => PathBuf::from("warehouse-carrier-postgres"),
            (None, Driver::Mysql) => PathBuf::from("warehouse-carrier-mysql"),
        }
    }
}

/// The file of a `sqlite://FILE` URL.
pub(crate) fn sqlite_file(url: &str) -> &str {
    url.strip_prefix("sqlite://").unwrap_or(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(arguments: &[&str]) -> SceneArguments {
        Arguments::parse_from(std::iter::once(&"warehouse").chain(arguments)).scene
    }

    #[test]
    fn the_ledger_lies_beside_the_database() {
        let directory = |arguments: &[&str]| {
            let scene = scene(arguments);
            scene.carrier_directory(scene.driver().unwrap())
        };
        assert_eq!(directory(&[]), Path::new("warehouse-carrier"));
        assert_eq!(directory(&["--database-url", "sqlite:///var/shop.db"]), Path::new("/var/shop-carrier"));
        assert_eq!(directory(&["--database-url", "mysql://root@localhost/a"]), Path::new("warehouse-carrier-mysql"));
        assert_eq!(directory(&["--carrier-dir", "here"]), Path::new("here"));
    }

    #[test]
    fn a_password_is_not_shown() {
        let shown = |url| scene(&["--database-url", url]).shown_url();
        assert_eq!(shown("postgres://me:secret@db/shop"), "postgres://me@db/shop");
        assert_eq!(shown("sqlite://warehouse.db"), "sqlite://warehouse.db");
    }

    #[test]
    fn an_unknown_database_is_refused_with_the_known_ones() {
        let error = scene(&["--database-url", "oracle://x"]).driver().unwrap_err().to_string();
        assert!(error.contains("`oracle://x` is none of sqlite://FILE"), "{error}");
    }
}
