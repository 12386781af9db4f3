//! The same transactions on connections of diesel-async, one for each task of Tokio's.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use consistency_diesel::async_prelude::*;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};

use crate::drain_tasks::{noop, payload};
use crate::options::Options;
use crate::prepared::Prepared;

/// Commits so many on so many connections; the seconds that took, and each one's milliseconds.
pub(crate) fn commit(options: &Options, tasks: usize, producers: usize) -> Result<(f64, Vec<f64>), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let outbox = Arc::new(Outbox::builder(&options.url).enqueue_only().start().await?);
        let mut connections = Vec::new();
        for _ in 0..producers {
            connections.push(AsyncPgConnection::establish(options.address()).await?);
        }
        let note = payload(options.payload);
        let begun = Instant::now();
        let producing: Vec<_> = connections
            .into_iter()
            .enumerate()
            .map(|(first, mut conn)| {
                let (outbox, note) = (Arc::clone(&outbox), note.clone());
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    for number in (first..tasks).step_by(producers) {
                        let begun = Instant::now();
                        one(&mut conn, &outbox, number, &note).await.map_err(|error| error.to_string())?;
                        times.push(begun.elapsed().as_secs_f64() * 1000.0);
                    }
                    Ok::<_, String>(times)
                })
            })
            .collect();
        let mut times = Vec::with_capacity(tasks);
        for task in producing {
            times.extend(task.await??);
        }
        let seconds = begun.elapsed().as_secs_f64();
        outbox.shutdown().await;
        Ok((seconds, times))
    })
}

async fn one(conn: &mut AsyncPgConnection, outbox: &Outbox, number: usize, note: &str) -> diesel::QueryResult<()> {
    outbox
        .transaction(conn, async |tx| {
            let text = "INSERT INTO measure_business (number, note) VALUES (?, 'a line of an order')";
            Prepared::new(text, [(number as i64).into()]).execute(tx).await?;
            tx.enqueue(noop(number as u64, note)).await.map(drop)
        })
        .await
}
