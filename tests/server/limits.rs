//! What strangers can do: nothing but read, and not much at once.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::daemon::{Daemon, SOON, deliver, mirrored};

#[tokio::test]
async fn a_token_is_asked_for_where_one_is_configured_and_health_stays_open() {
    let (_shared, program) = mirrored(1).await;
    let path = program.work().join("token");
    fs::write(&path, "0123456789abcdef0123\n").expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("private");
    let daemon = Daemon::start(&program, &["--set", &format!("http.token_file={}", path.display())]).await;
    for path in ["/", "/api/status", "/api/events", "/metrics", "/assets/live.js", "/account/acme/1"] {
        assert_eq!(daemon.get(path).await.code, 401, "{path}");
    }
    for (token, code) in [("0123456789abcdef0123", 200), ("0123456789abcdef0124", 401), ("", 401)] {
        let request = format!(
            "GET /api/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(daemon.ask(&request).await.code, code, "{token}");
    }
    daemon.until("/readyz", |ready| ready.code == 200).await;
    assert_eq!(daemon.get("/healthz").await.code, 200);
}

#[tokio::test]
async fn nothing_can_be_changed_and_odd_requests_are_refused() {
    let (_shared, program) = mirrored(1).await;
    let daemon = Daemon::start(&program, &[]).await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        let request = format!("{method} /api/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert_eq!(daemon.ask(&request).await.code, 405, "{method}");
    }
    for path in
        ["/../etc/passwd", "/assets/../../etc/passwd", "/assets/%2e%2e%2fpage.css", "/nothing", "/account/%00/%ff"]
    {
        assert!(matches!(daemon.get(path).await.code, 400 | 404), "{path}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    assert!(matches!(daemon.ask(&long).await.code, 414 | 431), "a line without an end");
    let garbage = daemon.ask("\u{0}\u{1}\u{2} not http\r\n\r\n").await;
    assert_eq!(garbage.code, 400);
}

#[tokio::test]
async fn a_thousand_slow_connections_hold_up_neither_the_page_nor_the_mirror() {
    let (shared, program) = mirrored(1).await;
    let daemon = Daemon::start(&program, &[]).await;
    daemon.until("/readyz", |ready| ready.code == 200).await;
    let mut slow = Vec::new();
    for _ in 0..1000 {
        let mut stream = TcpStream::connect(&daemon.address).await.expect("it listens");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: ").await.expect("sent");
        slow.push(stream);
    }
    deliver(&shared, 7);
    // The state is asked, not the page, which is busy.
    let stored = async {
        loop {
            let status = program.run(&["status", "--json"]).await;
            if String::from_utf8_lossy(&status.stdout).contains("\"objects\":2") {
                return;
            }
            assert!(daemon.sockets() < 256 + 64, "{} sockets", daemon.sockets());
        }
    };
    timeout(SOON, stored).await.expect("mirrored all the same");
    assert!(daemon.resident_mib() < 128, "{} MiB", daemon.resident_mib());
    let page = daemon.until("/api/status", |status| status.body.contains("\"objects\":2")).await;
    assert_eq!(page.code, 200, "whoever is slow has made room");
    drop(slow);
}

/// Requests as they should be, of which the random ones are made.
const REQUESTS: [&str; 8] = [
    "GET /account/acme/222222222222?q=%zz&page=1 HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n",
    "GET /?q=%2e%2e%00&condition=failing&page=99999999999999999999 HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /account/acme/222222222222/1/2026-03-10 HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
    "HEAD /alarms?page=2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /quarantine?page=-1 HTTP/1.0\r\n\r\n",
    "GET /assets/page.css HTTP/1.1\r\nHost: x\r\nRange: bytes=0-18446744073709551615\r\n\r\n",
    "GET /api/status HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx\r\n0\r\n\r\n",
    "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n123456789",
];

#[tokio::test]
async fn requests_of_random_bytes_are_answered_or_dropped_and_mirroring_does_not_notice() {
    let (shared, program) = mirrored(1).await;
    let daemon = Daemon::start(&program, &[]).await;
    daemon.until("/api/status", |status| status.body.contains("\"objects\":1")).await;
    let before = daemon.resident_mib();
    let mut random = fastrand::Rng::with_seed(9720);
    for n in 0..1200 {
        let mut request = REQUESTS[n % REQUESTS.len()].as_bytes().to_vec();
        for _ in 0..random.usize(0..24) {
            let at = random.usize(..request.len());
            match random.u8(..5) {
                0 => request[at] = random.u8(..),
                1 => request.insert(at, random.u8(..)),
                2 => request[at] = *random.choice(b"\0\r\n %/?&=:;").expect("a byte"),
                3 => request.truncate(at + 1),
                _ => _ = request.remove(at),
            }
            if request.is_empty() {
                request.push(b'G');
            }
        }
        if n == 600 {
            deliver(&shared, 7);
        }
        if let Some(answer) = daemon.send(&request).await {
            assert!(matches!(answer.code, 100..=299 | 400..=499), "{} to {request:?}", answer.code);
        }
    }
    assert_eq!(daemon.get("/healthz").await.code, 200);
    daemon.until("/api/status", |status| status.body.contains("\"objects\":2")).await;
    let after = daemon.resident_mib();
    assert!(after < before + 32, "{before} MiB before, {after} after");
}

#[tokio::test]
async fn whoever_takes_nothing_of_an_answer_is_hung_up_on() {
    let (_shared, program) = mirrored(1).await;
    let daemon = Daemon::start(&program, &[]).await;
    daemon.until("/readyz", |ready| ready.code == 200).await;
    let address: std::net::SocketAddr = daemon.address.parse().expect("an address");
    // The one that was asked through is closed by now.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let before = daemon.sockets();
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("small");
        let mut stream = socket.connect(address).await.expect("it listens");
        // Far more is asked for than the system's buffers hold.
        let requests = "GET /assets/live.js HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
        stream.write_all(requests.as_bytes()).await.expect("sent");
        stalled.push(stream);
    }
    let gone = async {
        while daemon.sockets() > before {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    };
    let open = async {
        while daemon.sockets() < before + 8 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, open).await.expect("they are open");
    timeout(SOON, gone).await.expect("nobody stays for ever");
    assert_eq!(daemon.get("/healthz").await.code, 200);
    drop(stalled);
}

#[tokio::test]
async fn more_open_pages_than_there_is_room_for_are_told_to_ask_instead() {
    let (_shared, program) = mirrored(1).await;
    let daemon = Daemon::start(&program, &[]).await;
    daemon.until("/readyz", |ready| ready.code == 200).await;
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(daemon.open("/api/events").await);
    }
    assert_eq!(daemon.get("/api/events").await.code, 503);
    drop(open);
    daemon.until("/api/status", |status| status.code == 200).await;
}
