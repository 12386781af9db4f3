//! The way to the shipper: somebody else's server, reached over HTTP.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use consistency_diesel::async_prelude::TaskError;
use reqwest::{Client, StatusCode, Url};
use serde::Serialize;

/// The header that carries the idempotency key, here and at the service's own door.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// After this long an answer counts as lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What the shipper is told.
#[derive(Debug, Serialize)]
pub(crate) struct Parcel<'a> {
    pub(crate) order_id: i64,
    pub(crate) sku: &'a str,
    pub(crate) quantity: i32,
}

/// The way to the shipper. Injected into the task that tells it.
pub(crate) struct Shipper {
    client: Client,
    url: Url,
}

impl Shipper {
    /// The shipper that is told by POST to `url`.
    ///
    /// # Errors
    /// When `url` is no address of a web server.
    pub(crate) fn at(url: &str) -> Result<Self> {
        let parsed = Url::parse(url).ok().filter(|parsed| parsed.scheme() == "http");
        let Some(url) = parsed else { bail!("the shipper `{url}` is no address like http://shipper.example/parcels") };
        let client = Client::builder().timeout(ANSWER_WITHIN).build().context("no HTTP client")?;
        Ok(Self { client, url })
    }

    /// Returns once the shipper has taken the parcel.
    ///
    /// # Errors
    /// Whatever kept the answer from coming; the shipper may have the parcel all the same. A parcel it will never take is
    /// an error no retry can mend.
    pub(crate) async fn tell(&self, parcel: &Parcel<'_>, key: &str) -> Result<()> {
        let request = self.client.post(self.url.clone()).header(IDEMPOTENCY_KEY, key).json(parcel);
        let status = request.send().await.context("the shipper cannot be reached")?.status();
        match status {
            _ if status.is_success() => Ok(()),
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                Err(TaskError::permanent(format!("the shipper refuses this parcel: {status}")).into())
            }
            _ => bail!("the shipper answered {status}"),
        }
    }
}
