//! The command line.

use std::time::Duration;

use clap::Parser;
use clap::value_parser;

/// Takes orders over HTTP, takes their items from stock, and tells a shipper until it knows.
#[derive(Debug, Parser)]
#[command(name = "axum-orders", version)]
pub(crate) struct Arguments {
    /// postgres://USER:PASSWORD@HOST/DATABASE; its tables are created where they are missing.
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: String,
    /// Where to listen for requests; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    pub(crate) listen: String,
    /// Where parcels are announced, by POST; without it a stand-in within this service takes them.
    #[arg(long, value_name = "URL")]
    pub(crate) shipper: Option<String>,
    /// After a crash, its tasks start again when their lease has run out: after this long.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = value_parser!(u64).range(1..=3600))]
    pub(crate) lease_secs: u64,
    /// How long a shutdown goes on accepting while /health says 503, so that a load balancer can turn away first.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = value_parser!(u64).range(..=3600))]
    pub(crate) drain_secs: u64,
    /// How long a shutdown waits for open requests, and then for running tasks.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = value_parser!(u64).range(..=3600))]
    pub(crate) grace_secs: u64,
}

/// How long the steps of a shutdown may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Accepting on, while `/health` says 503.
    pub(crate) drain: Duration,
    /// Waiting for what is under way.
    pub(crate) grace: Duration,
}

impl Arguments {
    /// The limits of a shutdown.
    pub(crate) fn limits(&self) -> Limits {
        Limits { drain: Duration::from_secs(self.drain_secs), grace: Duration::from_secs(self.grace_secs) }
    }
}
