//! What a start asks of the place of its table, wherever that is.

use std::sync::Arc;

use consistency_core::error::Problem;
use consistency_core::settings::Settings;
use consistency_core::store::Store;
use consistency_core::task::NeededType;

use crate::dialect::Kind;
use crate::write_gate::WriteGate;

/// Opens the database, whichever it is.
pub(crate) trait Open: Send + Sync {
    /// Which database.
    fn kind(&self) -> Kind;
    /// Its address, when it was made from one.
    fn url(&self) -> Option<&str>;
    /// The connection types its `#[tx]` tasks can have.
    fn connections(&self) -> Vec<NeededType>;
    /// Connects once, migrates if asked to, and checks the table. Call it on a thread that may block.
    fn prepare(&self, settings: &Settings, migrate: bool) -> Result<(), Problem>;
    /// The store. No connection is opened yet.
    fn store(&self, settings: &Settings, gate: Arc<WriteGate>) -> Arc<dyn Store>;
}

/// The address as it may stand in a message.
pub(crate) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split_once(':').map_or(user, |(name, _)| name);
            format!("{scheme}://{user}@{host}")
        }
        None => url.to_owned(),
    }
}
