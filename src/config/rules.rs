//! What must hold between options, between sources, and between options and this machine.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use super::Purpose;
use super::check::Settings;
use super::mistake::{Mistake, quoted};
use super::section::Section;
use super::shape;
use super::value::show_duration;
use crate::clock::Timestamp;

mod bucket;
mod deletion;

const DAY: Duration = Duration::from_secs(86_400);

/// For how long after a failed delivery logs may still arrive (AWS `CloudTrail` User Guide).
const REDELIVERY: Duration = Duration::from_secs(30 * 86_400);

/// What breaks the rules, and what is allowed but odd.
#[derive(Default)]
pub struct Verdict {
    /// The configuration cannot be used as it is.
    pub mistakes: Vec<Mistake>,
    /// It can, and somebody should know.
    pub warnings: Vec<Mistake>,
    only_looks: bool,
}

/// Applies every rule to the settings that are good on their own.
pub fn judge(settings: &Settings, environment: &BTreeMap<String, String>, now: Timestamp, purpose: Purpose) -> Verdict {
    let mut verdict = Verdict { only_looks: purpose == Purpose::Look, ..Verdict::default() };
    let global = Section::global(settings);
    let sources = Section::sources(settings);
    verdict.http(&global);
    for source in &sources {
        verdict.prefix(source);
        verdict.since(source, now);
        verdict.partitions(source, source.text("region"));
        verdict.keys(source);
        verdict.credentials(source, environment);
        verdict.files(source);
        verdict.modes(source);
        verdict.intervals(source);
        verdict.windows(source, &global);
        verdict.lookback(source);
        verdict.state_apart(source, &global);
        verdict.storage(source, &sources, environment);
        verdict.deletion(source);
    }
    for (at, later) in sources.iter().enumerate() {
        for earlier in &sources[..at] {
            verdict.destinations_apart(earlier, later);
            verdict.buckets_apart(earlier, later);
            verdict.sources_apart(earlier, later);
            verdict.external_ids_apart(earlier, later);
        }
    }
    verdict
}

impl Verdict {
    fn refuse(&mut self, at: &Section<'_>, name: &str, problem: impl Into<String>, mend: impl Into<String>) {
        self.mistakes.push(Mistake::at(at.path(name), problem).set_by_any(at.origin(name)).mend(mend));
    }

    /// Something that only a session with the service needs is not there for us.
    fn lack(&mut self, at: &Section<'_>, name: &str, problem: String, mend: &str) {
        if self.only_looks { self.warn(at, name, problem, mend) } else { self.refuse(at, name, problem, mend) }
    }

    fn warn(&mut self, at: &Section<'_>, name: &str, problem: impl Into<String>, mend: impl Into<String>) {
        self.warnings.push(Mistake::at(at.path(name), problem).set_by_any(at.origin(name)).mend(mend));
    }

    /// Beyond this machine the page needs a token.
    fn http(&mut self, global: &Section<'_>) {
        if let Some(path) = global.text("http.token_file") {
            self.secret_file(global, "http.token_file", path);
            return;
        }
        let listen = global.text("http.listen").and_then(|listen| listen.parse::<std::net::SocketAddr>().ok());
        if listen.is_some_and(|listen| !listen.ip().is_loopback()) {
            let problem = "is reachable from other machines, and whoever reaches it reads how far every account is";
            self.warn(global, "http.listen", problem, "set `http.token_file`, or let only your own network through");
        }
    }

    fn prefix(&mut self, source: &Section<'_>) {
        if source.text("prefix").is_some_and(|prefix| prefix.contains("AWSLogs")) {
            let problem = "contains `AWSLogs`, which comes after the trail's prefix and is added here";
            self.warn(source, "prefix", problem, "write only what stands before `AWSLogs/`");
        }
    }

    fn since(&mut self, source: &Section<'_>, now: Timestamp) {
        if source.time("since").is_some_and(|since| since > now) {
            self.warn(source, "since", "is in the future: nothing is mirrored until then", "check the year");
        }
    }

    /// A role's ARN and the regions of bucket and STS are of one partition; credentials do not cross.
    fn partitions(&mut self, source: &Section<'_>, region: Option<&str>) {
        let Some(region) = region else { return };
        let partition = shape::partition(region);
        if let Some((of_role, _)) = source.text("role.arn").and_then(shape::role_parts)
            && of_role != partition
        {
            let problem = format!("is in partition `{of_role}`, but region `{region}` is in `{partition}`");
            self.refuse(
                source,
                "role.arn",
                problem,
                format!("for example `arn:{partition}:iam::111111111111:role/CloudTrailReadB`"),
            );
        }
        if let Some(sts) = source.text("role.sts_region").filter(|sts| shape::partition(sts) != partition) {
            let problem = format!("`{sts}` is in partition `{}`, the bucket in `{partition}`", shape::partition(sts));
            self.refuse(source, "role.sts_region", problem, format!("for example `{region}`"));
        }
    }

    /// S3 encrypts with keys of the bucket's own region alone (S3 User Guide, "Specifying server-side encryption
    /// with AWS KMS").
    fn keys(&mut self, source: &Section<'_>) {
        let Some(region) = source.text("region") else { return };
        let keys = source.texts("kms_keys").unwrap_or_default();
        let elsewhere = keys.iter().find(|key| shape::kms_parts(key).is_some_and(|(_, of_key, _)| of_key != region));
        if let Some(key) = elsewhere {
            let problem = format!("names {}, which is not in the bucket's region, `{region}`", quoted(key));
            self.refuse(source, "kms_keys", problem, "S3 encrypts with keys of its own region: name those");
        }
    }

    /// One way to get base credentials, whole, and there on this machine.
    fn credentials(&mut self, source: &Section<'_>, environment: &BTreeMap<String, String>) {
        let ways = ["profile", "access_key_id_file", "access_key_id_env"];
        let partners = |kind: &str| {
            ["access_key_id", "secret_access_key", "session_token"].map(|part| format!("credentials.{part}_{kind}"))
        };
        let used = ways.iter().filter(|way| match way.rsplit_once('_') {
            Some((_, kind)) => partners(kind).iter().any(|name| source.get(name).is_some()),
            None => source.get("credentials.profile").is_some(),
        });
        if used.count() > 1 {
            let mend = "keep one of: a profile, files of a key pair, variables of a key pair, or nothing for the default chain";
            self.refuse(source, "credentials", "has more than one way to get credentials", mend);
        }
        for kind in ["file", "env"] {
            let [id, secret, token] = partners(kind);
            if partners(kind).iter().all(|name| source.get(name).is_none()) {
                continue;
            }
            for name in [&id, &secret] {
                if source.get(name).is_none() {
                    let others = "the other parts of the key pair are set";
                    self.refuse(
                        source,
                        name,
                        format!("is missing, while {others}"),
                        "set the whole pair, or none of it",
                    );
                }
            }
            for name in [&id, &secret, &token] {
                match (kind, source.text(name)) {
                    ("file", Some(path)) => self.secret_file(source, name, path),
                    (_, Some(variable)) => self.variable(source, name, variable, environment),
                    (_, None) => {}
                }
            }
        }
    }

    fn variable(&mut self, source: &Section<'_>, name: &str, variable: &str, environment: &BTreeMap<String, String>) {
        if environment.get(variable).is_none_or(String::is_empty) {
            let problem = format!("names the variable {variable}, which is not set");
            self.lack(source, name, problem, "set it where trailsync is started, such as the unit's EnvironmentFile");
        }
    }

    /// A file of a secret is there, can be read by us, and not by everybody. Its content stays unread.
    fn secret_file(&mut self, source: &Section<'_>, name: &str, path: &str) {
        if self.readable(source, name, path)
            && std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
        {
            let problem = format!("names {}, which everybody on this machine can read", quoted(path));
            let mend = "take the rights of others away (chmod o-rwx); for a mounted secret, mode 0440 and our group";
            self.refuse(source, name, problem, mend);
        }
    }

    fn files(&mut self, source: &Section<'_>) {
        if let Some(path) = source.text("endpoints.ca_bundle") {
            self.readable(source, "endpoints.ca_bundle", path);
        }
    }

    fn readable(&mut self, source: &Section<'_>, name: &str, path: &str) -> bool {
        let error = match File::open(path).and_then(|file| file.metadata()) {
            Ok(file) if file.is_file() => return true,
            Ok(_) => "not a regular file".to_owned(),
            Err(error) => error.to_string(),
        };
        let problem = format!("names {}, which cannot be read: {error}", quoted(path));
        self.lack(source, name, problem, "put the file there, readable by the user that runs trailsync");
        false
    }

    fn modes(&mut self, source: &Section<'_>) {
        let bits = [("destination.file_mode", 0o004, "0640"), ("destination.dir_mode", 0o005, "0750")];
        for (name, readable, better) in bits {
            match source.mode(name) {
                Some(mode) if mode & 0o002 != 0 => {
                    let problem = format!("is {mode:04o}, with which everybody could alter the copy");
                    self.refuse(source, name, problem, format!("for example `\"{better}\"`"));
                }
                Some(mode) if mode & readable != 0 => {
                    let problem = format!("is {mode:04o}: everybody on this machine can read the logs");
                    self.warn(
                        source,
                        name,
                        problem,
                        format!("\"{better}\" and `destination.group` let one group read them"),
                    );
                }
                _ => {}
            }
        }
    }

    fn intervals(&mut self, source: &Section<'_>) {
        if let (Some(every), Some(idle)) = (source.duration("poll.every"), source.duration("poll.idle_every"))
            && idle < every
        {
            let problem = format!("is {}, shorter than `poll.every`, {}", show_duration(idle), show_duration(every));
            self.refuse(source, "poll.idle_every", problem, format!("at least `{}`", show_duration(every)));
        }
    }

    /// The least window fits into the most, and the most into the days that the ledger holds.
    fn windows(&mut self, source: &Section<'_>, global: &Section<'_>) {
        let Some(most) = source.duration("poll.max_window") else { return };
        if let Some(least) = source.duration("poll.min_window").filter(|least| *least > most) {
            let problem =
                format!("is {}, longer than `poll.max_window`, {}", show_duration(least), show_duration(most));
            self.refuse(source, "poll.min_window", problem, format!("at most `{}`", show_duration(most)));
        }
        let days = global.integer("state.ledger_days").and_then(|days| u32::try_from(days).ok());
        if let Some(days) = days.filter(|days| DAY * *days < most) {
            let problem = format!("is {}, longer than `state.ledger_days`, {days}", show_duration(most));
            self.refuse(source, "poll.max_window", problem, format!("at most `{days}d`, or raise `state.ledger_days`"));
        }
    }

    /// Each tier is deeper and rarer than the one before, the first than the polls themselves.
    fn lookback(&mut self, source: &Section<'_>) {
        const NAME: &str = "poll.lookback";
        let Some(tiers) = source.tiers(NAME) else { return };
        let example = "for example `[{ depth = \"2h\", every = \"15m\" }, { depth = \"26h\", every = \"6h\" }]`";
        let ascending = tiers.is_sorted_by(|a, b| a.depth < b.depth && a.every < b.every);
        if !ascending {
            self.refuse(source, NAME, "must go deeper and be rarer from each tier to the next", example);
        }
        let Some((first, last)) = tiers.first().zip(tiers.last()) else {
            let problem = "is empty: what comes late is found by the full listing alone";
            return self.warn(source, NAME, problem, example);
        };
        if let Some(window) = source.duration("poll.max_window").filter(|window| first.depth < *window) {
            let problem = format!(
                "starts at a depth of {}, less than `poll.max_window`, {}",
                show_duration(first.depth),
                show_duration(window)
            );
            self.refuse(source, NAME, problem, format!("start at `{}` or deeper", show_duration(window)));
        }
        if let Some(every) = source.duration("poll.every").filter(|every| first.every < *every) {
            let problem = format!(
                "starts every {}, more often than `poll.every`, {}",
                show_duration(first.every),
                show_duration(every)
            );
            self.refuse(source, NAME, problem, format!("start at `{}` or rarer", show_duration(every)));
        }
        if last.depth < REDELIVERY {
            let problem =
                format!("ends at {}, but CloudTrail may redeliver up to 30 days late", show_duration(last.depth));
            self.warn(source, NAME, problem, "end with a tier such as `{ depth = \"35d\", every = \"1d\" }`");
        }
    }

    fn state_apart(&mut self, source: &Section<'_>, global: &Section<'_>) {
        if let (Some(state), Some(copy)) = (global.text("state.dir"), source.text("destination.path"))
            && nested(state, copy)
        {
            let problem = format!("`{copy}` and `state.dir`, `{state}`, are the same or inside each other");
            self.refuse(source, "destination.path", problem, "keep copy and state in directories apart");
        }
    }

    fn destinations_apart(&mut self, earlier: &Section<'_>, later: &Section<'_>) {
        if let (Some(one), Some(other)) = (earlier.text("destination.path"), later.text("destination.path"))
            && nested(one, other)
        {
            let problem = format!(
                "`{other}` and `{}`, `{one}`, are the same or inside each other",
                earlier.path("destination.path")
            );
            self.refuse(later, "destination.path", problem, "give each source a tree of its own");
        }
    }

    /// Two sources never mirror the same objects: they would do the work twice and alarm about each other.
    fn sources_apart(&mut self, earlier: &Section<'_>, later: &Section<'_>) {
        let same = |name: &str| matches!((earlier.text(name), later.text(name)), (Some(a), Some(b)) if a == b);
        let maybe_same = |name: &str| !matches!((earlier.text(name), later.text(name)), (Some(a), Some(b)) if a != b);
        let overlap = |name: &str| match (earlier.texts(name), later.texts(name)) {
            (Some(a), Some(b)) => a.is_empty() || b.is_empty() || a.iter().any(|item| b.contains(item)),
            _ => false,
        };
        let lists = ["accounts", "kinds", "regions"];
        if same("bucket") && same("prefix") && maybe_same("organization") && lists.into_iter().all(overlap) {
            let problem = format!("mirrors objects that `{}` mirrors too", earlier.path("bucket"));
            self.refuse(
                later,
                "bucket",
                problem,
                "part them by prefix, accounts, kinds or regions (empty means all), or drop one",
            );
        }
    }

    /// IAM User Guide, "The confused deputy problem": each customer has an external ID of its own.
    fn external_ids_apart(&mut self, earlier: &Section<'_>, later: &Section<'_>) {
        const NAME: &str = "role.external_id";
        let account = |source: &Section<'_>| {
            source.text("role.arn").and_then(shape::role_parts).map(|(_, account)| account.to_owned())
        };
        let same_id = matches!((earlier.text(NAME), later.text(NAME)), (Some(a), Some(b)) if a == b);
        if same_id && matches!((account(earlier), account(later)), (Some(a), Some(b)) if a != b) {
            let problem = format!("is the same as `{}`, whose role is in another account", earlier.path(NAME));
            self.warn(
                later,
                NAME,
                problem,
                "give each account an external ID of its own, so that none can use another's role",
            );
        }
    }
}

/// Whether two absolute paths are the same, or one is inside the other; by their names alone.
fn nested(one: &str, other: &str) -> bool {
    let (one, other) = (Path::new(one), Path::new(other));
    one.starts_with(other) || other.starts_with(one)
}
