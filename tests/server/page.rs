//! What browsers and programs see.

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::account::B;
use crate::daemon::{Daemon, SOON, deliver, mirrored};

#[tokio::test]
async fn the_page_is_whole_without_javascript_and_asks_no_other_host() {
    let (_shared, program) = mirrored(3).await;
    let daemon = Daemon::start(&program, &[]).await;
    let name = format!("acme/{B}");
    let page =
        daemon.until("/", |page| page.body.contains(&name) && page.body.contains("All 1 accounts current")).await;
    assert_eq!(page.code, 200);
    assert!(page.head.contains("default-src 'none'") && page.head.contains("nosniff"), "{}", page.head);
    assert!(!page.body.contains("://"), "{}", page.body);
    assert!(!page.body.contains("style=") && !page.body.contains("onclick"), "nothing inline");
    for asset in ["/assets/page.css", "/assets/live.js", "/assets/icon.svg"] {
        assert!(page.body.contains(asset) && daemon.get(asset).await.code == 200, "{asset}");
    }
    let account = daemon.get(&format!("/account/{name}")).await;
    assert!(account.code == 200 && account.body.contains("CloudTrail eu-west-1"), "{}", account.body);
    assert_eq!(account.body.matches("<td class=").count(), 2 * 90, "a cell a day, of the stream and of all");
    assert_eq!(daemon.get("/account/acme/999999999999").await.code, 404);
    let none = daemon.get("/?q=nobody&page=-7").await;
    assert!(none.body.len() < 300_000, "{}", none.body.len());
    assert!(none.body.contains("No account matches") && none.body.contains("0 of 1"), "{}", none.body);
}

#[tokio::test]
async fn the_json_is_what_status_prints() {
    let (_shared, program) = mirrored(3).await;
    let daemon = Daemon::start(&program, &[]).await;
    let served = daemon.until("/api/status", |status| status.body.contains("\"objects\":3")).await.json();
    let printed = program.run(&["status", "--json"]).await;
    let printed: serde_json::Value = serde_json::from_slice(&printed.stdout).expect("JSON");
    assert_eq!(served["version"], printed["version"]);
    let keys = |value: &serde_json::Value| value.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>());
    assert_eq!(keys(&served["accounts"][0]), keys(&printed["accounts"][0]));
    assert_eq!(served["accounts"][0]["objects"], 3);
}

#[tokio::test]
async fn an_open_page_is_told_what_changes() {
    let (shared, program) = mirrored(1).await;
    let daemon = Daemon::start(&program, &[]).await;
    let mut stream = TcpStream::connect(&daemon.address).await.expect("it listens");
    stream.write_all(b"GET /api/events HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    let mut lines = BufReader::new(stream).lines();
    let mut told = async |what: &str| {
        let wait = async {
            while let Some(line) = lines.next_line().await.expect("readable") {
                if line.contains(what) {
                    return;
                }
            }
            panic!("it ended before {what}");
        };
        timeout(SOON, wait).await.unwrap_or_else(|_| panic!("never told {what}"));
    };
    told("event: status").await;
    told("\"objects\":1").await;
    deliver(&shared, 5);
    told("\"objects\":2").await;
}
