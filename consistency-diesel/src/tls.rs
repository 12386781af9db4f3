//! PostgreSQL over TLS, through rustls: diesel-async's own way to connect knows none.

use std::sync::Arc;

use diesel::ConnectionResult;
use diesel::result::ConnectionError;
use diesel_async::AsyncPgConnection;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Connects to `url`; where it says `sslmode=require`, over TLS to a server whose certificate is checked.
///
/// The certificate must be issued for the host of the address, by somebody the system trusts, or by one of the certificates
/// in the file that `sslrootcert=FILE` names. Without `sslmode=require` the connection is plain: encryption with a server
/// nobody has checked protects little.
///
/// The runtime's own connections are made with it. For yours, give it to the pool's manager
/// (`ManagerConfig::custom_setup`).
///
/// # Errors
/// An address that cannot be read, no trusted certificates, a server that cannot be reached, refuses TLS, or is not trusted.
pub async fn connect(url: &str) -> ConnectionResult<AsyncPgConnection> {
    let (url, root_file) = without_root_file(url);
    let config: Config = url.parse().map_err(bad_address)?;
    if config.get_ssl_mode() != SslMode::Require {
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.map_err(refused)?;
        return AsyncPgConnection::try_from_client_and_connection(client, connection).await;
    }
    let connector = MakeRustlsConnect::new(client_config(root_file)?);
    let (client, connection) = config.connect(connector).await.map_err(refused)?;
    AsyncPgConnection::try_from_client_and_connection(client, connection).await
}

/// The address without `sslrootcert`, which the driver does not know, and the file it names.
fn without_root_file(url: &str) -> (String, Option<&str>) {
    let Some((address, options)) = url.split_once('?') else { return (url.to_owned(), None) };
    let root_file = options.split('&').find_map(|option| option.strip_prefix("sslrootcert="));
    let others: Vec<&str> = options.split('&').filter(|option| !option.starts_with("sslrootcert=")).collect();
    (format!("{address}?{}", others.join("&")), root_file)
}

/// TLS by ring, whichever provider the application has installed for itself.
fn client_config(root_file: Option<&str>) -> ConnectionResult<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let trusted = match root_file {
        Some(file) => {
            CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(|error| {
                ConnectionError::BadConnection(format!("no certificate can be read from {file}: {error}"))
            })?
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    if roots.add_parsable_certificates(trusted).0 == 0 {
        let reason = "there is no certificate to trust: name a file of them with `sslrootcert=FILE` in the address";
        return Err(ConnectionError::BadConnection(reason.to_owned()));
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
