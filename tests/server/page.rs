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
    let cells = |class: &str| account.body.matches(class).count();
    assert_eq!(cells("<table class=\"calendar\">"), 2, "of the stream and of all");
    let days = account.body.matches(&format!("<a href=\"./{B}/")).count();
    assert_eq!(days, 90 + 1, "a cell a day that leads to its hours, and the stream itself");
    assert_eq!(daemon.get("/account/acme/999999999999").await.code, 404);
    let none = daemon.get("/?q=nobody&page=-7").await;
    assert!(none.body.len() < 300_000, "{}", none.body.len());
    assert!(none.body.contains("No account matches") && none.body.contains("0 of 1"), "{}", none.body);
}

/// The address that follows `before` in a page.
fn link<'p>(page: &'p str, before: &str) -> &'p str {
    page.split(before).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_else(|| panic!("{before} in {page}"))
}

#[tokio::test]
async fn links_lead_from_an_account_to_a_stream_to_a_day_and_its_hours() {
    let (_shared, program) = mirrored(3).await;
    let daemon = Daemon::start(&program, &[]).await;
    daemon.until("/api/status", |status| status.body.contains("\"objects\":3")).await;
    let account = daemon.get(&format!("/account/acme/{B}")).await.body;
    let stream = format!(
        "/account/acme/{}",
        link(&account, "<h3 id=\"s1\"><span class=\"shape\" aria-hidden=\"true\">●</span> <a href=\"./")
    );
    let page = daemon.get(&stream).await;
    assert!(page.code == 200 && page.body.matches("class=\"bar ").count() == 90, "{}", page.body);
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let day = daemon.until(&format!("{stream}/{today}"), |day| day.body.contains("3 objects")).await;
    assert!(day.body.contains("Nothing that is known") && day.body.contains("00:00"), "{}", day.body);
    assert_eq!(daemon.get(&format!("{stream}/1999-12-31")).await.code, 200, "any day may be asked for");
    for (path, code) in [
        (format!("{stream}/2026-02-30"), 404),
        (format!("{stream}/../../../etc/passwd"), 404),
        (format!("/account/acme/{B}/999999"), 404),
        (format!("/account/acme/{B}/no-number"), 400),
        ("/alarms".into(), 200),
        ("/alarms?page=4000000000".into(), 200),
        ("/quarantine?page=x".into(), 200),
    ] {
        assert_eq!(daemon.get(&path).await.code, code, "{path}");
    }
}

#[tokio::test]
async fn what_cannot_be_mirrored_is_shown_with_its_reason_and_its_stream_is_not_out_of_step_for_it() {
    let (shared, program) = mirrored(3).await;
    let key = shared.world.keys(crate::account::BUCKET, "").remove(1);
    shared.world.faults().inject(fakeaws::Fault::InvalidObjectState).on(fakeaws::Op::GetObject).key(&key).always();
    let daemon = Daemon::start(&program, &[]).await;
    daemon.until("/api/status", |status| status.body.contains("\"objects\":2")).await;
    let page = daemon.until("/quarantine", |page| page.body.contains("InvalidObjectState")).await.body;
    assert!(
        page.contains(&key) && page.contains("its owner must restore it") && page.contains("trailsync retry"),
        "{page}"
    );
    let health = daemon.get("/api/status").await.json()["accounts"][0]["health"].clone();
    let get = health.as_array().and_then(|all| all.iter().find(|one| one["hop"] == "get")).expect("the hop").clone();
    assert_eq!(get["state"], "good", "{health}");
}

#[tokio::test]
async fn a_hop_that_fails_is_named_everywhere_with_its_cause_and_survives_a_restart() {
    let (shared, program) = mirrored(1).await;
    shared.world.faults().inject(fakeaws::Fault::AccessDenied).on(fakeaws::Op::ListObjectsV2).always();
    let mut daemon = Daemon::start(&program, &[]).await;
    let listing = |status: &crate::daemon::Answer| {
        let health = status.json()["accounts"][0]["health"].clone();
        health.as_array().and_then(|all| all.iter().find(|one| one["hop"] == "list").cloned()).unwrap_or_default()
    };
    let is_failing = |status: &crate::daemon::Answer| status.code == 200 && listing(status)["state"] == "failing";
    let status = daemon.until("/api/status", is_failing).await;
    let (since, cause) = (listing(&status)["since"].clone(), listing(&status)["cause"].to_string());
    assert!(cause.contains("AccessDenied") && since.is_string(), "{status:?}", status = status.body);
    let metrics = daemon.until("/metrics", |metrics| metrics.body.contains("hop=\"list\"} 0")).await.body;
    assert!(
        metrics.contains("trailsync_health_since_timestamp_seconds{") && !metrics.contains("hop=\"get\""),
        "{metrics}"
    );
    daemon.until("/", |page| page.body.contains("<small data-f=\"hops\">list</small>")).await;
    let printed = program.run(&["status"]).await;
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(printed.contains("list fails since"), "{printed}");
    // It is written within ten seconds.
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.child.wait().await.expect("it ends").success());
    let later = program.run(&["status", "--json"]).await;
    let later: serde_json::Value = serde_json::from_slice(&later.stdout).expect("JSON");
    let health = later["accounts"][0]["health"].as_array().cloned().unwrap_or_default();
    let list = health.iter().find(|one| one["hop"] == "list").expect("the hop");
    assert_eq!((&list["state"], &list["since"]), (&"failing".into(), &since), "{later}");
}

/// Every name of a field in a document, but those of maps whose names are data.
fn fields(value: &serde_json::Value, found: &mut std::collections::BTreeSet<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (name, value) in object {
                found.insert(name.clone());
                if name != "list_requests" {
                    fields(value, found);
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| fields(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_field_and_every_metric_is_described() {
    let (_shared, program) = mirrored(3).await;
    let daemon = Daemon::start(&program, &[]).await;
    let document = include_str!("../../src/server/api.md");
    let status = daemon.until("/api/status", |status| status.body.contains("\"objects\":3")).await.json();
    let mut named = std::collections::BTreeSet::new();
    fields(&status, &mut named);
    assert!(named.len() > 50, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|name| !document.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "api.md does not describe {missing:?}");
    let metrics = daemon.get("/metrics").await.body;
    let served = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let unknown: Vec<_> = served.filter(|name| !document.contains(&format!("`{name}`"))).collect();
    assert!(unknown.is_empty(), "api.md does not describe {unknown:?}");
    let source =
        [include_str!("../../src/server/metrics.rs"), include_str!("../../src/source/client/measure.rs")].concat();
    for name in document.split('`').filter(|word| word.starts_with("trailsync_")) {
        assert!(source.contains(&format!("\"{name}\"")), "{name} is described and does not exist");
    }
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
    // Whatever else is told, the line shows every 15 seconds that it lives.
    told("event: beat").await;
}

#[tokio::test]
async fn renewals_and_alarms_are_events_of_their_own() {
    let (shared, program) = mirrored(1).await;
    shared
        .world
        .faults()
        .inject(fakeaws::Fault::ShortLivedSession { seconds: 20 })
        .on(fakeaws::Op::AssumeRole)
        .always();
    let daemon = Daemon::start(&program, &[]).await;
    daemon.until("/api/status", |status| status.body.contains("\"objects\":1")).await;
    let mut stream = TcpStream::connect(&daemon.address).await.expect("it listens");
    stream.write_all(b"GET /api/events HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    let mut lines = BufReader::new(stream).lines();
    let mut told = async |event: &str| {
        let wait = async {
            while let Some(line) = lines.next_line().await.expect("readable") {
                if line == format!("event: {event}") {
                    return lines.next_line().await.expect("readable").unwrap_or_default();
                }
            }
            panic!("it ended before {event}");
        };
        timeout(SOON, wait).await.unwrap_or_else(|_| panic!("never told {event}"))
    };
    told("status").await;
    let renewal = told("renewal").await;
    assert!(renewal.contains("\"source\":\"acme\"") && renewal.contains("\"next_renewal\":\"20"), "{renewal}");
    let key = shared.world.keys(crate::account::BUCKET, "").remove(0);
    shared.world.put_object(crate::account::BUCKET, &key, fakeaws::ObjectSpec::log(b"not the same".to_vec()));
    let alarm = told("alarm").await;
    assert!(alarm.contains("\"over\":false") && alarm.contains("\"kind\":\""), "{alarm}");
}

#[tokio::test]
async fn the_state_can_be_followed_as_lines_and_as_documents_where_there_is_no_terminal() {
    let (shared, program) = mirrored(1).await;
    let daemon = Daemon::start(&program, &[]).await;
    daemon.until("/api/status", |status| status.body.contains("\"objects\":1")).await;
    for (options, first, then) in [
        (["status", "--follow", "--every", "1"].as_slice(), " 1 objects", " 2 objects"),
        (["status", "--watch-json", "--every", "1"].as_slice(), "\"objects\":2", "\"objects\":3"),
    ] {
        let mut child = program.command(options).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut told = async |what: &str| {
            let wait = async {
                while let Some(line) = lines.next_line().await.expect("readable") {
                    assert!(!line.contains('\u{1b}'), "{line:?}");
                    if options[1] == "--watch-json" {
                        serde_json::from_str::<serde_json::Value>(&line).expect("a document a line");
                    }
                    if line.contains(what) {
                        return;
                    }
                }
                panic!("it ended before {what}");
            };
            timeout(SOON, wait).await.unwrap_or_else(|_| panic!("never told {what}"));
        };
        told(first).await;
        deliver(&shared, 40 + options.len() + first.len());
        told(then).await;
        child.kill().await.expect("ended");
    }
}
