//! PostgreSQL over TLS through rustls: a server that can be trusted is used, any other one refused before a word is said.
#![cfg(feature = "async-postgres-rustls")]

use std::sync::Arc;

use consistency_core::state::State;
use consistency_diesel::async_prelude::*;
use consistency_diesel::tls;
use consistency_tests::async_stage::drive;
use consistency_tests::backend::Backend;
use consistency_tests::database::{Database, on_fresh};
use consistency_tests::recorder::Recorder;
use consistency_tests::stage::Probe;
use diesel::QueryResult;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

#[consistency_task]
async fn note(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

/// A door to the real server that speaks TLS, and the certificate of who has signed the door's.
struct Door {
    port: u16,
    authority: tempfile::NamedTempFile,
}

impl Door {
    async fn to(database: &Database) -> Door {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), authority.pem()).unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, server) = (listener.local_addr().unwrap().port(), server_of(database));
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), server));
        Door { port, authority: file }
    }

    /// The database's address through the door.
    fn url(&self, database: &Database, host: &str, options: &str) -> String {
        let (_, rest) = database.address().split_once("://").unwrap();
        let (authority, name) = rest.split_once('/').unwrap();
        let user = authority.rsplit_once('@').map_or("postgres", |(user, _)| user);
        format!("postgres://{user}@{host}:{}/{name}?{options}", self.port)
    }

    fn trusted(&self) -> String {
        format!("sslmode=require&sslrootcert={}", self.authority.path().display())
    }
}

/// `host:port` of the real server.
fn server_of(database: &Database) -> String {
    let (_, rest) = database.address().split_once("://").unwrap();
    let authority = rest.split('/').next().unwrap();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.contains(':') { host.to_owned() } else { format!("{host}:5432") }
}

/// Takes PostgreSQL's request for TLS, then passes on what comes through it.
async fn serve(listener: TcpListener, acceptor: TlsAcceptor, server: String) {
    while let Ok((mut client, _)) = listener.accept().await {
        let (acceptor, server) = (acceptor.clone(), server.clone());
        tokio::spawn(async move {
            let mut request = [0; 8];
            client.read_exact(&mut request).await?;
            assert_eq!(request[4..], 80_877_103_u32.to_be_bytes(), "a client that does not ask for TLS");
            client.write_all(b"S").await?;
            let mut inside = acceptor.accept(client).await?;
            copy_bidirectional(&mut inside, &mut TcpStream::connect(server).await?).await
        });
    }
}

fn on_postgres(test: &str, body: impl AsyncFnOnce(&Database) + Send) {
    on_fresh(Backend::Postgres, &format!("tls::{test}"), |database| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(body(database));
    });
}

#[test]
fn everything_goes_over_tls_to_a_trusted_server() {
    on_postgres("trusted", async |database| {
        let door = Door::to(database).await;
        let url = door.url(database, "localhost", &door.trusted());
        let (probe, recorder) = (Probe::default(), Recorder::new());
        let builder = Outbox::builder(url.as_str()).migrate().notify().inject(probe.clone());
        let outbox = builder.listener(recorder.listener()).start().await.unwrap();
        let mut conn = tls::connect(&url).await.unwrap();
        let stored: QueryResult<_> =
            outbox.transaction(&mut conn, async |tx| tx.enqueue(note("secret".into())).await).await;
        recorder.wait_for_settled(stored.unwrap().task_id(), State::Succeeded);
        outbox.shutdown().await;
        assert_eq!(probe.seen(), ["secret"]);
    });
}

#[test]
fn a_server_nobody_trusts_is_refused() {
    on_postgres("untrusted", async |database| {
        let door = Door::to(database).await;
        let unknown = tls::connect(&door.url(database, "localhost", "sslmode=require")).await.err().unwrap();
        assert!(unknown.to_string().contains("certificate"), "{unknown}");
        let misnamed = tls::connect(&door.url(database, "127.0.0.1", &door.trusted())).await.err().unwrap();
        assert!(misnamed.to_string().contains("certificate"), "{misnamed}");
        let start =
            Outbox::builder(door.url(database, "localhost", "sslmode=require")).only([note::NAME]).enqueue_only();
        let refused = start.start().await.unwrap_err().to_string();
        assert!(refused.contains("certificate"), "{refused}");
    });
}

#[test]
fn a_server_without_tls_is_refused_where_tls_is_required() {
    on_postgres("plain", async |database| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                client.write_all(b"N").await.ok();
            }
        });
        let (_, rest) = database.address().split_once("://").unwrap();
        let name = rest.split_once('/').unwrap().1;
        let url = format!("postgres://postgres@127.0.0.1:{port}/{name}?sslmode=require");
        let refused = tls::connect(&url).await.err().unwrap();
        assert!(refused.to_string().to_lowercase().contains("tls"), "{refused}");
    });
}

#[test]
fn a_file_without_certificates_is_named() {
    drive(async {
        let url = "postgres://postgres@127.0.0.1:1/none?sslmode=require&sslrootcert=/no/such/file.pem";
        let refused = tls::connect(url).await.err().unwrap();
        assert!(refused.to_string().contains("/no/such/file.pem"), "{refused}");
    });
}
