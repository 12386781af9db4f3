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

/// The address as it may stand in a message: no password of the login, of an option, or of libpq's `key=value` form.
pub(crate) fn without_password(url: &str) -> String {
    const KEY: &str = "password";
    let Some((scheme, rest)) = url.split_once("://") else {
        return match url.to_ascii_lowercase().find(KEY) {
            // Where the value ends is the driver's to know.
            Some(at) => format!("{}{KEY}=***", &url[..at]),
            None => url.to_owned(),
        };
    };
    let (address, options) = rest.split_once('?').unwrap_or((rest, ""));
    let address = match address.rsplit_once('@') {
        Some((login, host)) => format!("{}@{host}", login.split_once(':').map_or(login, |(name, _)| name)),
        None => address.to_owned(),
    };
    let option = |option: &str| match option.split_once('=') {
        Some((key, _)) if key.to_ascii_lowercase().contains(KEY) => format!("{key}=***"),
        _ => option.to_owned(),
    };
    let options: Vec<String> = options.split('&').filter(|option| !option.is_empty()).map(option).collect();
    let mark = if options.is_empty() { "" } else { "?" };
    format!("{scheme}://{address}{mark}{}", options.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_shows_a_password() {
        let cases = [
            ("postgres://ann@db/shop", "postgres://ann@db/shop"),
            ("postgres://ann:s3cret@db:5432/shop?sslmode=require", "postgres://ann@db:5432/shop?sslmode=require"),
            ("postgres://ann:p@s3cret@db/shop", "postgres://ann@db/shop"),
            ("postgres://db/shop?user=a@b&password=s3cret&x=1", "postgres://db/shop?user=a@b&password=***&x=1"),
            ("postgres://db/shop?sslPassword=s3cret", "postgres://db/shop?sslPassword=***"),
            ("host=db password = 's3cret x' user=ann", "host=db password=***"),
            ("shop.db", "shop.db"),
        ];
        for (url, shown) in cases {
            assert_eq!(without_password(url), shown);
        }
    }
}
