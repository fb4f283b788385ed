//! `trailsync health`: asks the daemon of this configuration whether it lives, for container engines.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Exit;
use crate::config::Config;
use crate::error::{Class, Error, Report};
use crate::key::Shown;

/// Options of `trailsync health`.
#[derive(Debug, Args)]
pub struct Options {
    /// Whether it can be asked (`/readyz`), rather than whether it lives (`/healthz`).
    #[arg(long)]
    pub ready: bool,
}

/// A daemon that has not answered by then is not well.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read; health is one line.
const MOST: u64 = 4096;

/// Asks at `http.listen` and prints the answer; exits with 1 unless it is 200. No token is needed.
///
/// # Errors
/// `Stream` when the configuration says no address that can be asked.
pub async fn health(config: &Config, options: &Options, out: &mut (dyn Write + Send)) -> Result<Exit, Error> {
    let address = address(config.http.listen)?;
    let path = if options.ready { "/readyz" } else { "/healthz" };
    let answer = timeout(PATIENCE, ask(address, path)).await;
    let (said, exit) = match answer {
        Ok(Ok((200, said))) => (said, Exit::Done),
        Ok(Ok((status, said))) => (format!("http://{address}{path} answers {status}: {said}"), Exit::Incomplete),
        Ok(Err(error)) => (format!("http://{address}{path} does not answer: {error}"), Exit::Incomplete),
        Err(_) => (format!("http://{address}{path} has not answered in {PATIENCE:?}"), Exit::Incomplete),
    };
    // Who asks reads the exit code; the line is for people.
    let _ = writeln!(out, "{}", Shown(said.trim_end()));
    Ok(exit)
}

/// Where the daemon can be asked from here; one that listens everywhere also listens on loopback.
fn address(listen: Option<SocketAddr>) -> Result<SocketAddr, Error> {
    let refused = |why: &str| {
        let report = Report::new("ask", "http.listen", why).mend("name an address and a port there");
        Error::of(Class::Stream, report)
    };
    let mut address = listen.ok_or_else(|| refused("it is `off`: nobody answers"))?;
    if address.port() == 0 {
        return Err(refused("port 0 is any port: it is not known which"));
    }
    if address.ip().is_unspecified() {
        let loopback = match address.ip() {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
        };
        address.set_ip(loopback);
    }
    Ok(address)
}

async fn ask(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer).await?;
    parsed(&String::from_utf8_lossy(&answer)).ok_or_else(|| std::io::Error::other("what answers does not speak HTTP"))
}

/// Status and body of an answer.
fn parsed(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_everywhere_is_asked_on_loopback() {
        for (listen, asked) in [
            ("127.0.0.1:9720", "127.0.0.1:9720"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:9720", "[::1]:9720"),
            ("192.0.2.7:9720", "192.0.2.7:9720"),
        ] {
            let found = address(Some(listen.parse().expect("an address"))).expect("can be asked");
            assert_eq!(found.to_string(), asked);
        }
    }

    #[test]
    fn an_address_that_nobody_can_know_is_a_mistake_of_the_configuration() {
        for listen in [None, Some("127.0.0.1:0".parse().expect("an address"))] {
            let error = address(listen).expect_err("refused");
            assert_eq!(error.class(), Class::Stream);
            assert!(error.to_string().contains("http.listen"), "{error}");
        }
    }

    #[test]
    fn only_http_is_understood() {
        assert_eq!(parsed("HTTP/1.1 200 OK\r\na: b\r\n\r\nok\n"), Some((200, "ok\n".into())));
        assert_eq!(parsed("HTTP/1.0 503 No\r\n\r\n"), Some((503, String::new())));
        for other in ["", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 many\r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
            assert_eq!(parsed(other), None, "{other:?}");
        }
    }
}
