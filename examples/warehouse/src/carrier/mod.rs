//! The carrier: a small HTTP server that writes every parcel into its ledger, and that really fails.

mod ledger;
mod mood;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::TcpSocket;
use tokio::time::sleep;

pub(crate) use self::ledger::CarrierReport;
use self::ledger::Ledger;
use self::mood::Mood;
use crate::args::CarrierArguments;
use crate::delivery::{ANSWER_WITHIN, IDEMPOTENCY_KEY, Parcel};

/// How long a carrier refuses connections on its very first day.
const OPENS_AFTER: Duration = Duration::from_secs(2);
/// A slow answer that is still in time.
const SLOW: Duration = Duration::from_millis(300);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

struct Desk {
    ledger: Mutex<Ledger>,
    calm: bool,
}

impl Desk {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Every entry is a single write, so a ledger whose holder panicked is still whole.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until standard input closes. The first line of standard output is the address, the last one the report.
pub(crate) fn run(arguments: &CarrierArguments) -> Result<()> {
    let ledger = Ledger::open(&arguments.dir)?;
    let first_day = ledger.is_empty();
    let desk = Arc::new(Desk { ledger: Mutex::new(ledger), calm: arguments.calm });
    std::thread::spawn({
        let desk = Arc::clone(&desk);
        move || close_when_nobody_is_left(&desk)
    });
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("the carrier's runtime")?;
    runtime.block_on(serve(desk, first_day))
}

/// Waits for the end of standard input, which also comes when the parent is killed; then reports and exits.
fn close_when_nobody_is_left(desk: &Desk) {
    // An error on standard input means the same as its end: nobody is left.
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    // Holding the ledger keeps the exit from cutting an entry in half.
    let ledger = desk.ledger();
    let report = serde_json::to_string(&ledger.report()).unwrap_or_default();
    // A killed parent reads no report; that is no reason to complain.
    let _ = writeln!(io::stdout(), "{report}");
    std::process::exit(0);
}

async fn serve(desk: Arc<Desk>, first_day: bool) -> Result<()> {
    let socket = TcpSocket::new_v4().context("the carrier's socket")?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).context("the carrier's port")?;
    println!("{}", socket.local_addr().context("the carrier's address")?);
    if first_day && !desk.calm {
        // Bound but not listening: the address is known, and connections are refused.
        sleep(OPENS_AFTER).await;
    }
    let listener = socket.listen(BACKLOG).context("the carrier cannot listen")?;
    let router = Router::new().route("/parcels", post(accept)).route("/report", get(report)).with_state(desk);
    axum::serve(listener, router).await.context("the carrier")
}

async fn accept(State(desk): State<Arc<Desk>>, headers: HeaderMap, Json(parcel): Json<Parcel<String>>) -> StatusCode {
    let Some(key) = headers.get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok()) else {
        return StatusCode::BAD_REQUEST;
    };
    let mood = desk.ledger().arrival(key, |arrival| match desk.calm {
        true => Mood::Willing,
        false => Mood::towards(parcel.order_no, arrival),
    });
    match mood {
        Mood::Broken => return StatusCode::INTERNAL_SERVER_ERROR,
        Mood::Slow => sleep(SLOW).await,
        Mood::Forgetful | Mood::Willing => {}
    }
    if desk.ledger().accept(parcel.order_no, key).is_err() {
        return StatusCode::INSUFFICIENT_STORAGE;
    }
    if mood == Mood::Forgetful {
        // The parcel is in the ledger, but who sent it has stopped waiting and will come again.
        sleep(ANSWER_WITHIN * 2).await;
    }
    StatusCode::OK
}

async fn report(State(desk): State<Arc<Desk>>) -> Json<CarrierReport> {
    Json(desk.ledger().report())
}
