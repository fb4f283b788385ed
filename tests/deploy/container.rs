//! The Dockerfile, without a container engine: its commands run in a plain root, and what they make runs in a bare one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::daemon::SOON;
use crate::judge::{file, judge, said};
use crate::machine;
use crate::mirror::{configuration, free_address, is_whole, shared, write};

/// What stands in for the compiler, which would take a quarter of an hour: the program that is tested.
const CARGO: &str = "#!/bin/sh\n[ \"$*\" = \"build --locked --release --bin trailsync\" ] || exit 9\n\
                     install -D -m 0755 /judge/trailsync target/release/trailsync\n";
/// What distroless/cc has of Debian's packages, as far as the program can need it.
const BARE: &str = "mkdir -p /judge/root/tmp /judge/root/proc /judge/root/dev /judge/root/etc/ssl/certs && \
                    dpkg -L libc6 libgcc-s1 | grep -E '/lib/|/lib64/' | while read -r path; do \
                    if [ -f \"$path\" ]; then cp --parents -d \"$path\" /judge/root; \
                    cp -d --parents \"$(readlink -f \"$path\")\" /judge/root; fi; done && \
                    for link in /lib /lib64 /bin /sbin; do [ -L $link ] && [ ! -e /judge/root$link ] && \
                    cp -d $link /judge/root$link; done; cp /etc/ssl/certs/ca-certificates.crt /judge/root/etc/ssl/certs/ && \
                    cp -a /judge/out/. /judge/root/";

/// The instructions of each stage, in order.
fn stages() -> Vec<Vec<(String, String)>> {
    let text = file("Dockerfile").replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let mut stages: Vec<Vec<(String, String)>> = Vec::new();
    for (name, rest) in lines.filter_map(|line| line.split_once(' ')) {
        if name == "FROM" {
            stages.push(Vec::new());
        }
        stages.last_mut().expect("FROM comes first").push((name.to_owned(), rest.trim().to_owned()));
    }
    stages
}

/// An instruction of the last stage.
fn last(name: &str) -> String {
    let stages = stages();
    let found = stages.last().expect("a stage").iter().find(|(instruction, _)| instruction == name);
    found.unwrap_or_else(|| panic!("no {name}")).1.clone()
}

fn words(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

#[test]
fn hadolint_finds_nothing_to_say() {
    let lint = |text: &str| {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("Dockerfile");
        fs::write(&path, text).expect("written");
        Some(judge("hadolint")?.arg("--no-color").arg(&path).output().expect("it runs"))
    };
    let Some(verdict) = lint(&file("Dockerfile")) else { return };
    assert!(verdict.status.success() && said(&verdict).trim().is_empty(), "{}", said(&verdict));
    let nonsense = file("Dockerfile").replace("rust:1.95-bookworm", "rust");
    assert!(!lint(&nonsense).expect("a judge").status.success(), "an image without a tag passes");
}

#[test]
fn the_image_is_one_that_orchestrators_can_hold_to_its_word() {
    assert_eq!((last("USER").as_str(), last("STOPSIGNAL").as_str()), ("65532:65532", "SIGTERM"));
    assert!(last("HEALTHCHECK").ends_with("CMD [\"/usr/bin/trailsync\", \"health\"]"));
    assert_eq!(words(&last("VOLUME")), ["/var/lib/trailsync", "/mirror"]);
    for label in ["title", "description", "licenses", "version", "revision", "base.name"] {
        assert!(last("LABEL").contains(&format!("org.opencontainers.image.{label}=")), "{label}");
    }
    let version = last("ARG");
    assert_eq!(version, concat!("VERSION=", env!("CARGO_PKG_VERSION")));
}

/// The image's program in its root, as a container engine starts it.
fn contained(dir: &Path, command: &[String]) -> Command {
    let mut contained = Command::new("unshare");
    contained.args(["--mount", "--propagation", "private", "python3"]);
    contained.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy/contain.py"));
    for name in ["root", "state", "mirror", "config"] {
        contained.arg(dir.join(name));
    }
    contained.arg(last("USER")).args(command);
    contained.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    contained
}

/// Makes what the stages make; `None` without a tree to run them in.
async fn built(dir: &Path) -> Option<()> {
    machine::tree()?;
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::create_dir_all(dir.join("bin")).expect("a directory");
    write(&dir.join("bin/cargo"), CARGO, 0o755);
    fs::copy(env!("CARGO_BIN_EXE_trailsync"), dir.join("trailsync")).expect("copied");
    // What .dockerignore lets through, as far as commands name it.
    fs::create_dir_all(dir.join("build/config")).expect("a directory");
    for name in ["LICENSE", "LICENSE-APACHE", "LICENSE-MIT", "config/trailsync.toml"] {
        fs::copy(repository.join(name), dir.join("build").join(name)).expect("copied");
    }
    let stages = stages();
    for (_, run) in stages[0].iter().filter(|(name, _)| name == "RUN") {
        let command =
            run.split_whitespace().skip_while(|word| word.starts_with("--mount=")).collect::<Vec<_>>().join(" ");
        let line = format!("ln -s /judge/out /out; mkdir -p /judge/out; PATH=/judge/bin:$PATH; {command}");
        let (code, text) = machine::shell(dir, "/judge/build", &line).await?;
        assert_eq!(code, Some(0), "{command}: {text}");
    }
    let (code, text) = machine::shell(dir, "/", BARE).await?;
    assert_eq!(code, Some(0), "{text}");
    // A named volume takes over owner and mode of what the image has in its place.
    for (volume, place) in [("state", "var/lib/trailsync"), ("mirror", "mirror")] {
        let mut copy = std::process::Command::new("cp");
        copy.arg("-a").arg(dir.join("root").join(place)).arg(dir.join(volume));
        assert!(copy.status().expect("it runs").success());
    }
    Some(())
}

fn facts(pid: u32) -> BTreeMap<String, String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let pairs = status.lines().filter_map(|line| line.split_once(":\t"));
    pairs.map(|(name, value)| (name.to_owned(), value.split('\t').next().unwrap_or_default().to_owned())).collect()
}

async fn until_healthy(dir: &Path, daemon: &mut Child) {
    let health = last("HEALTHCHECK");
    let health = words(health.split_once("CMD ").expect("a command").1);
    let wait = async {
        while !contained(dir, &health).output().await.expect("it runs").status.success() {
            assert!(daemon.try_wait().expect("asked").is_none(), "it ended");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    timeout(SOON, wait).await.expect("healthy in time");
}

fn logs_in(tree: &Path) -> usize {
    crate::program::files(tree).keys().filter(|path| path.ends_with(".json.gz")).count()
}

#[tokio::test]
async fn what_its_commands_make_runs_as_nobody_in_particular_on_a_root_that_cannot_be_written() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    let Some(()) = built(dir.path()).await else { return };
    let shared = shared().await;
    fs::create_dir(at("config")).expect("a directory");
    let text = configuration(&shared, &free_address(), "/mirror/acme", "/etc/trailsync/id", "/etc/trailsync/key");
    write(&at("config/trailsync.toml"), &text, 0o644);
    // As a mounted secret: root's, for the group of the user.
    for (name, secret) in [("id", &shared.user.id), ("key", &shared.user.secret)] {
        write(&at("config").join(name), secret, 0o440);
        std::os::unix::fs::chown(at("config").join(name), None, Some(65532)).expect("its group");
    }
    let unhealthy =
        contained(dir.path(), &words("[\"/usr/bin/trailsync\", \"health\"]")).output().await.expect("it runs");
    assert_eq!(unhealthy.status.code(), Some(1), "{}", said(&unhealthy));
    let command = [words(&last("ENTRYPOINT")), words(&last("CMD"))].concat();
    let mut daemon = contained(dir.path(), &command).stderr(Stdio::null()).spawn().expect("it starts");
    until_healthy(dir.path(), &mut daemon).await;
    let mirrored = async {
        while logs_in(&at("mirror")) < crate::mirror::LOGS {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(SOON, mirrored).await.expect("mirrored in time");
    let pid = daemon.id().expect("it runs");
    let facts = facts(pid);
    assert_eq!((facts["Uid"].as_str(), facts["Groups"].trim()), ("65532", ""), "{facts:?}");
    assert_eq!((facts["NoNewPrivs"].as_str(), facts["CapEff"].as_str()), ("1", "0000000000000000"));
    assert_eq!(facts["CapBnd"], "0000000000000000");
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("it runs");
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect("a root");
    assert!(root.split(' ').nth(5).is_some_and(|options| options.starts_with("ro,")), "{root}");
    assert!(!at("root/bin/sh").exists() && !at("root/usr/bin/sh").exists(), "no shell");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid.cast_signed()).expect("a pid"),
        rustix::process::Signal::TERM,
    )
    .expect("STOPSIGNAL is sent");
    let ended = timeout(Duration::from_secs(10), daemon.wait()).await.expect("it stops in time").expect("it ended");
    assert_eq!(ended.code(), Some(0));
    is_whole(&shared, &at("mirror/acme"));
}
