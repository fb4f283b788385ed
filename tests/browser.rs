//! The status page as its readers meet it: Chromium in front of a live daemon with three sources, one of them failing.
//!
//! `tests/browser/judge.py` drives Debian's Chromium through its own driver and has axe-core judge every page; pictures of
//! each stay in `target/browser`. `make witness judges` installs all three.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use fakeaws::{Cadence, Fault, Kind, ObjectSpec, Op, RoleSpec, Trail, policies};
use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

#[path = "support/account.rs"]
mod account;
#[path = "support/archive.rs"]
mod archive;
#[path = "server/daemon.rs"]
#[expect(dead_code, reason = "the tests of the server use the rest")]
mod daemon;
#[path = "support/program.rs"]
mod program;

use account::{A, B, BUCKET, REGION, Shared};
use daemon::{Daemon, empty_log};
use program::Program;

const C: &str = "333333333333";
const D: &str = "444444444444";
/// What the trail has not delivered yet when the daemon starts.
const HELD_BACK: SignedDuration = SignedDuration::from_hours(2);
/// All of the judge's work, on a busy machine.
const LONG: Duration = Duration::from_secs(300);

/// What the judge needs; where something is missing it is said, and in CI it is a failure.
struct Judge {
    python: PathBuf,
    axe: PathBuf,
}

impl Judge {
    fn here() -> Option<Self> {
        let named = std::env::var_os("TRAILSYNC_WITNESS");
        if named.as_deref() == Some(OsStr::new("skip")) {
            println!("SKIPPED: TRAILSYNC_WITNESS=skip: nobody looked at the page");
            return None;
        }
        let place = named.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/witness"), PathBuf::from);
        let judge = Self { python: place.join("bin/python"), axe: place.join("node_modules/axe-core/axe.min.js") };
        let mut missing = Vec::new();
        for program in ["chromium", "chromedriver"] {
            let paths = std::env::var_os("PATH").unwrap_or_default();
            if !std::env::split_paths(&paths).any(|path| path.join(program).exists()) {
                missing.push(program.to_owned());
            }
        }
        let selenium =
            std::process::Command::new(&judge.python).args(["-c", "import selenium"]).stderr(Stdio::null()).status();
        if !selenium.is_ok_and(|status| status.success()) {
            missing.push("selenium".into());
        }
        if !judge.axe.exists() {
            missing.push("axe-core".into());
        }
        if missing.is_empty() {
            return Some(judge);
        }
        let missing = format!("nobody looks at the page: {} missing; `make witness judges`", missing.join(", "));
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        println!("SKIPPED: {missing}");
        None
    }
}

/// Account A's bucket with the logs of three accounts; we mirror them all, and may not list the third's.
struct Stage {
    shared: Shared,
    program: Program,
    trail: Trail,
}

impl Stage {
    async fn new() -> Self {
        let shared = Shared::own_logs().await;
        let now = Timestamp::now();
        let trail = Trail {
            bucket: BUCKET.into(),
            accounts: [B, C, D].map(str::to_owned).to_vec(),
            regions: vec![REGION.into(), "us-east-1".into()],
            trail_name: "all".into(),
            home_region: REGION.into(),
            kinds: vec![Kind::Management],
            digests: true,
            since: now - SignedDuration::from_hours(75),
            cadences: vec![Cadence { every: 1200, files: (1, 2), weeks_late_per_mille: 0, ..Cadence::default() }],
            ..Trail::default()
        };
        trail.deliver_until(&shared.world, now - HELD_BACK);
        let role = |name: &str, policy| {
            let trust = policies::trust_account_root(B);
            shared.world.add_role(A, name, RoleSpec { trust, policy, ..RoleSpec::default() })
        };
        let globex = role("logs/ReadC", policies::read_own_logs(BUCKET, "", C));
        let initech = role("logs/ReadD", policies::nothing());
        let policy = policies::assume_roles_and_list_public_keys(&[&shared.role, &globex, &initech]);
        assert!(shared.world.set_user_policy(&format!("arn:aws:iam::{B}:user/mirror"), policy));
        let poll = |name: &str| {
            format!(
                "[source.{name}.poll]\nevery = \"5s\"\nidle_every = \"5s\"\n\
                 lookback = [{{ depth = \"2h\", every = \"10s\" }}, {{ depth = \"35d\", every = \"15s\" }}]\n"
            )
        };
        let program = Program::new(&shared, "", &poll("acme"));
        let work = program.work();
        let more = |name: &str, account: &str, arn: &str| {
            let at = |name: &str| work.join(name).display().to_string();
            let endpoint = shared.aws.endpoint();
            format!(
                "[source.{name}]\nbucket = \"{BUCKET}\"\nregion = \"{REGION}\"\naccounts = [\"{account}\"]\n\
                 destination = {{ path = {tree:?}, allow_volatile = true }}\n\
                 credentials = {{ access_key_id_file = {id:?}, secret_access_key_file = {key:?} }}\n\
                 endpoints = {{ s3 = \"{endpoint}\", sts = \"{endpoint}\", cloudtrail = \"{endpoint}\", path_style = true }}\n\
                 [source.{name}.role]\narn = \"{arn}\"\nsession_name = \"{name}\"\n{}",
                poll(name),
                tree = at(&format!("tree-{name}")),
                id = at("id"),
                key = at("key"),
            )
        };
        let path = work.join("trailsync.toml");
        let text = fs::read_to_string(&path).expect("readable");
        let text = text + &more("globex", C, &globex) + &more("initech", D, &initech);
        fs::write(&path, text).expect("written");
        Self { shared, program, trail }
    }

    /// A log of this minute arrives for the second account.
    fn deliver(&self) {
        let now = Timestamp::now();
        let (day, minute) = (now.strftime("%Y/%m/%d"), now.strftime("%Y%m%dT%H%MZ"));
        let key =
            format!("AWSLogs/{C}/CloudTrail/{REGION}/{day}/{C}_CloudTrail_{REGION}_{minute}_Delivered0000000.json.gz");
        self.shared.world.put_object(BUCKET, &key, ObjectSpec::log(empty_log()));
    }

    /// Hours of logs arrive with their digests, of which one log was altered on its way; says its day.
    fn alter(&self) -> String {
        let prefix = format!("AWSLogs/{B}/CloudTrail/{REGION}/");
        let (world, now) = (&self.shared.world, Timestamp::now());
        let before = world.keys(BUCKET, &prefix);
        // Nobody may list it in between, and fetch it as it was.
        for op in [Op::ListObjectsV2, Op::GetObject] {
            world.faults().inject(Fault::Delay { millis: 5000 }).on(op).always();
        }
        let rounds = (1..6).map(|round| now - HELD_BACK + SignedDuration::from_mins(20 * round));
        let altered = rounds
            .filter_map(|until| {
                self.trail.deliver_until(world, until);
                world.keys(BUCKET, &prefix).into_iter().find(|key| !before.contains(key))
            })
            .next()
            .expect("a log of the last hours");
        world.put_object(BUCKET, &altered, ObjectSpec::log(empty_log()));
        world.faults().clear();
        self.trail.deliver_until(world, now);
        altered.split('/').skip(4).take(3).collect::<Vec<_>>().join("-")
    }
}

fn judged(judge: &Judge, daemon: &Daemon, shots: &Path) -> Child {
    Command::new(&judge.python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/judge.py"))
        .arg(format!("http://{}/", daemon.address))
        .args([&judge.axe, shots])
        .env("SE_OFFLINE", "true")
        .env("SE_AVOID_STATS", "true")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("Python starts")
}

#[tokio::test]
async fn a_reader_finds_what_is_wrong_and_sees_it_change_in_a_page_that_everybody_can_use() {
    let Some(judge) = Judge::here() else { return };
    let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target").join("browser");
    let _ = fs::remove_dir_all(&shots);
    fs::create_dir_all(&shots).expect("a directory");
    let stage = Stage::new().await;
    let daemon = Daemon::start(&stage.program, &[]).await;
    let mut child = judged(&judge, &daemon, &shots);
    let mut tell = child.stdin.take().expect("piped");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let said = async {
        let mut last = String::new();
        while let Some(line) = lines.next_line().await.expect("readable") {
            let answer = match line.as_str() {
                "deliver" => {
                    stage.deliver();
                    "delivered".to_owned()
                }
                "alter" => stage.alter(),
                _ => String::new(),
            };
            if !answer.is_empty() {
                tell.write_all(format!("{answer}\n").as_bytes()).await.expect("it listens");
            }
            last = line;
        }
        last
    };
    let last = timeout(LONG, said).await.expect("it ends in time");
    let mut why = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut why).await.expect("readable");
    assert!(child.wait().await.expect("it ends").success() && last == "well", "{why}");
    let kept = fs::read_dir(&shots).expect("pictures").count();
    assert!(kept >= 27, "{kept} pictures in {}", shots.display());
}
