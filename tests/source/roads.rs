//! The way to the services: which hosts are asked in which partition, and through which proxy.

use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use trailsync::config::{Endpoints, Source};
use trailsync::role::{AwsSts, Sts as _};
use trailsync::source::Source as _;
use trailsync::source::client::HttpClients;

use crate::account::Shared;
use crate::answers::{bucket_of, page};
use crate::suite::under;

/// A proxy that notes the first line of each request: it answers listings itself and connects to nobody.
async fn proxy() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let noted = lines.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut buffer = [0; 8192];
            let read = socket.read(&mut buffer).await.unwrap_or(0);
            let line = String::from_utf8_lossy(&buffer[..read]).lines().next().unwrap_or_default().to_owned();
            let answer = match line.starts_with("CONNECT") {
                true => "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_owned(),
                false => page(""),
            };
            noted.lock().unwrap().push(line);
            let _ = socket.write_all(answer.as_bytes()).await;
            let _ = socket.shutdown().await;
        }
    });
    (format!("http://{address}"), lines)
}

async fn source(region: &str, endpoints: Endpoints) -> Source {
    let shared = Shared::own_logs().await;
    let mut source = shared.source("", "");
    source.region = region.to_owned();
    if let Some(role) = &mut source.role {
        role.sts_region = region.to_owned();
    }
    source.endpoints = endpoints;
    source
}

/// The host that S3 is asked at, and the one that STS is asked at.
async fn hosts(region: &str, endpoints: Endpoints) -> (String, String) {
    let (url, lines) = proxy().await;
    let mut source = source(region, Endpoints { proxy: Some(url), ..endpoints }).await;
    let sts = AwsSts::new(&source, HttpClients::default().get(&source.endpoints).unwrap());
    sts.caller_identity(&Credentials::new("AKIA", "s", None, None, "test")).await.unwrap_err();
    source.role = None;
    bucket_of(source).list(&under("p/")).await.unwrap_err();
    let lines = lines.lock().unwrap();
    let host = |line: &String| line.strip_prefix("CONNECT ").unwrap().split(':').next().unwrap().to_owned();
    (host(&lines[1]), host(&lines[0]))
}

#[tokio::test]
async fn every_partition_and_kind_of_endpoint_has_its_regional_hosts() {
    let fips = || Endpoints { fips: true, ..Endpoints::default() };
    let dual = || Endpoints { dual_stack: true, ..Endpoints::default() };
    for (region, endpoints, s3, sts) in [
        ("eu-west-1", Endpoints::default(), "s3.eu-west-1.amazonaws.com", "sts.eu-west-1.amazonaws.com"),
        ("us-east-1", Endpoints::default(), "s3.us-east-1.amazonaws.com", "sts.us-east-1.amazonaws.com"),
        ("cn-north-1", Endpoints::default(), "s3.cn-north-1.amazonaws.com.cn", "sts.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", fips(), "s3-fips.us-gov-west-1.amazonaws.com", "sts.us-gov-west-1.amazonaws.com"),
        ("us-east-2", fips(), "s3-fips.us-east-2.amazonaws.com", "sts-fips.us-east-2.amazonaws.com"),
        ("eu-west-1", dual(), "s3.dualstack.eu-west-1.amazonaws.com", "sts.eu-west-1.api.aws"),
        ("eusc-de-east-1", Endpoints::default(), "s3.eusc-de-east-1.amazonaws.eu", "sts.eusc-de-east-1.amazonaws.eu"),
    ] {
        let asked = hosts(region, endpoints).await;
        assert_eq!(asked, (format!("trail-logs.{s3}"), sts.to_owned()), "{region}");
    }
}

#[tokio::test]
async fn a_proxy_is_used_as_configured_and_not_for_this_machine() {
    let (url, lines) = proxy().await;
    let endpoints = |s3: &str| Endpoints {
        proxy: Some(url.clone()),
        s3: Some(s3.to_owned()),
        path_style: true,
        ..Endpoints::default()
    };
    let source_at = async |s3: &str| {
        let mut source = source("eu-west-1", endpoints(s3)).await;
        source.role = None;
        bucket_of(source)
    };
    source_at("http://s3.internal.example").await.list(&under("p/")).await.unwrap();
    let line = lines.lock().unwrap()[0].clone();
    assert!(line.starts_with("GET http://s3.internal.example/trail-logs"), "{line}");
    source_at("http://127.0.0.1:9").await.list(&under("p/")).await.unwrap_err();
    assert_eq!(lines.lock().unwrap().len(), 1);
}

crate::again_by_the_sdk_alone![
    every_partition_and_kind_of_endpoint_has_its_regional_hosts,
    a_proxy_is_used_as_configured_and_not_for_this_machine,
];
