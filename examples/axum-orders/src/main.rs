//! An order is stored together with its task, and the rest happens even if the process is killed.
//!
//! Start reading in `orders.rs`, where the order and its task are stored, and `tasks.rs`, where the tasks are. `app.rs` puts
//! the parts together, `shutdown.rs` takes them apart in good order.

mod app;
mod args;
mod error;
mod extract;
mod health;
mod order;
mod orders;
mod routes;
mod schema;
mod shipper;
mod shutdown;
mod stand_in;
mod tasks;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::app::App;
use crate::args::Arguments;

/// The service could not start: bad input, or something it needs is not there. Clap uses the same code.
const NOT_STARTED: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    match serve(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Drivers break their messages into lines; one sentence reads better.
            let text = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
            eprintln!("axum-orders: {text}");
            ExitCode::from(NOT_STARTED)
        }
    }
}

async fn serve(arguments: &Arguments) -> Result<()> {
    trace_to_standard_error()?;
    // Bound first: the shipper may be a route of this very service, and a port that is taken is better known early.
    let listener =
        TcpListener::bind(&arguments.listen).await.with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let address = listener.local_addr().context("the listener has no address")?;
    let shipper = arguments.shipper.clone().unwrap_or_else(|| format!("http://{address}{}", stand_in::PATH));
    let app = App::start(arguments, &shipper).await?;
    let router = routes::router(app.clone(), arguments.shipper.is_none());
    println!("listening on http://{address}");
    shutdown::serve_until_asked_to_stop(listener, router, &app, &arguments.limits()).await
}

/// Lines on standard error: those of requests inside their span `request`, those of tasks inside the library's span `attempt`.
/// `RUST_LOG` chooses which; the default is `info`.
fn trace_to_standard_error() -> Result<()> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env()
        .context("RUST_LOG is not understood")?;
    // Plain text whoever reads it, and whichever features other crates of a build ask for.
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    Ok(())
}
