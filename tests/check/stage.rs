//! Account A with logs that never change, account B in front of it, and an operator who may have made mistakes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fakeaws::digests::SigningKey;
use fakeaws::{AccessKey, BucketSpec, FakeAws, FakeClock, ObjectSpec, RoleSpec, World, policies};
use serde_json::Value;
use trailsync::cli::check::{Options, check};
use trailsync::clock::{SystemClock, Timestamp};
use trailsync::config::{AfterMirror, Config, Input, Require, load};
use trailsync::role::Process;

pub const A: &str = "111111111111";
pub const B: &str = "222222222222";
pub const BUCKET: &str = "trail-logs";
pub const REGION: &str = "eu-west-1";
pub const LOG: &str = "AWSLogs/222222222222/CloudTrail/eu-west-1/2023/07/10/222222222222_CloudTrail_eu-west-1_20230710T1205Z_1dM7GQM67kudSyGD.json.gz";
pub const DIGEST: &str = "AWSLogs/222222222222/CloudTrail-Digest/eu-west-1/2023/07/10/222222222222_CloudTrail-Digest_eu-west-1_trail_eu-west-1_20230710T130507Z.json.gz";
pub const KEY: &str = "arn:aws:kms:eu-west-1:111111111111:key/1234abcd";
pub const USER: &str = "arn:aws:iam::222222222222:user/mirror";

/// What is there, and what the operator wrote.
pub struct Stage {
    pub world: World,
    pub aws: FakeAws,
    pub user: AccessKey,
    pub role: String,
    pub work: tempfile::TempDir,
    /// Options of the source, `name = value`, by their TOML path below it.
    pub options: BTreeMap<&'static str, String>,
    /// The source is deleted from. Set behind the configuration's back, which refuses it beside `allow_volatile`.
    pub deletes: bool,
}

pub fn gzip(text: &str) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text.as_bytes()).expect("in memory");
    gzip.finish().expect("in memory")
}

/// A log of one event: somebody read `object` of `bucket`.
pub fn log_of_a_read(bucket: &str, arn: &str) -> Vec<u8> {
    gzip(&format!(
        r#"{{"Records":[{{"eventSource":"s3.amazonaws.com","eventName":"GetObject","userIdentity":{{"type":"AssumedRole","arn":"{arn}"}},"requestParameters":{{"bucketName":"{bucket}","key":"k"}}}}]}}"#
    ))
}

pub fn log() -> ObjectSpec {
    ObjectSpec::log(log_of_a_read("another-bucket", "arn:aws:iam::222222222222:user/somebody"))
}

pub fn digest() -> ObjectSpec {
    ObjectSpec::log(gzip(r#"{"digestS3Object":"k","digestPublicKeyFingerprint":"f","logFiles":[]}"#))
}

impl Stage {
    /// Everything as it should be: B reads its own logs through a role.
    pub async fn new() -> Self {
        let world = World::new(FakeClock::system());
        world.add_bucket(BucketSpec::new(BUCKET, A, REGION));
        world.put_object(BUCKET, LOG, log());
        world.put_object(BUCKET, DIGEST, digest());
        let now = Timestamp::now();
        world.add_public_key(REGION, SigningKey::of(REGION, now).public.clone());
        let spec = RoleSpec {
            trust: policies::trust_account_root(B),
            policy: policies::read_own_logs(BUCKET, "", B),
            ..RoleSpec::default()
        };
        let role = world.add_role(A, "logs/ReadB", spec);
        let user = world.add_user(B, "mirror", policies::assume_role_and_list_public_keys(&role));
        let aws = FakeAws::start(world.clone()).await.expect("a server");
        let work = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let mut stage = Self { world, aws, user, role, work, options: BTreeMap::new(), deletes: false };
        fs::create_dir(stage.path("tree")).expect("a tree");
        stage.write("id", &stage.user.id);
        stage.write("key", &stage.user.secret);
        let endpoint = stage.aws.endpoint();
        for (option, value) in [
            ("bucket", BUCKET.to_owned()),
            ("region", REGION.to_owned()),
            ("role.arn", stage.role.clone()),
            ("role.session_name", "trailsync".to_owned()),
            ("credentials.access_key_id_file", stage.path("id").display().to_string()),
            ("credentials.secret_access_key_file", stage.path("key").display().to_string()),
            ("endpoints.s3", endpoint.clone()),
            ("endpoints.cloudtrail", endpoint.clone()),
            ("endpoints.sts", endpoint),
            ("destination.path", stage.path("tree").display().to_string()),
        ] {
            stage.set(option, &value);
        }
        stage.options.insert("endpoints.path_style", "true".to_owned());
        stage.options.insert("destination.allow_volatile", "true".to_owned());
        stage.options.insert("destination.reserve_mib", "1".to_owned());
        stage.options.insert("accounts", format!("[\"{B}\"]"));
        stage
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).expect("private");
    }

    /// Sets an option that is a text.
    pub fn set(&mut self, option: &'static str, value: &str) {
        self.options.insert(option, format!("{value:?}"));
    }

    pub fn put(&mut self, option: &'static str, toml: &str) {
        self.options.insert(option, toml.to_owned());
    }

    pub fn drop_all(&mut self, prefix: &str) {
        self.options.retain(|option, _| !option.starts_with(prefix));
    }

    pub fn trust(&self, trust: Value) {
        assert!(self.world.set_role_trust(&self.role, trust));
    }

    pub fn allow(&self, policy: Value) {
        assert!(self.world.set_role_policy(&self.role, policy));
    }

    /// The file that the operator wrote.
    pub fn file(&self) -> PathBuf {
        let options: String =
            self.options.iter().map(|(option, value)| format!("source.prod.{option} = {value}\n")).collect();
        let state = self.path("state").display().to_string();
        self.write("trailsync.toml", &format!("state.dir = {state:?}\n{options}"));
        self.path("trailsync.toml")
    }

    pub fn config(&self) -> Config {
        let input =
            Input { file: Some(self.file()), environment: BTreeMap::new(), overrides: vec![], now: Timestamp::now() };
        let mut config = load(&input).unwrap_or_else(|refused| panic!("{refused}")).config;
        let after =
            AfterMirror { delete_after: Duration::from_secs(90 * 86_400), require: Require::Proven, most: 10_000 };
        config.sources.values_mut().for_each(|source| source.after_mirror = self.deletes.then_some(after));
        config
    }

    pub fn process(&self) -> Process {
        Process::new(Arc::new(SystemClock), BTreeMap::new())
    }

    /// What `trailsync check` prints, and its exit code.
    pub async fn check(&self, options: Options) -> (String, trailsync::cli::Exit) {
        let mut out = Vec::new();
        let exit = check(&self.config(), &options, &self.process(), &mut out).await.expect("checked");
        (String::from_utf8(out).expect("text"), exit)
    }

    pub async fn text(&self) -> (String, trailsync::cli::Exit) {
        self.check(Options { sources: vec![], json: false, list_buckets: false }).await
    }

    pub async fn json(&self) -> Value {
        let (text, _) = self.check(Options { sources: vec![], json: true, list_buckets: false }).await;
        serde_json::from_str(&text).expect("JSON")
    }

    /// The same text on every machine and at every time.
    pub fn steady(&self, text: &str) -> String {
        let text = text.replace(&self.aws.endpoint(), "http://ENDPOINT");
        let text = text.replace(&self.work.path().display().to_string(), "/WORK");
        text.lines().map(|line| steady_line(line) + "\n").collect()
    }
}

fn steady_line(line: &str) -> String {
    // On a machine that is busy an answer is some seconds old when it is looked at.
    if line.contains("  ok       clock ") && line.ends_with(" s ahead of the service's") {
        return "  ok       clock             the same to the second".to_owned();
    }
    let line = between(line, "(request ", ")", "ID");
    let line = between(&line, "a session until ", "Z", "TIME").replace("TIMEZ", "TIME");
    let line = between(&line, "ENOSPC: ", " MiB are free", "SOME");
    let line = between(&line, " on ", " reserved", "FS, FREE free and SOME");
    let words = line.split(' ').map(|word| if is_compact_time(word) { "TIME" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// `20230710T120507Z`, as signatures have it.
fn is_compact_time(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    word.len() == 16 && digits == 14 && word.as_bytes()[8] == b'T'
}

/// Replaces what stands between the two, where both are there and what is between looks like the destination's room.
fn between(line: &str, before: &str, after: &str, with: &str) -> String {
    let Some((head, rest)) = line.split_once(before) else { return line.to_owned() };
    let Some((inside, tail)) = rest.split_once(after) else { return line.to_owned() };
    if before == " on " && !inside.contains(" free and ") {
        return line.to_owned();
    }
    format!("{head}{before}{with}{after}{tail}")
}

/// A port on which nobody listens.
pub fn deserted() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

/// Files below a directory with their bytes.
pub fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("readable") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.clone(), fs::read(&path).expect("readable"));
            }
        }
    }
    found
}
