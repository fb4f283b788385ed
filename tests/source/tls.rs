//! Who is trusted: a private authority when it is configured, and nobody expired or of another name.
//!
//! The certificates in `tls/` were made for these tests alone; their key opens nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use trailsync::error::{Class, Error};
use trailsync::source::{ListPage, Source as _};

use crate::answers::{page, reading};
use crate::suite::under;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/source/tls").join(name)
}

/// Serves an empty listing under a certificate, and gives the endpoint.
async fn serve(certificate: &str) -> String {
    let chain = CertificateDer::pem_file_iter(file(certificate)).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut socket) = acceptor.accept(socket).await else { continue };
            let _ = socket.read(&mut [0; 8192]).await;
            let _ = socket.write_all(page("").as_bytes()).await;
            let _ = socket.shutdown().await;
        }
    });
    format!("https://127.0.0.1:{port}")
}

async fn list(certificate: &str, authority: Option<&str>) -> Result<ListPage, Error> {
    let endpoint = serve(certificate).await;
    let bucket = reading(|endpoints| {
        endpoints.s3 = Some(endpoint);
        endpoints.ca_bundle = authority.map(file);
    });
    bucket.await.list(&under("p/")).await
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_configured() {
    list("good.pem", Some("authority.pem")).await.unwrap();
}

#[tokio::test]
async fn expired_unknown_and_misnamed_servers_end_the_stream() {
    for (certificate, authority) in [
        ("expired.pem", Some("authority.pem")),
        ("other.pem", Some("authority.pem")),
        ("good.pem", Some("expired.pem")),
    ] {
        let error = list(certificate, authority).await.unwrap_err();
        assert_eq!((error.class(), error.code()), (Class::Stream, "UntrustedCertificate"), "{certificate}: {error}");
        assert!(error.to_string().contains("`ca_bundle`"), "{error}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_not_spoken_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.write_all(page("").as_bytes()).await;
        }
    });
    let bucket = reading(|endpoints| {
        endpoints.s3 = Some(endpoint);
        endpoints.ca_bundle = Some(file("authority.pem"));
    });
    let error = bucket.await.list(&under("p/")).await.unwrap_err();
    assert_eq!((error.class(), error.code()), (Class::Transient, "ConnectionFailed"), "{error}");
}

crate::again_by_the_sdk_alone![
    a_private_authority_is_trusted_when_it_is_configured,
    expired_unknown_and_misnamed_servers_end_the_stream,
    a_server_without_tls_is_not_spoken_to,
];
