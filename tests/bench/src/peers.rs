//! The tools that people would use instead, as they would call them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Setting;
use crate::server::Server;

/// How many requests peers may have in flight where they have a choice.
const IN_FLIGHT: &str = "32";

/// Another tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    S5cmd,
    Rclone,
    Aws,
}

impl Peer {
    /// All of them, the fastest first.
    pub const ALL: [Peer; 3] = [Peer::S5cmd, Peer::Rclone, Peer::Aws];

    /// Those that are to be run.
    pub fn wanted(setting: &Setting) -> impl Iterator<Item = Peer> {
        Self::ALL.into_iter().filter(|_| !setting.without_peers)
    }

    /// What is called.
    pub fn name(self) -> &'static str {
        match self {
            Peer::S5cmd => "`s5cmd sync`",
            Peer::Rclone => "`rclone sync --transfers 32`",
            Peer::Aws => "`aws s3 sync`",
        }
    }

    /// It takes ten times as long as the others, or more.
    pub fn is_slow(self) -> bool {
        self == Peer::Aws
    }

    /// Its program, if it is installed.
    pub fn program(self, setting: &Setting) -> Result<PathBuf, String> {
        let private = |name: &str, how: &str| {
            let path = std::path::absolute(&setting.witness).unwrap_or_default().join("bin").join(name);
            path.exists().then_some(path).ok_or_else(|| format!("`{name}` is not there: {how}"))
        };
        match self {
            Peer::S5cmd => private("s5cmd", "run `make bench-peers`"),
            Peer::Aws => private("aws", "run `make bench-peers`"),
            Peer::Rclone => {
                let paths = std::env::var_os("PATH").unwrap_or_default();
                let found =
                    std::env::split_paths(&paths).map(|folder| folder.join("rclone")).find(|path| path.exists());
                found.ok_or_else(|| "`rclone` is not there: on Debian, apt-get install rclone".to_owned())
            }
        }
    }

    /// Mirrors a whole bucket into a folder.
    pub fn sync(self, program: &Path, server: &Server, root: &Path) -> Command {
        let mut command = Command::new(program);
        let bucket = &server.spec.bucket;
        match self {
            Peer::S5cmd => {
                command.args(["--endpoint-url", &server.endpoint(), "--log", "error", "sync"]);
                command.arg(format!("s3://{bucket}/*")).arg(format!("{}/", root.display()));
            }
            Peer::Rclone => {
                command.args(["sync", &format!(":s3:{bucket}")]).arg(root);
                command.args(["--transfers", IN_FLIGHT, "--checkers", IN_FLIGHT, "--config", "/dev/null"]);
                command
                    .env("RCLONE_S3_PROVIDER", "Other")
                    .env("RCLONE_S3_ENDPOINT", server.endpoint())
                    .env("RCLONE_S3_ENV_AUTH", "true")
                    .env("RCLONE_S3_REGION", "us-east-1");
            }
            Peer::Aws => {
                command.args(["s3", "sync", &format!("s3://{bucket}")]).arg(root).arg("--only-show-errors");
                command.env("AWS_ENDPOINT_URL", server.endpoint());
            }
        }
        command
            .env("AWS_ACCESS_KEY_ID", "AKIABENCHBENCHBENCH0")
            .env("AWS_SECRET_ACCESS_KEY", "0".repeat(40))
            .env("AWS_REGION", "us-east-1")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("AWS_CA_BUNDLE")
            .env_remove("AWS_PROFILE");
        command
    }
}
