//! The end, in good order: no more requests are wanted, none are accepted, the open ones end, then the running tasks do.

use std::future::IntoFuture;
use std::io;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::app::App;
use crate::args::Limits;
use crate::health::Readiness;

/// Serves until SIGTERM or SIGINT, and returns when nothing is under way any more.
///
/// # Errors
/// When the operating system gives no signals or no connections.
pub(crate) async fn serve_until_asked_to_stop(
    listener: TcpListener,
    router: Router,
    app: &App,
    limits: &Limits,
) -> Result<()> {
    let signals = Signals::listen().context("cannot listen for signals")?;
    let (close, closed) = oneshot::channel();
    let readiness = app.readiness.clone();
    let drain = limits.drain;
    let leaving = async move {
        leave(signals, &readiness, drain).await;
        // Nobody listens if the server has ended by itself.
        let _ = close.send(());
    };
    let server = axum::serve(listener, router).with_graceful_shutdown(leaving).into_future();
    let overdue = async {
        // An error means the same: nothing is accepted any more.
        let _ = closed.await;
        sleep(limits.grace).await;
    };
    tokio::select! {
        served = server => served.context("cannot serve")?,
        () = overdue => tracing::warn!("requests that are still open are cut off"),
    }
    // Only now: what the last requests enqueued still has its chance to run. What does not end in its grace is put back.
    app.outbox.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}

/// Waits for a signal, says that no more requests are wanted, and goes on accepting for a while. A second signal is in a hurry.
async fn leave(mut signals: Signals, readiness: &Readiness, drain: Duration) {
    signals.next().await;
    readiness.leave();
    tracing::info!("shutting down");
    // Either way it is time to go.
    let _ = timeout(drain, signals.next()).await;
    tracing::info!("accepting no more requests");
}

/// The two signals that ask a process to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on the signals are heard here, instead of ending the process.
    fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
