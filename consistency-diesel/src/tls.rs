//! PostgreSQL over TLS, through rustls: diesel-async's own way to connect knows none.

use std::sync::Arc;

use diesel::ConnectionResult;
use diesel::result::ConnectionError;
use diesel_async::AsyncPgConnection;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Connects to `url`; where it says `sslmode=require`, over TLS to a server whose certificate is checked.
///
/// The certificate must be issued for the host of the address by somebody the system trusts; the environment variable
/// `SSL_CERT_FILE` names a file of certificates to trust instead. Without `sslmode=require` the connection is plain: encryption
/// with a server nobody has checked protects little, and would fail later, when the server's certificate changes.
///
/// The runtime's own connections are made with it. For yours, give it to the pool's manager
/// (`ManagerConfig::custom_setup`).
///
/// # Errors
/// An address that cannot be read, no trusted certificates, a server that cannot be reached, refuses TLS, or is not trusted.
pub async fn connect(url: &str) -> ConnectionResult<AsyncPgConnection> {
    let config: Config = url.parse().map_err(bad_address)?;
    if config.get_ssl_mode() != SslMode::Require {
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.map_err(refused)?;
        return AsyncPgConnection::try_from_client_and_connection(client, connection).await;
    }
    let connector = MakeRustlsConnect::new(client_config()?);
    let (client, connection) = config.connect(connector).await.map_err(refused)?;
    AsyncPgConnection::try_from_client_and_connection(client, connection).await
}

/// TLS by ring, whichever provider the application has installed for itself.
fn client_config() -> ConnectionResult<ClientConfig> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (trusted, _) = roots.add_parsable_certificates(loaded.certs);
    if trusted == 0 {
        let reasons: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
        let reason = format!("no certificate to trust was found on this system ({})", reasons.join("; "));
        return Err(ConnectionError::BadConnection(reason));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectionError::BadConnection(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn bad_address(error: tokio_postgres::Error) -> ConnectionError {
    ConnectionError::InvalidConnectionUrl(with_cause(&error))
}

fn refused(error: tokio_postgres::Error) -> ConnectionError {
    ConnectionError::BadConnection(with_cause(&error))
}

/// The driver's message names only what failed; why stands in its source.
fn with_cause(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
