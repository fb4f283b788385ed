//! `trailsync health`, and what else packages take from the program itself.

use std::collections::BTreeSet;
use std::process::Command;

use crate::daemon::{Daemon, mirrored};

async fn health(program: &crate::program::Program, address: &str, more: &[&str]) -> (Option<i32>, String) {
    let listen = format!("http.listen={address}");
    let output = program.run(&[&["health", "--set", &listen], more].concat()).await;
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test]
async fn health_is_0_while_the_daemon_lives_and_1_when_it_does_not() {
    let (_shared, program) = mirrored(1).await;
    let token = program.work().join("token");
    std::fs::write(&token, "0123456789abcdef0123456789abcdef\n").expect("written");
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("private");
    let with_token = format!("http.token_file={}", token.display());
    let mut daemon = Daemon::start(&program, &["--set", &with_token]).await;
    daemon.until("/readyz", |ready| ready.code == 200).await;
    assert_eq!(daemon.get("/metrics").await.code, 401, "the token is asked for");
    let (code, text) = health(&program, &daemon.address, &["--set", &with_token]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("ok: the schedulers turn"), "{text}");
    assert_eq!(health(&program, &daemon.address, &["--ready"]).await, (Some(0), "ready\n".into()));
    daemon.child.kill().await.expect("killed");
    let (code, text) = health(&program, &daemon.address, &[]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&daemon.address), "{text}");
    assert_eq!(health(&program, "off", &[]).await.0, Some(2));
}

#[tokio::test]
async fn health_is_1_when_whoever_answers_is_not_well() {
    let (_shared, program) = mirrored(1).await;
    for answer in ["HTTP/1.1 503 Service Unavailable\r\n\r\nstuck\x1b[31m\n", "SSH-2.0-OpenSSH\r\n", ""] {
        let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = other.local_addr().expect("an address").to_string();
        let serve = tokio::spawn(async move {
            let (mut stream, _) = other.accept().await.expect("asked");
            let mut request = [0; 512];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut request).await;
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await;
        });
        let (code, text) = health(&program, &address, &[]).await;
        assert_eq!(code, Some(1), "{text}");
        assert!(!text.contains('\x1b'), "{text:?}");
        serve.await.expect("served");
    }
}

#[test]
fn every_command_has_a_man_page_that_names_it_and_its_exit_codes_are_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let program = || Command::new(env!("CARGO_BIN_EXE_trailsync"));
    let made = program().arg("man").arg(dir.path().join("man1")).output().expect("it runs");
    assert!(made.status.success() && made.stdout.is_empty(), "{made:?}");
    let page = |name: &str| std::fs::read_to_string(dir.path().join("man1").join(name)).expect("a page");
    let main = page("trailsync.1");
    assert!(main.contains("75  no source answered"), "{main}");
    let names = std::fs::read_dir(dir.path().join("man1")).expect("a directory");
    let names: BTreeSet<String> = names.map(|name| name.expect("a name").file_name().into_string().unwrap()).collect();
    let help = program().arg("help").output().expect("it runs");
    let help = String::from_utf8(help.stdout).expect("UTF-8");
    let list = help.split("Commands:\n").nth(1).expect("commands").split("\n\n").next().expect("a list");
    let commands = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let commands: Vec<&str> =
        commands.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect();
    assert!(commands.len() >= 14, "{commands:?}");
    for command in &commands {
        assert!(names.contains(&format!("trailsync-{command}.1")), "{command}: {names:?}");
        assert!(page(&format!("trailsync-{command}.1")).contains(&format!("trailsync {command}")), "{command}");
    }
    assert_eq!(names.len(), commands.len() + 1, "{names:?}");
    let refused = program().arg("man").arg("/proc/nowhere").output().expect("it runs");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
}
