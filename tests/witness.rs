//! An independent witness: moto as the service, the AWS CLI as the other mirror.
//!
//! Neither shares a line with us or with our own test server. moto checks our signatures and asks its policies; it
//! is lenient elsewhere, so failures are tested against our own server, not here. The witness is a private Python
//! environment, see `tests/witness-requirements.txt`; `TRAILSYNC_WITNESS` says where it is, or `skip`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

#[path = "support/moto.rs"]
mod moto;

use moto::{Moto, witness};

/// The account in which moto puts everybody.
const ACCOUNT: &str = "123456789012";
const BUCKET: &str = "witnessed-trail-logs";
/// Where copies go in the test that has a bucket as destination.
const ARCHIVE: &str = "witnessed-archive";
const REGION: &str = "us-east-1";
/// More than one page of the listing.
const LOGS: usize = 1_030;

/// moto, and the key pair with which it is asked.
struct Service {
    moto: Moto,
    key: Option<(String, String)>,
}

impl Deref for Service {
    type Target = Moto;

    fn deref(&self) -> &Moto {
        &self.moto
    }
}

impl Service {
    fn start(programs: PathBuf) -> Self {
        Self { moto: Moto::start(programs), key: None }
    }

    /// The AWS CLI; what it says on stdout.
    fn aws(&self, arguments: &[&str]) -> String {
        let (id, secret) = self.key.clone().unwrap_or_else(|| ("anybody".into(), "anything".into()));
        let done = Command::new(self.programs.join("aws"))
            .args(arguments)
            .env("AWS_ENDPOINT_URL", self.endpoint())
            .env("AWS_DEFAULT_REGION", REGION)
            .env("AWS_ACCESS_KEY_ID", id)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .env_remove("AWS_SESSION_TOKEN")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_PAGER", "")
            .output()
            .expect("aws runs");
        assert!(done.status.success(), "aws {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("text")
    }

    fn aws_json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.aws(arguments)).expect("JSON")
    }

    /// A user with a key, and a role that trusts exactly this user (moto does not know trust in an account's root).
    fn shared_role(&mut self) -> String {
        let user = self.aws_json(&["iam", "create-user", "--user-name", "mirror"]);
        let user = user["User"]["Arn"].as_str().expect("an ARN").to_owned();
        let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
            "Principal": {"AWS": user}, "Action": "sts:AssumeRole"}]});
        let role = ["iam", "create-role", "--role-name", "ReadLogs", "--assume-role-policy-document"];
        let role = self.aws_json(&[&role[..], &[&trust.to_string()]].concat());
        let role = role["Role"]["Arn"].as_str().expect("an ARN").to_owned();
        let bucket = format!("arn:aws:s3:::{BUCKET}");
        let read = json!([{"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": [bucket, format!("{bucket}/*")]}]);
        let mut for_user = read.as_array().expect("a list").clone();
        for_user.push(json!({"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role}));
        let archive = format!("arn:aws:s3:::{ARCHIVE}");
        for_user.push(json!({"Effect": "Allow", "Resource": [archive, format!("{archive}/*")], "Action": [
            "s3:PutObject", "s3:PutObjectRetention", "s3:GetObject", "s3:ListBucket", "s3:ListBucketMultipartUploads",
            "s3:AbortMultipartUpload", "s3:GetBucketObjectLockConfiguration", "s3:GetObjectRetention"]}));
        let document = |statements: Value| json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        let put = ["iam", "put-user-policy", "--user-name", "mirror", "--policy-name", "p", "--policy-document"];
        self.aws(&[&put[..], &[&document(for_user.into())]].concat());
        let put = ["iam", "put-role-policy", "--role-name", "ReadLogs", "--policy-name", "p", "--policy-document"];
        self.aws(&[&put[..], &[&document(read)]].concat());
        self.key = Some(self.new_key("mirror"));
        // From here on moto checks every signature and asks its policies.
        assert_eq!(self.raw("POST", "/moto-api/reset-auth", "Content-Type: text/plain\r\n", b"0"), 200);
        role
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text.as_bytes()).expect("in memory");
    gzip.finish().expect("in memory")
}

/// One stream of more than a page, a second region, two digests, and a name that a careless client would mangle.
fn fill(moto: &Service) -> Vec<String> {
    let stream = |kind: &str, region: &str| format!("AWSLogs/{ACCOUNT}/{kind}/{region}/2023/07");
    for number in 0..LOGS {
        let (day, minute) = (10 + number % 9, number % 1_440);
        let time = format!("202307{day}T{:02}{:02}Z", minute / 60, minute % 60);
        let name = format!("{ACCOUNT}_CloudTrail_{REGION}_{time}_{number:016}.json.gz");
        moto.put(
            BUCKET,
            &format!("{}/{day}/{name}", stream("CloudTrail", REGION)),
            [],
            &gzip(&format!("{{\"n\":{number}}}")),
        );
    }
    let elsewhere =
        format!("{}/11/{ACCOUNT}_CloudTrail_eu-west-1_20230711T0005Z_abc.json.gz", stream("CloudTrail", "eu-west-1"));
    moto.put(BUCKET, &elsewhere, [], &gzip("{}"));
    moto.put(BUCKET, &format!("{}/11/a b+c&d=e,f.json.gz", stream("CloudTrail", REGION)), [], &gzip("{\"odd\":1}"));
    let digest = |hour: u32| {
        let folder = format!("{}/11", stream("CloudTrail-Digest", REGION));
        let name = format!("{ACCOUNT}_CloudTrail-Digest_{REGION}_trail_{REGION}_20230711T{hour:02}0000Z.json.gz");
        let key = format!("{folder}/{name}");
        let signature = format!("{hour:02x}").repeat(256);
        let metadata = [("signature", signature.as_str()), ("signature-algorithm", "SHA256withRSA")];
        moto.put(BUCKET, &key, metadata, &gzip("{\"digest\":true}"));
        key
    };
    vec![digest(1), digest(2)]
}

/// `destination` has `{id}` and `{secret}` where the files of the key pair are named.
fn configuration(moto: &Service, role: &str, work: &Path, destination: &str) -> PathBuf {
    let (id, secret) = moto.key.clone().expect("a key");
    let file = |name: &str, text: &str, mode| {
        let path = work.join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("its mode");
        path
    };
    let (id, secret) = (file("id", &id, 0o600), file("secret", &secret, 0o600));
    let (endpoint, work) = (moto.endpoint(), work.display());
    let destination =
        destination.replace("{id}", &id.display().to_string()).replace("{secret}", &secret.display().to_string());
    let text = format!(
        r#"
[http]
listen = "off"
[state]
dir = "{work}/state"
[source.witnessed]
bucket = "{BUCKET}"
region = "{REGION}"
accounts = ["{ACCOUNT}"]
destination = {{ {destination} }}
endpoints = {{ s3 = "{endpoint}", sts = "{endpoint}", path_style = true }}
credentials = {{ access_key_id_file = "{}", secret_access_key_file = "{}" }}
[source.witnessed.role]
arn = "{role}"
session_name = "trailsync"
"#,
        id.display(),
        secret.display()
    );
    file("trailsync.toml", &text, 0o600)
}

/// Every file below a folder by its path there, without what is trailsync's own.
fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("readable") {
            let path = entry.expect("an entry").path();
            let below = path.strip_prefix(root).expect("below").to_str().expect("UTF-8").to_owned();
            if path.is_dir() {
                folders.extend((below != ".trailsync").then_some(path));
            } else if !below.ends_with("%_meta.json") {
                files.insert(below, std::fs::read(&path).expect("readable"));
            }
        }
    }
    files
}

/// The program, and nothing of what tests are told in the environment.
fn trailsync(configuration: &Path, arguments: &[&str]) -> Output {
    let mut trailsync = Command::new(env!("CARGO_BIN_EXE_trailsync"));
    std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"TRAILSYNC_")).for_each(|(name, _)| {
        trailsync.env_remove(name);
    });
    trailsync
        .arg("--config")
        .arg(configuration)
        .args(["--log", "warn"])
        .args(arguments)
        .output()
        .expect("trailsync runs")
}

fn sync(configuration: &Path) -> String {
    let done = trailsync(configuration, &["sync", "--quiet"]);
    let (said, complained) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{}: {said}{complained}", done.status);
    said.into_owned()
}

#[test]
fn the_copy_of_an_independent_service_is_the_one_that_the_aws_cli_makes() {
    let Some(programs) = witness() else { return };
    let mut moto = Service::start(programs);
    assert_eq!(moto.raw("PUT", &format!("/{BUCKET}"), "", b""), 200);
    let digests = fill(&moto);
    let role = moto.shared_role();
    let unsigned = moto.raw("GET", &format!("/{BUCKET}?list-type=2"), "", b"");
    assert!(unsigned >= 400, "a witness that lets anybody in proves nothing: {unsigned}");
    let work = tempfile::tempdir().expect("a directory");
    let destination = format!("path = {:?}, allow_volatile = true", work.path().join("ours"));
    let configuration = configuration(&moto, &role, work.path(), &destination);
    println!("trailsync: {}", sync(&configuration).trim());
    let theirs = work.path().join("theirs");
    moto.aws(&["s3", "sync", "--only-show-errors", &format!("s3://{BUCKET}"), theirs.to_str().expect("UTF-8")]);

    let (ours, theirs) = (tree(&work.path().join("ours")), tree(&theirs));
    assert_eq!(theirs.len(), LOGS + 4, "the witness saw everything");
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (path, bytes) in &theirs {
        assert_eq!(&ours[path], bytes, "{path}");
    }
    for key in &digests {
        let beside = std::fs::read(work.path().join("ours").join(format!("{key}%_meta.json"))).expect("a sidecar");
        let beside: Value = serde_json::from_slice(&beside).expect("JSON");
        let shown = moto.aws_json(&["s3api", "head-object", "--bucket", BUCKET, "--key", key]);
        assert_eq!(beside["metadata"], shown["Metadata"], "{key}");
        assert_eq!(shown["Metadata"]["signature"].as_str().map(str::len), Some(512), "{key}: it carries a signature");
    }
    let again = sync(&configuration);
    assert!(again.starts_with("0 objects") && again.contains(" 0 GET requests"), "nothing is fetched twice: {again}");
}

#[test]
fn an_independent_service_takes_copies_once_locked_and_in_parts() {
    let Some(programs) = witness() else { return };
    let mut moto = Service::start(programs);
    assert_eq!(moto.raw("PUT", &format!("/{BUCKET}"), "", b""), 200);
    assert_eq!(moto.raw("PUT", &format!("/{ARCHIVE}"), "x-amz-bucket-object-lock-enabled: true\r\n", b""), 200);
    let digests = fill(&moto);
    let mut random = fastrand::Rng::with_seed(9);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(9 << 20).collect();
    let mut large = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    large.write_all(&noise).expect("in memory");
    let large = large.finish().expect("in memory");
    let large_key = format!(
        "AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/2023/07/12/{ACCOUNT}_CloudTrail_{REGION}_20230712T0005Z_large.json.gz"
    );
    moto.put(BUCKET, &large_key, [], &large);
    let role = moto.shared_role();
    let work = tempfile::tempdir().expect("a directory");
    let endpoint = moto.endpoint();
    let destination = format!(
        "bucket = \"{ARCHIVE}\", prefix = \"p\", multipart_mib = 5, object_lock = {{ mode = \"GOVERNANCE\", days = 1 }}, \
         endpoints = {{ s3 = \"{endpoint}\", path_style = true }}, \
         credentials = {{ access_key_id_file = \"{{id}}\", secret_access_key_file = \"{{secret}}\" }}"
    );
    let configuration = configuration(&moto, &role, work.path(), &destination);
    println!("trailsync: {}", sync(&configuration).trim());

    // Two folders as the AWS CLI fetches them: the source, and the copy.
    let (theirs, ours) = (work.path().join("theirs"), work.path().join("ours"));
    for (bucket, to) in [(BUCKET.to_owned(), &theirs), (format!("{ARCHIVE}/p"), &ours)] {
        moto.aws(&["s3", "sync", "--only-show-errors", &format!("s3://{bucket}"), to.to_str().expect("UTF-8")]);
    }
    let (theirs, ours) = (tree(&theirs), tree(&ours));
    assert_eq!(theirs.len(), LOGS + 5, "the witness saw everything");
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    assert!(ours == theirs, "bytes differ");
    for key in &digests {
        let shown =
            |bucket: &str, key: &str| moto.aws_json(&["s3api", "head-object", "--bucket", bucket, "--key", key]);
        let copy = shown(ARCHIVE, &format!("p/{key}"));
        assert_eq!(copy["Metadata"], shown(BUCKET, key)["Metadata"], "{key}: its signature stays");
        assert_eq!(copy["ObjectLockMode"], "GOVERNANCE", "{key}");
    }
    let large = moto.aws_json(&["s3api", "head-object", "--bucket", ARCHIVE, "--key", &format!("p/{large_key}")]);
    assert!(large["ETag"].as_str().is_some_and(|tag| tag.ends_with("-2\"")), "it went up in parts: {large}");
    let again = sync(&configuration);
    assert!(again.starts_with("0 objects") && again.contains(" 0 GET requests"), "nothing is fetched twice: {again}");
}

/// What hangs on the role and on the caller, as `trailsync policy` prints it.
fn printed(configuration: &Path, caller: &str) -> BTreeMap<String, Value> {
    let done = trailsync(configuration, &["policy", "--format", "json", "--caller", caller]);
    let all: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    let documents = all["documents"].as_array().expect("documents").iter();
    documents.map(|one| (one["attachment"].as_str().expect("a word").to_owned(), one["policy"].clone())).collect()
}

impl Service {
    /// Who may do everything, also when moto asks its policies.
    fn administrator(&mut self) -> (String, String) {
        self.aws(&["iam", "create-user", "--user-name", "admin"]);
        let all = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
        let put = ["iam", "put-user-policy", "--user-name", "admin", "--policy-name", "p", "--policy-document", all];
        self.aws(&put);
        self.new_key("admin")
    }

    fn new_key(&self, user: &str) -> (String, String) {
        let key = self.aws_json(&["iam", "create-access-key", "--user-name", user]);
        let part = |name: &str| key["AccessKey"][name].as_str().expect("a part of a key").to_owned();
        (part("AccessKeyId"), part("SecretAccessKey"))
    }

    /// A policy of the role and one of the caller; one without statements is none, for moto takes no empty one.
    fn allow(&self, of: &str, name: &str, policy: &Value) {
        let (put, delete) = (format!("put-{of}-policy"), format!("delete-{of}-policy"));
        let which = [&format!("--{of}-name"), name, "--policy-name", "printed"];
        if policy["Statement"].as_array().is_none_or(Vec::is_empty) {
            self.aws(&[&["iam", &delete], &which[..]].concat());
        } else {
            let document = policy.to_string();
            self.aws(&[&["iam", &put], &which[..], &["--policy-document", &document]].concat());
        }
    }
}

#[test]
fn an_independent_judge_of_policies_lets_us_read_with_what_is_printed_and_not_with_less() {
    let Some(programs) = witness() else { return };
    let mut moto = Service::start(programs);
    assert_eq!(moto.raw("PUT", &format!("/{BUCKET}"), "", b""), 200);
    let log = format!(
        "AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/2023/07/11/{ACCOUNT}_CloudTrail_{REGION}_20230711T0005Z_abc.json.gz"
    );
    moto.put(BUCKET, &log, [], &gzip(r#"{"Records":[]}"#));
    let admin = moto.administrator();
    let user = moto.aws_json(&["iam", "create-user", "--user-name", "mirror"]);
    let user = user["User"]["Arn"].as_str().expect("an ARN").to_owned();
    let work = tempfile::tempdir().expect("a directory");
    let role = format!("arn:aws:iam::{ACCOUNT}:role/ReadLogs");
    moto.key = Some(moto.new_key("mirror"));
    let destination = format!("path = {:?}, allow_volatile = true", work.path().join("ours"));
    let configuration = configuration(&moto, &role, work.path(), &destination);
    // moto gives no public keys.
    let mut text = std::fs::read_to_string(&configuration).expect("readable");
    text = text.replace("[source.witnessed.role]", "kinds = [\"CloudTrail\"]\n[source.witnessed.role]");
    std::fs::write(&configuration, text).expect("written");

    moto.key = Some(admin);
    let documents = printed(&configuration, &user);
    let trust = documents["role-trust"].to_string();
    moto.aws(&["iam", "create-role", "--role-name", "ReadLogs", "--assume-role-policy-document", &trust]);
    let install = |documents: &BTreeMap<String, Value>| {
        moto.allow("role", "ReadLogs", &documents["role-access"]);
        moto.allow("user", "mirror", &documents["caller"]);
    };
    install(&documents);
    assert_eq!(moto.raw("POST", "/moto-api/reset-auth", "Content-Type: text/plain\r\n", b"0"), 200);
    let failed_at = || -> Value {
        let done = trailsync(&configuration, &["check", "--json"]);
        let said: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
        said["sources"][0]["failed_at"].clone()
    };
    assert_eq!(failed_at(), Value::Null, "with exactly what is printed");
    assert!(sync(&configuration).starts_with("1 objects"));
    for (attachment, action, hop) in [
        ("caller", "sts:AssumeRole", "assume-role"),
        ("role-access", "s3:GetBucketLocation", "bucket"),
        ("role-access", "s3:ListBucket", "list"),
        ("role-access", "s3:GetObject", "get"),
    ] {
        let mut fewer = documents.clone();
        let statements = fewer.get_mut(attachment).and_then(|policy| policy["Statement"].as_array_mut());
        let statements = statements.expect("statements");
        let before = statements.len();
        statements.retain(|statement| statement["Action"] != action);
        assert_eq!(statements.len(), before - 1, "{action} stands alone in its statement");
        install(&fewer);
        assert_eq!(failed_at(), hop, "without {action}");
    }
}
