//! Places three orders and prints the audit trail, which is in another database.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use two_outboxes::audit::Audit;
use two_outboxes::orders::Orders;

/// How long the trail may take to hear of everything.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let audit = Arc::new(Audit::open("audit.db")?);
    let orders = Orders::open("orders.db", Arc::clone(&audit))?;

    let before = audit.entries()?.len();
    for sku in ["bolt", "nut", "washer"] {
        orders.place(sku)?;
    }

    // Placed and shipped, of three orders.
    let (expected, began) = (before + 6, Instant::now());
    while audit.entries()?.len() < expected && began.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(10));
    }
    // First the one that needs the other.
    orders.database().close();
    audit.database().close();

    let entries = audit.entries()?;
    entries.iter().skip(before).for_each(|(subject, event)| println!("{subject} {event}"));
    ensure!(
        entries.len() >= expected,
        "the trail has not heard of everything; what is missing comes with the next start"
    );
    Ok(())
}
