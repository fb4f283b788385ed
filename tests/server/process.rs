//! What systemd and operators do with the daemon.

use std::fs;

use fakeaws::{Fault, Op};
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use crate::daemon::{Daemon, SOON, mirrored};

#[tokio::test]
async fn health_does_not_depend_on_sts() {
    let (shared, program) = mirrored(1).await;
    shared.world.faults().inject(Fault::StsUnavailable).on(Op::AssumeRole).always();
    let daemon = Daemon::start(&program, &[]).await;
    daemon.until("/readyz", |ready| ready.code == 200).await;
    let page = daemon.until("/", |page| page.body.contains("cannot be renewed")).await;
    assert!(page.body.contains("trailsync check acme") && page.body.contains("TrailsyncRenewalFails"), "{}", page.body);
    assert_eq!((daemon.get("/healthz").await.code, daemon.get("/readyz").await.code), (200, 200));
}

#[tokio::test]
async fn health_does_not_depend_on_s3() {
    let (shared, program) = mirrored(1).await;
    shared.world.faults().inject(Fault::AccessDenied).on(Op::ListObjectsV2).always();
    let daemon = Daemon::start(&program, &[]).await;
    let page = daemon.until("/", |page| page.body.contains("acme: failing") || page.body.contains("fails")).await;
    assert!(page.body.contains("AccessDenied") && page.body.contains("trailsync check acme"), "{}", page.body);
    assert_eq!((daemon.get("/healthz").await.code, daemon.get("/readyz").await.code), (200, 200));
    let status = daemon.get("/api/status").await.json();
    assert_eq!(status["condition"], "failing", "{status}");
}

#[tokio::test]
async fn a_hangup_takes_a_good_configuration_and_keeps_the_old_one_otherwise() {
    let (_shared, program) = mirrored(1).await;
    let mut daemon = Daemon::start(&program, &[]).await;
    daemon.until("/readyz", |ready| ready.code == 200).await;
    let path = program.work().join("trailsync.toml");
    let good = fs::read_to_string(&path).expect("readable");
    fs::write(&path, "[source.acme]\nbucket = 7\n").expect("written");
    daemon.signal(rustix::process::Signal::HUP);
    let kept = daemon.says("the old one stays").await;
    assert!(kept.contains("cannot be used"), "{kept}");
    assert_eq!(daemon.get("/healthz").await.code, 200);
    fs::write(&path, good.replace("idle_every = \"5s\"", "idle_every = \"6s\"")).expect("written");
    daemon.signal(rustix::process::Signal::HUP);
    daemon.says("was read again").await;
    daemon.address = daemon.listens().await;
    daemon.until("/api/status", |status| status.body.contains("\"objects\":1")).await;
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.child.wait().await.expect("it ends").success());
}

#[tokio::test]
async fn systemd_is_told_ready_status_alive_and_stopping() {
    let (_shared, program) = mirrored(1).await;
    let path = program.work().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let mut command = program.command(&["run", "--set", "http.listen=127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "4000000");
    let daemon = Daemon::launch(command).await;
    heard(&socket, "READY=1").await;
    heard(&socket, "WATCHDOG=1").await;
    heard(&socket, "STATUS=All 1 accounts current").await;
    daemon.signal(rustix::process::Signal::TERM);
    heard(&socket, "STOPPING=1").await;
}

#[tokio::test]
async fn a_taken_address_is_a_mistake_that_is_named_with_its_mend() {
    let (_shared, program) = mirrored(1).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = program.run(&["run", "--set", &format!("http.listen={address}")]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for told in [address.as_str(), "http.listen", "in use", "`off`"] {
        assert!(said.contains(told), "{told} in {said}");
    }
    assert!(!program.state().exists(), "nothing was begun");
}

#[tokio::test]
async fn a_reload_moves_the_page_and_one_that_cannot_leaves_it_where_it_is() {
    let (_shared, program) = mirrored(1).await;
    let path = program.work().join("trailsync.toml");
    let listen = |address: &str| {
        let text = fs::read_to_string(&path).expect("readable");
        let (before, rest) = text.split_once("listen = \"").expect("an option");
        let after = rest.split_once('"').expect("its end").1;
        fs::write(&path, format!("{before}listen = \"{address}\"{after}")).expect("written");
    };
    listen("127.0.0.1:0");
    let mut daemon = Daemon::launch(program.command(&["run"])).await;
    daemon.until("/readyz", |ready| ready.code == 200).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listen(&taken.local_addr().expect("an address").to_string());
    daemon.signal(rustix::process::Signal::HUP);
    daemon.says("the old one stays").await;
    assert_eq!(daemon.get("/healthz").await.code, 200);
    let (before, free) = (daemon.address.clone(), taken.local_addr().expect("an address"));
    drop(taken);
    daemon.signal(rustix::process::Signal::HUP);
    daemon.address = daemon.listens().await;
    assert_eq!(daemon.address, free.to_string());
    daemon.until("/readyz", |ready| ready.code == 200).await;
    assert!(tokio::net::TcpStream::connect(&before).await.is_err(), "nobody listens there any more");
}

async fn heard(socket: &UnixDatagram, what: &str) {
    let mut buffer = [0; 4096];
    let wait = async {
        loop {
            let length = socket.recv(&mut buffer).await.expect("readable");
            if String::from_utf8_lossy(&buffer[..length]).contains(what) {
                return;
            }
        }
    };
    timeout(SOON, wait).await.unwrap_or_else(|_| panic!("systemd never heard {what}"));
}
