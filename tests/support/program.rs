//! The built program in front of account A, as an operator runs it.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tempfile::TempDir;
use tokio::process::Command;
use trailsync::config::Destination;
use trailsync::destination::local::{Found, Local};

use crate::account::{A, B, BUCKET, REGION, Shared};
use crate::archive::{ARCHIVE, Archive, PREFIX};

/// A directory with configuration, keys, state and tree, and nothing else.
pub struct Program {
    work: TempDir,
}

impl Program {
    /// An operator of B who mirrors what `shared` shows; `role` and `more` are further lines of TOML.
    pub fn new(shared: &Shared, role: &str, more: &str) -> Self {
        let work = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let tree = work.path().join("tree").display().to_string();
        Self::with_destination(work, shared, role, more, &format!("path = {tree:?}, allow_volatile = true"))
    }

    /// The same with copies in the bucket of B's own.
    pub fn archiving(shared: &Shared, archive: &Archive, more: &str) -> Self {
        let work = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let at = |name: &str| work.path().join(name).display().to_string();
        let (endpoint, arn, id, key) = (shared.aws.endpoint(), &archive.role, at("id"), at("key"));
        let destination = format!(
            "bucket = \"{ARCHIVE}\", prefix = \"{PREFIX}\", bucket_owner = \"{B}\", multipart_mib = 5, \
             role = {{ arn = \"{arn}\", session_name = \"archive\" }}, \
             credentials = {{ access_key_id_file = {id:?}, secret_access_key_file = {key:?} }}, \
             endpoints = {{ s3 = \"{endpoint}\", sts = \"{endpoint}\", path_style = true }}"
        );
        Self::with_destination(work, shared, "", more, &destination)
    }

    fn with_destination(work: TempDir, shared: &Shared, role: &str, more: &str, destination: &str) -> Self {
        let at = |name: &str| work.path().join(name).display().to_string();
        for (name, text) in [("id", &shared.user.id), ("key", &shared.user.secret)] {
            fs::write(at(name), format!("{text}\n")).expect("written");
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o600)).expect("private");
        }
        let (endpoint, arn) = (shared.aws.endpoint(), &shared.role);
        let text = format!(
            "[http]\nlisten = \"off\"\n[state]\ndir = {state:?}\n\
             [source.acme]\nbucket = \"{BUCKET}\"\nregion = \"{REGION}\"\nbucket_owner = \"{A}\"\naccounts = [\"{B}\"]\n\
             destination = {{ {destination} }}\n\
             credentials = {{ access_key_id_file = {id:?}, secret_access_key_file = {key:?} }}\n\
             endpoints = {{ s3 = \"{endpoint}\", sts = \"{endpoint}\", cloudtrail = \"{endpoint}\", path_style = true }}\n\
             [source.acme.role]\narn = \"{arn}\"\nsession_name = \"trailsync\"\n{role}\n{more}\n",
            state = at("state"),
            id = at("id"),
            key = at("key"),
        );
        fs::write(at("trailsync.toml"), text).expect("written");
        Self { work }
    }

    /// Where everything is.
    pub fn work(&self) -> &Path {
        self.work.path()
    }

    /// Where copies go.
    pub fn tree(&self) -> PathBuf {
        self.work.path().join("tree")
    }

    /// Where the state is.
    pub fn state(&self) -> PathBuf {
        self.work.path().join("state")
    }

    /// The program, with nothing in its environment that this test did not put there.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trailsync"));
        command.arg("--config").arg(self.work.path().join("trailsync.toml")).args(args);
        command.env_clear().current_dir(self.work.path()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub async fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().await.expect("the program starts")
    }

    /// Every copy by its key, as the library finds them while the program rests; paths may be longer than
    /// the system takes in one call. What is neither a copy nor its metadata is a mistake.
    pub fn copies(&self) -> BTreeMap<String, Vec<u8>> {
        let options = Destination {
            path: self.tree(),
            file_mode: 0o640,
            dir_mode: 0o750,
            group: None,
            allow_volatile: true,
            reserve_mib: Some(0),
        };
        let local = Local::open(&options).expect("the tree");
        let mut copies = BTreeMap::new();
        for found in local.walk() {
            match found.expect("readable") {
                Found::Object(place) => {
                    let mut bytes = Vec::new();
                    let mut file = local.read(&place).expect("readable").expect("a copy");
                    file.read_to_end(&mut bytes).expect("read");
                    let version = place.version.map(|version| format!("%_v{version}")).unwrap_or_default();
                    copies.insert(place.key + &version, bytes);
                }
                Found::Metadata(place) => assert!(local.read_metadata(&place).expect("readable").is_some()),
                Found::Foreign(path) => panic!("{path} is nobody's"),
            }
        }
        copies
    }

    /// What stands beside tree and state.
    pub fn beside(&self) -> Vec<String> {
        let entries = fs::read_dir(self.work.path()).expect("a directory");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    }
}

/// Every regular file below a directory; anything but files and directories is a mistake.
pub fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => panic!("{}: {error}", directory.display()),
        };
        for entry in entries {
            let entry = entry.expect("an entry");
            let (kind, path) = (entry.file_type().expect("a type"), entry.path());
            if kind.is_dir() {
                directories.push(path);
            } else if kind.is_file() {
                // What another process removes while this looks was never a copy.
                let Ok(bytes) = fs::read(&path) else { continue };
                let below = path.strip_prefix(root).expect("below the root");
                found.insert(below.to_str().expect("UTF-8").to_owned(), bytes);
            } else {
                panic!("{} is neither a file nor a directory", path.display());
            }
        }
    }
    found
}
