//! Tells the carrier about a parcel: over HTTP to the example's own carrier, or through RabbitMQ.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// The header that carries the idempotency key.
pub(crate) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// The carrier answers in milliseconds when it is well. After this long its answer counts as lost.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// A broker syncs messages to disk before it confirms them, and the first publication also connects.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);
/// The durable queue `--amqp` publishes to.
const QUEUE: &str = "warehouse.parcels";
/// AMQP's code for messages that survive a restart of the broker.
const PERSISTENT: u8 = 2;

/// What the carrier is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Parcel<Text> {
    pub(crate) order_no: i64,
    pub(crate) parcel_no: Text,
    pub(crate) quantity: i32,
}

/// The way to the carrier. Injected into the task that tells it.
pub(crate) struct Carrier {
    way: Way,
    slowest_us: AtomicU64,
}

enum Way {
    Http { client: reqwest::Client, url: String },
    Amqp(Box<Broker>),
}

impl Carrier {
    /// The carrier that listens at `address`.
    pub(crate) fn http(address: &str) -> Result<Self> {
        let client = reqwest::Client::builder().timeout(ANSWER_WITHIN).no_proxy().build().context("HTTP client")?;
        Ok(Self::by(Way::Http { client, url: format!("http://{address}/parcels") }))
    }

    /// RabbitMQ at `url`. Connects at the first publication, and again whenever the connection is lost.
    pub(crate) fn amqp(url: &str) -> Result<Self> {
        url.parse::<lapin::uri::AMQPUri>().map_err(|reason| {
            anyhow::anyhow!("--amqp `{url}` is no address like amqp://guest:guest@localhost: {reason}")
        })?;
        Ok(Self::by(Way::Amqp(Box::new(Broker { url: url.to_owned(), link: Mutex::new(None) }))))
    }

    fn by(way: Way) -> Self {
        Self { way, slowest_us: AtomicU64::new(0) }
    }

    /// Returns once the carrier, or the broker, has the parcel on disk.
    ///
    /// # Errors
    /// Whatever kept the answer from coming; the carrier may have the parcel all the same.
    pub(crate) async fn deliver(&self, parcel: &Parcel<&str>, key: &str) -> Result<()> {
        let started = Instant::now();
        match &self.way {
            Way::Http { client, url } => {
                let answer = client.post(url).header(IDEMPOTENCY_KEY, key).json(parcel).send().await?;
                answer.error_for_status()?;
            }
            Way::Amqp(broker) => {
                timeout(CONFIRM_WITHIN, broker.publish(&serde_json::to_vec(parcel)?, key))
                    .await
                    .with_context(|| format!("RabbitMQ did not confirm within {CONFIRM_WITHIN:?}"))??;
            }
        }
        let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.slowest_us.fetch_max(took_us, Ordering::Relaxed);
        Ok(())
    }

    /// The longest a successful delivery has taken.
    pub(crate) fn slowest(&self) -> Duration {
        Duration::from_micros(self.slowest_us.load(Ordering::Relaxed))
    }
}

/// RabbitMQ, with publisher confirms: a publication counts once the broker has stored it.
struct Broker {
    url: String,
    link: Mutex<Option<Link>>,
}

/// An open channel, and the connection that closes when it is dropped.
struct Link {
    channel: Channel,
    _connection: Connection,
}

impl Broker {
    async fn publish(&self, payload: &[u8], key: &str) -> Result<()> {
        let channel = self.channel().await.context("RabbitMQ cannot be reached")?;
        let properties = BasicProperties::default()
            .with_message_id(key.into())
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT);
        // Mandatory: a message no queue takes comes back instead of vanishing.
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirmation = channel.basic_publish("".into(), QUEUE.into(), options, payload, properties).await?.await?;
        ensure!(confirmation == Confirmation::Ack(None), "RabbitMQ did not take the message: {confirmation:?}");
        Ok(())
    }

    /// The open channel, or a new one.
    async fn channel(&self) -> Result<Channel> {
        let mut link = self.link.lock().await;
        if let Some(open) = link.as_ref().filter(|link| link.channel.status().connected()) {
            return Ok(open.channel.clone());
        }
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(QUEUE.into(), durable, FieldTable::default()).await?;
        *link = Some(Link { channel: channel.clone(), _connection: connection });
        Ok(channel)
    }
}
