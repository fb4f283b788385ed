//! The configuration, as an operator meets it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use trailsync::cli::config::{Form, print, print_schema, schema};
use trailsync::config::table::{Fallback, OPTIONS};
use trailsync::config::{
    AfterMirror, Credentials, Input, Loaded, LogFormat, Mistake, ObjectLock, Refused, Require, Tier, load, variable,
};

const CANARY: &str = "canary-7d1c0f9e-never-to-be-seen";

const BASE: &str = r#"
[source.prod]
bucket = "example-trail-logs"
region = "eu-central-1"
destination = { path = "/srv/trails/prod" }
"#;

const ROLE: &str = r#"
[source.prod.role]
arn = "arn:aws:iam::111111111111:role/CloudTrailReadB"
session_name = "trailsync"
"#;

/// A configuration in the making.
#[derive(Default)]
struct Given {
    toml: Option<String>,
    environment: BTreeMap<String, String>,
    overrides: Vec<(String, String)>,
}

fn toml(text: impl Into<String>) -> Given {
    Given { toml: Some(text.into()), ..Given::default() }
}

/// The base, and more of the table `source.prod`.
fn prod(more: &str) -> Given {
    toml(format!("{BASE}{more}"))
}

impl Given {
    fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    fn flag(mut self, path: &str, value: &str) -> Self {
        self.overrides.push((path.to_owned(), value.to_owned()));
        self
    }

    fn load(self) -> Result<Loaded, Refused> {
        let dir = tempfile::tempdir().expect("a directory");
        let file = self.toml.map(|text| {
            let path = dir.path().join("trailsync.toml");
            std::fs::write(&path, text).expect("written");
            path
        });
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        load(&Input { file, environment: self.environment, overrides: self.overrides, now })
    }

    #[track_caller]
    fn loaded(self) -> Loaded {
        self.load().unwrap_or_else(|refused| panic!("{refused}"))
    }

    #[track_caller]
    fn mistakes(self) -> Vec<Mistake> {
        match self.load() {
            Ok(_) => panic!("should have been refused"),
            Err(refused) => refused.0,
        }
    }

    /// The only mistake, at `path`, with these words in it.
    #[track_caller]
    fn refused(self, path: &str, words: &str) -> String {
        let mistakes = self.mistakes();
        let said = Refused(mistakes.clone()).to_string();
        assert_eq!(mistakes.len(), 1, "{said}");
        assert_eq!(mistakes[0].path, path, "{said}");
        assert!(said.contains(words), "{words:?} is not in: {said}");
        said
    }

    /// The only warning, at `path`, with these words in it.
    #[track_caller]
    fn warned(self, path: &str, words: &str) {
        let warnings = self.loaded().warnings;
        let said = warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert_eq!(warnings.len(), 1, "{said}");
        assert!(warnings[0].path == path && said.contains(words), "{said}");
    }
}

fn printed(loaded: &Loaded, form: Form) -> String {
    let mut out = Vec::new();
    print(loaded, form, &mut out).expect("printed");
    String::from_utf8(out).expect("UTF-8")
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn the_least_configuration_gets_every_default() {
    let loaded = prod(ROLE).loaded();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let config = loaded.config;
    assert_eq!((config.state.dir.as_path(), config.state.ledger_days), (Path::new("/var/lib/trailsync"), 3));
    assert_eq!((config.log.format, config.log.filter.as_str()), (LogFormat::Auto, "info"));
    assert_eq!((config.concurrency.objects, config.concurrency.passes), (128, 16));
    let source = &config.sources["prod"];
    assert_eq!((source.name.as_str(), source.prefix.as_str(), source.concurrency), ("prod", "", 64));
    assert_eq!(source.kinds.len(), 5);
    assert!(source.accounts.is_empty() && source.regions.is_empty() && source.since.is_none());
    assert_eq!(source.bucket_owner.as_deref(), Some("111111111111"), "Account A owns role and bucket");
    let role = source.role.as_ref().expect("a role");
    assert_eq!((role.duration, role.session_policy, role.sts_region.as_str()), (HOUR, true, "eu-central-1"));
    assert!(matches!(source.credentials, Credentials::Default));
    let tree = source.destination.tree().expect("a tree");
    assert_eq!((tree.file_mode, tree.dir_mode), (0o640, 0o750));
    let poll = &source.poll;
    assert_eq!((poll.every, poll.idle_every), (MINUTE, 14 * MINUTE));
    assert_eq!((poll.min_window, poll.max_window), (20 * MINUTE, 2 * HOUR));
    assert_eq!((poll.full_every, poll.tail_every, poll.discover_every), (30 * DAY, DAY, HOUR));
    let tier = |depth, every| Tier { depth, every };
    assert_eq!(poll.tiers, [tier(2 * HOUR, 15 * MINUTE), tier(26 * HOUR, 6 * HOUR), tier(35 * DAY, DAY)]);
}

#[test]
fn without_a_role_nothing_is_assumed_about_one() {
    let source = prod("").loaded().config.sources.remove("prod").expect("prod");
    assert!(source.role.is_none() && source.bucket_owner.is_none());
}

#[test]
fn flags_go_over_variables_over_the_file_over_defaults() {
    let given = || prod("concurrency = 1\n".replace("concurrency", "[source.prod.poll]\nevery = \"10s\"\n#").as_str());
    let every = |given: Given| {
        let loaded = given.loaded();
        let origin = loaded.settings["source.prod.poll.every"].origin.to_string();
        (loaded.config.sources["prod"].poll.every.as_secs(), origin)
    };
    assert_eq!(every(prod("")), (60, "default".to_owned()));
    let (seconds, origin) = every(given());
    assert!(seconds == 10 && origin.ends_with("trailsync.toml:7"), "{origin}");
    let name = "TRAILSYNC_SOURCE__PROD__POLL__EVERY";
    assert_eq!(every(given().env(name, "20s")), (20, format!("environment {name}")));
    let flag = "source.prod.poll.every";
    assert_eq!(every(given().env(name, "20s").flag(flag, "40s").flag(flag, "30s")), (30, format!("flag {flag}")));
}

#[test]
fn everything_can_come_from_variables_alone() {
    let loaded = Given::default()
        .env("TRAILSYNC_SOURCE__PROD_EU__BUCKET", "example-trail-logs")
        .env("TRAILSYNC_SOURCE__PROD_EU__REGION", "eu-central-1")
        .env("TRAILSYNC_SOURCE__PROD_EU__DESTINATION__PATH", "/srv/a")
        .env("TRAILSYNC_SOURCE__PROD_EU__ROLE__ARN", "arn:aws:iam::012345678901:role/R")
        .env("TRAILSYNC_SOURCE__PROD_EU__ROLE__SESSION_NAME", "0123")
        .env("TRAILSYNC_SOURCE__PROD_EU__ROLE__SESSION_POLICY", "false")
        .env("TRAILSYNC_SOURCE__PROD_EU__ROLE__TAGS", "Team=audit, CostCenter=a=b")
        .env("TRAILSYNC_SOURCE__PROD_EU__ACCOUNTS", "012345678901, 222222222222")
        .env("TRAILSYNC_SOURCE__PROD_EU__POLL__LOOKBACK", "3h/20m,35d/1d")
        .env("TRAILSYNC_LOG", "debug")
        .env("TRAILSYNC_CONFIG", "read by the command line")
        .env("TRAILSYNC_PORT_9090_TCP", "tcp://10.0.0.1:9090")
        .env("HOME", "/root")
        .loaded();
    let source = &loaded.config.sources["prod-eu"];
    let role = source.role.as_ref().expect("a role");
    assert_eq!(loaded.config.log.filter, "debug");
    assert_eq!((role.session_name.as_str(), role.session_policy), ("0123", false));
    assert_eq!(role.tags["CostCenter"], "a=b");
    assert_eq!(source.accounts, ["012345678901", "222222222222"]);
    assert_eq!(source.bucket_owner.as_deref(), Some("012345678901"));
    assert_eq!(source.poll.tiers[0], Tier { depth: 3 * HOUR, every: 20 * MINUTE });
}

#[test]
fn an_account_id_keeps_its_zero_on_every_way_in() {
    let owner = |given: Given| given.loaded().config.sources["prod"].bucket_owner.clone();
    let id = "012345678901";
    assert_eq!(owner(toml(BASE.replace("region", "bucket_owner = \"012345678901\"\nregion"))).as_deref(), Some(id));
    assert_eq!(owner(prod("").env("TRAILSYNC_SOURCE__PROD__BUCKET_OWNER", id)).as_deref(), Some(id));
    assert_eq!(owner(prod("").flag("source.prod.bucket_owner", id)).as_deref(), Some(id));
}

#[test]
fn a_number_where_an_account_id_belongs_says_to_quote_it() {
    let number = |line: &str| toml(BASE.replace("region", &format!("{line}\nregion")));
    let said = number("bucket_owner = 111111111111").refused("source.prod.bucket_owner", "put it in quotes");
    assert!(said.contains("found the number `111111111111`") && said.contains("trailsync.toml:4"), "{said}");
    number("accounts = [111111111111]").refused("source.prod.accounts", "put it in quotes");
    let said = number("bucket_owner = 012345678901").mistakes()[0].to_string();
    assert!(said.contains("put account ids and modes in quotes"), "{said}");
}

#[test]
fn a_mistake_names_path_expectation_find_place_and_example() {
    let given = prod(&ROLE.replace("arn:aws:iam::111111111111:role/CloudTrailReadB", "admin"));
    let said = given.mistakes()[0].to_string();
    let (start, rest) = said.split_once(" (").expect("a place");
    assert_eq!(start, "source.prod.role.arn: expected `arn:<partition>:iam::<account>:role/<name>`, found `admin`");
    let end = "trailsync.toml:8); for example `\"arn:aws:iam::111111111111:role/CloudTrailReadB\"`";
    assert!(rest.ends_with(end), "{said}");
    let name = "TRAILSYNC_SOURCE__PROD__ROLE__ARN";
    let said = prod(ROLE).env(name, "admin").mistakes()[0].to_string();
    assert!(
        said.ends_with(&format!("(environment {name}); for example `arn:aws:iam::111111111111:role/CloudTrailReadB`")),
        "{said}"
    );
}

#[test]
fn every_mistake_is_reported_at_once() {
    let mistakes = toml(
        "[state]\ndir = \"relative\"\n[stat]\nx = 1\n[source.prod]\nbucket = \"B\"\nregoin = \"eu-central-1\"\n\
         [source.prod.role]\nduration = 3600\n[source.prod.poll]\nmin_window = \"3h\"\n",
    )
    .env("TRAILSYNC_LOG__FROMAT", "json")
    .flag("concurrency.objects", "0")
    .mistakes();
    let mut paths: Vec<&str> = mistakes.iter().map(|mistake| mistake.path.as_str()).collect();
    paths.sort_unstable();
    let expected = [
        "TRAILSYNC_LOG__FROMAT",
        "concurrency.objects",
        "source.prod.bucket",
        "source.prod.destination.path",
        "source.prod.poll.min_window",
        "source.prod.region",
        "source.prod.regoin",
        "source.prod.role.arn",
        "source.prod.role.duration",
        "source.prod.role.session_name",
        "stat",
        "state.dir",
    ];
    assert_eq!(paths, expected);
    let said = Refused(mistakes).to_string();
    assert!(said.starts_with("the configuration has 12 mistakes:\n  "), "{said}");
    for meant in ["`region`", "`state`", "`TRAILSYNC_LOG__FORMAT`"] {
        assert!(said.contains(&format!("did you mean {meant}?")), "{said}");
    }
}

#[test]
fn no_sources_is_a_mistake_with_an_example() {
    Given::default().refused("source", "for example `[source.prod]`");
    toml("source = {}").refused("source", "nothing to mirror");
    toml("source = 3").refused("source", "expected a table");
}

#[test]
fn what_is_required_and_missing_says_how_to_set_it() {
    for name in ["bucket", "region"] {
        let without: String =
            BASE.lines().filter(|line| !line.starts_with(name)).map(|line| format!("{line}\n")).collect();
        let path = format!("source.prod.{name}");
        toml(without).refused(&path, &variable(&path));
    }
    let path = "source.prod.destination.path";
    toml(BASE.replace("{ path = \"/srv/trails/prod\" }", "{}"))
        .refused(path, "`path = \"/srv/trails/prod\"` under `[source.prod.destination]`");
    let mistakes = prod("[source.prod.role]\n").mistakes();
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
}

#[test]
fn each_option_refuses_what_does_not_fit() {
    let cases: &[(&str, &str)] = &[
        ("state.dir", "var/lib"),
        ("state.dir", "/var/../lib"),
        ("state.ledger_days", "0"),
        ("state.ledger_days", "36"),
        ("log.format", "xml"),
        ("log.filter", "a=b=c"),
        ("concurrency.objects", "257"),
        ("concurrency.passes", "-1"),
        ("source.prod.bucket", "Example"),
        ("source.prod.region", "Frankfurt"),
        ("source.prod.bucket_owner", "11111111111"),
        ("source.prod.prefix", "/a"),
        ("source.prod.prefix", "a/"),
        ("source.prod.organization", "o-1"),
        ("source.prod.kinds", ""),
        ("source.prod.kinds", "cloudtrail"),
        ("source.prod.accounts", "1,2"),
        ("source.prod.regions", "eu"),
        ("source.prod.since", "soon"),
        ("source.prod.source_retention", "12h"),
        ("source.prod.kms_keys", "arn:aws:kms:eu-central-1:111111111111:alias/trail"),
        ("source.prod.concurrency", "many"),
        ("source.prod.role.session_name", "x"),
        ("source.prod.role.session_name", "a b"),
        ("source.prod.role.session_name", "größe"),
        ("source.prod.role.external_id", "x"),
        ("source.prod.role.external_id", "a b"),
        ("source.prod.role.duration", "14m"),
        ("source.prod.role.duration", "43201s"),
        ("source.prod.role.duration", "3600"),
        ("source.prod.role.source_identity", "aws:me"),
        ("source.prod.role.tags", "Team"),
        ("source.prod.role.tags", "aws:x=1"),
        ("source.prod.role.tags", "Team=1,team=2"),
        ("source.prod.role.session_policy", "yes"),
        ("source.prod.role.sts_region", "x"),
        ("source.prod.destination.path", "srv"),
        ("source.prod.destination.file_mode", "644x"),
        ("source.prod.destination.file_mode", "0040"),
        ("source.prod.destination.dir_mode", "0640"),
        ("source.prod.destination.group", "a b"),
        ("source.prod.destination.allow_volatile", "1"),
        ("source.prod.poll.every", "4s"),
        ("source.prod.poll.lookback", "2h,15m"),
        ("source.prod.endpoints.s3", "http://s3.example"),
        ("source.prod.endpoints.sts", "https://sts.example/path"),
        ("source.prod.endpoints.proxy", "proxy:3128"),
    ];
    for (path, value) in cases {
        prod(ROLE).flag(path, value).refused(path, "for example");
    }
    let long = "x".repeat(201);
    prod(ROLE).flag("source.prod.prefix", &long).refused("source.prod.prefix", "up to 200");
    let tags: Vec<String> = (0..51).map(|n| format!("k{n}=v")).collect();
    prod(ROLE).flag("source.prod.role.tags", &tags.join(",")).refused("source.prod.role.tags", "up to 50");
}

#[test]
fn the_file_types_its_values() {
    let cases = [
        ("[log]\nformat = true", "log.format", "found `true`"),
        ("[state]\nledger_days = \"3\"", "state.ledger_days", "write it without quotes"),
        ("[state]\nledger_days = 3.5", "state.ledger_days", "found the number `3.5`"),
        ("[state]\nledger_days = 99999999999999999999", "state.ledger_days", "found the number"),
        ("[state]\ndir = [\"/a\"]", "state.dir", "found a list"),
        ("[source.prod.poll]\nevery = 60", "source.prod.poll.every", "give it a unit"),
        ("[source.prod.poll]\nlookback = \"2h/15m\"", "source.prod.poll.lookback", "as a list in brackets"),
        ("[source.prod.poll]\nlookback = [{ depth = \"2h\" }]", "source.prod.poll.lookback", "a tier without `every`"),
        ("[source.prod.poll]\nlookback = [{ deep = \"2h\" }]", "source.prod.poll.lookback", "found the key `deep`"),
        ("[source.prod.poll]\nlookback = [[]]", "source.prod.poll.lookback", "an empty list"),
        ("[source.prod.endpoints]\nfips = \"true\"", "source.prod.endpoints.fips", "write it without quotes"),
    ];
    for (more, path, words) in cases {
        prod(more).refused(path, words);
    }
    let with = |line: &str| toml(BASE.replace("/prod\" }", &format!("/prod\", {line} }}")));
    with("file_mode = 640").refused("source.prod.destination.file_mode", "put it in quotes");
    let source = |line: &str| toml(BASE.replace("region", &format!("{line}\nregion")));
    source("kinds = []").refused("source.prod.kinds", "at least one");
    source("role = \"x\"").refused("source.prod.role", "expected a table");
    source("role.tags.Count = 3\nrole.arn = \"arn:aws:iam::111111111111:role/R\"\nrole.session_name = \"ts\"")
        .refused("source.prod.role.tags", "put it in quotes");
    assert!(source("since = 2024-01-01").loaded().config.sources["prod"].since.is_some(), "a day of TOML is a day");
}

#[test]
fn unknown_names_are_refused_with_the_nearest_one() {
    prod("[source.prod.rolle]\n").refused("source.prod.rolle", "did you mean `role`?");
    prod("[source.prod.role2.x]\n").refused("source.prod.role2", "did you mean `role`?");
    prod("[source.\"Prod EU\"]\n").refused("source", "name of a source, found `Prod EU`");
    prod("[source.prod.poll]\n\"every.x\" = 1").refused("source.prod.poll.every.x", "is no option");
    prod("").flag("log.colour", "x").refused("log.colour", "is no option");
    prod("").flag("log", "x").refused("log", "set what is in it: format, filter");
    prod("").env("TRAILSYNC_STATEDIR", "x").refused("TRAILSYNC_STATEDIR", "did you mean `TRAILSYNC_STATE__DIR`?");
    let name = "TRAILSYNC_SOURCE__PROD__BUKET";
    prod("").env(name, "x").refused(name, "did you mean `TRAILSYNC_SOURCE__PROD__BUCKET`?");
    let name = "TRAILSYNC_SOURCE__PROD__ROLE__TAGS__TEAM";
    prod(ROLE).env(name, "x").refused(name, "TRAILSYNC_SOURCE__PROD__ROLE__TAGS=Team=audit");
    prod("")
        .env("TRAILSYNC_LOG", "info")
        .env("TRAILSYNC_LOG__FILTER", "info")
        .refused("TRAILSYNC_LOG__FILTER", "keep one");
    prod("").env("TRAILSYNC_SOURCE__P.X__BUCKET", "b").refused("TRAILSYNC_SOURCE__P.X__BUCKET", "name of a source");
}

#[test]
fn a_file_that_is_not_toml_or_not_there_is_refused() {
    let said = toml("[source.prod\nx = \n").mistakes()[0].to_string();
    assert!(said.contains("trailsync.toml:1: is not TOML"), "{said}");
    let input = Input {
        file: Some("/nowhere/trailsync.toml".into()),
        environment: BTreeMap::new(),
        overrides: Vec::new(),
        now: "2026-01-01T00:00:00Z".parse().expect("a time"),
    };
    let said = load(&input).expect_err("refused").to_string();
    assert!(said.contains("/nowhere/trailsync.toml: cannot be read: No such file"), "{said}");
}

#[test]
fn role_bucket_and_sts_are_of_one_partition() {
    let region = |region: &str| prod(ROLE).flag("source.prod.region", region);
    for (name, partition) in [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("eusc-de-east-1", "aws-eusc")]
    {
        region(name).refused("source.prod.role.arn", &format!("`{partition}`"));
        let arn = format!("arn:{partition}:iam::111111111111:role/R");
        region(name).flag("source.prod.role.arn", &arn).loaded();
    }
    prod(ROLE).flag("source.prod.role.sts_region", "cn-north-1").refused("source.prod.role.sts_region", "`aws-cn`");
}

#[test]
fn kms_keys_are_in_the_region_of_the_bucket() {
    let keys = |region: &str| {
        let key = format!("arn:aws:kms:{region}:111111111111:key/1234abcd-12ab-34cd-56ef-1234567890ab");
        prod(ROLE).flag("source.prod.kms_keys", &key)
    };
    keys("eu-central-1").loaded();
    keys("us-east-1").refused("source.prod.kms_keys", "not in the bucket's region");
}

#[test]
fn intervals_windows_and_tiers_agree_with_each_other() {
    let poll = |name: &str, value: &str| prod("").flag(&format!("source.prod.poll.{name}"), value);
    poll("idle_every", "30s").refused("source.prod.poll.idle_every", "shorter than `poll.every`, 1m");
    poll("min_window", "3h").refused("source.prod.poll.min_window", "longer than `poll.max_window`, 2h");
    let deep = |window: &str| poll("max_window", window).flag("source.prod.poll.lookback", "5d/1h,35d/1d");
    deep("73h").refused("source.prod.poll.max_window", "longer than `state.ledger_days`, 3");
    deep("73h").flag("state.ledger_days", "4").loaded();
    let lookback = "source.prod.poll.lookback";
    poll("max_window", "3h").refused(lookback, "less than `poll.max_window`, 3h");
    poll("lookback", "2h/30s,35d/1d").refused(lookback, "more often than `poll.every`, 1m");
    for tiers in ["26h/6h,2h/15m,35d/1d", "2h/15m,2h/6h,35d/1d", "2h/6h,26h/15m,35d/1d", "2h/1h,35d/1h"] {
        poll("lookback", tiers).refused(lookback, "deeper and be rarer");
    }
    poll("lookback", "2h/15m").warned(lookback, "30 days late");
    poll("lookback", "").warned(lookback, "is empty");
}

#[test]
fn odd_but_allowed_is_a_warning() {
    prod("").flag("source.prod.prefix", "a/AWSLogs").warned("source.prod.prefix", "contains `AWSLogs`");
    prod("").flag("source.prod.since", "2026-01-02").warned("source.prod.since", "in the future");
    prod("").flag("source.prod.destination.file_mode", "0644").warned("source.prod.destination.file_mode", "everybody");
    prod("").flag("source.prod.destination.dir_mode", "0755").warned("source.prod.destination.dir_mode", "everybody");
    prod("").flag("source.prod.destination.dir_mode", "0777").refused("source.prod.destination.dir_mode", "alter");
}

/// The base, with a table that deletes, and more of that.
fn deleting(more: &str) -> Given {
    prod(&format!("[source.prod.after_mirror]\ndelete_after = \"90d\"\n{more}"))
}

#[test]
fn nothing_is_deleted_at_a_source_unless_it_is_written_and_without_proof_only_with_an_acknowledgement() {
    assert_eq!(prod("").loaded().config.sources["prod"].after_mirror, None);
    let proven = AfterMirror { delete_after: 90 * DAY, require: Require::Proven, most: 10_000 };
    assert_eq!(deleting("").loaded().config.sources["prod"].after_mirror, Some(proven));
    let require = "source.prod.after_mirror.require";
    let said = deleting("require = \"stored\"").refused(require, "nothing shows that they are genuine");
    assert!(said.contains("`i_accept_deletion_without_proof = true`"), "{said}");
    let accepted = deleting("require = \"stored\"\ni_accept_deletion_without_proof = true\nmost = 5").loaded();
    let stored = AfterMirror { require: Require::Stored, most: 5, ..proven };
    assert_eq!((accepted.config.sources["prod"].after_mirror, accepted.warnings.len()), (Some(stored), 0));
    deleting("i_accept_deletion_without_proof = true")
        .warned("source.prod.after_mirror.i_accept_deletion_without_proof", "nothing without proof");
}

#[test]
fn a_deletion_that_could_lose_something_or_never_happen_is_refused() {
    let (require, after) = ("source.prod.after_mirror.require", "source.prod.after_mirror.delete_after");
    deleting("").flag("source.prod.kinds", "CloudTrail").refused(require, "nothing is ever proven");
    deleting("").flag("source.prod.destination.allow_volatile", "true").refused(after, "go with the machine");
    deleting("").flag(after, "6d").refused(after, "7d");
    deleting("require = \"any\"").refused(require, "proven, stored");
    prod("[source.prod.after_mirror]\nmost = 5\n").refused(after, "is required");
    deleting("").flag("source.prod.source_retention", "60d").warned(after, "has removed everything");
}

/// A second source, complete but for what a test adds.
const SECOND: &str =
    "[source.second]\nbucket = \"other-logs\"\nregion = \"eu-central-1\"\ndestination.path = \"/srv/trails/second\"\n";

#[test]
fn copies_and_state_are_kept_in_trees_apart() {
    let path = "source.second.destination.path";
    for other in ["/srv/trails/prod", "/srv/trails/prod/", "/srv/trails/prod/x", "/srv/trails", "/srv//trails/./prod"] {
        prod(SECOND).flag(path, other).refused(path, "inside each other");
    }
    prod(SECOND).flag(path, "/srv/trails/prod2").loaded();
    for state in ["/srv/trails/prod", "/srv/trails/prod/.state", "/srv"] {
        prod("").flag("state.dir", state).refused("source.prod.destination.path", "copy and state");
    }
}

/// The base with a bucket for its copies, and more of the table `source.prod.destination`.
fn archived(more: &str) -> Given {
    toml(format!(
        "{}[source.prod.destination]\nbucket = \"our-archive\"\n{more}",
        BASE.replace("destination = { path = \"/srv/trails/prod\" }", "")
    ))
}

#[test]
fn copies_go_to_a_bucket_with_a_role_credentials_and_endpoints_of_their_own() {
    let more = "prefix = \"a/b\"\nsse = \"aws:kms\"\nkms_key_id = \"arn:aws:kms:eu-central-1:222222222222:alias/a\"\n\
                object_lock = { mode = \"COMPLIANCE\", days = 365 }\nrole = { arn = \"arn:aws:iam::222222222222:role/W\", session_name = \"w1\" }\n\
                credentials = { profile = \"archive\" }\nendpoints = { path_style = true, sts = \"https://sts.example\" }\n";
    let config = archived(more).loaded().config;
    let source = &config.sources["prod"];
    assert!(source.destination.tree().is_none() && source.role.is_none());
    let own = source.destination.bucket().expect("a bucket");
    assert_eq!((own.bucket.as_str(), own.prefix.as_str(), own.region.as_str()), ("our-archive", "a/b", "eu-central-1"));
    assert_eq!(own.bucket_owner.as_deref(), Some("222222222222"), "the role's account owns the bucket");
    let role = own.role.as_ref().expect("a role");
    assert_eq!((role.sts_region.as_str(), role.duration, role.session_policy), ("eu-central-1", HOUR, true));
    assert!(matches!(&own.credentials, Credentials::Profile(name) if name == "archive"));
    assert!(own.endpoints.path_style && own.endpoints.sts.is_some() && own.endpoints.s3.is_none());
    assert_eq!(own.object_lock, Some(ObjectLock { mode: "COMPLIANCE".into(), days: 365 }));
    assert_eq!((own.multipart_mib, own.storage_class.as_deref()), (16, None));
}

#[test]
fn a_copy_goes_to_a_tree_or_to_a_bucket_and_only_with_what_belongs_to_it() {
    let path = |name: &str| format!("source.prod.destination.{name}");
    archived("path = \"/srv/trails\"\n").refused(&path("path"), "copies go to a bucket");
    archived("group = \"adm\"\n").refused(&path("group"), "copies go to a bucket");
    prod("").flag(&path("storage_class"), "STANDARD_IA").refused(&path("storage_class"), "copies go to a tree");
    archived("kms_key_id = \"arn:aws:kms:eu-central-1:222222222222:key/k\"\n").refused(&path("kms_key_id"), "`sse`");
    archived("object_lock = { mode = \"COMPLIANCE\" }\n").refused(&path("object_lock.days"), "required");
    archived("storage_class = \"DEEP_ARCHIVE\"\n").refused(&path("storage_class"), "one of STANDARD");
    archived("multipart_mib = 4\n").refused(&path("multipart_mib"), "from 5");
    archived("role = { arn = \"arn:aws-cn:iam::222222222222:role/W\", session_name = \"w1\" }\n")
        .refused(&path("role.arn"), "partition");
    archived("credentials = { access_key_id_env = \"NOT_SET\" }\n").mistakes();
    archived("credentials.access_key_id = \"AKIA\"\n").refused(&path("credentials.access_key_id"), "in the open");
}

#[test]
fn a_mirror_into_what_is_mirrored_is_refused() {
    let path = "source.prod.destination.bucket";
    archived("").flag(path, "example-trail-logs").refused(path, "among the logs that `source.prod.bucket` reads");
    archived("prefix = \"AWSLogs/copies\"\n").flag(path, "example-trail-logs").refused(path, "apart");
    archived("prefix = \"copies\"\n").flag(path, "example-trail-logs").loaded();
    archived("endpoints = { s3 = \"https://minio.example\" }\n").flag(path, "example-trail-logs").loaded();

    let second = |prefix: &str| {
        let second = SECOND.replace("path = \"/srv/trails/second\"", "bucket = \"our-archive\"");
        archived(&format!("prefix = \"a\"\n{second}destination.prefix = \"{prefix}\"\n"))
    };
    for inside in ["a", "a/b", ""] {
        second(inside).refused("source.second.destination.prefix", "or inside it");
    }
    second("ab").loaded();
}

#[test]
fn no_two_sources_mirror_the_same_objects() {
    let same = || prod(SECOND).flag("source.second.bucket", "example-trail-logs");
    same().refused("source.second.bucket", "`source.prod.bucket` mirrors too");
    same().flag("source.second.prefix", "x").loaded();
    let both = |name: &str, one: &str, other: &str| {
        same().flag(&format!("source.prod.{name}"), one).flag(&format!("source.second.{name}"), other)
    };
    both("accounts", "111111111111", "222222222222").loaded();
    both("accounts", "111111111111", "").refused("source.second.bucket", "part them");
    both("accounts", "111111111111,222222222222", "222222222222").refused("source.second.bucket", "part them");
    both("kinds", "CloudTrail", "CloudTrail-Digest").loaded();
    both("regions", "eu-central-1", "us-east-1").loaded();
    both("organization", "o-aaaaaaaaaa", "o-bbbbbbbbbb").loaded();
}

#[test]
fn one_external_id_for_two_accounts_is_a_warning() {
    let role = |account: &str, id: &str| {
        prod(&format!("external_id = \"shared-id\"\n{SECOND}").replace("external_id", &format!("{ROLE}external_id")))
            .flag("source.second.role.arn", &format!("arn:aws:iam::{account}:role/R"))
            .flag("source.second.role.session_name", "ts")
            .flag("source.second.role.external_id", id)
    };
    role("222222222222", "shared-id").warned("source.second.role.external_id", "another account");
    assert!(role("111111111111", "shared-id").loaded().warnings.is_empty());
    assert!(role("222222222222", "other-id").loaded().warnings.is_empty());
}

fn written(dir: &Path, name: &str, mode: u32) -> String {
    let path = dir.join(name);
    std::fs::write(&path, CANARY).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn base_credentials_come_from_exactly_one_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let (id, secret) = (written(dir.path(), "id", 0o640), written(dir.path(), "secret", 0o600));
    let at = |name: &str| format!("source.prod.credentials.{name}");
    let files = || prod("").flag(&at("access_key_id_file"), &id).flag(&at("secret_access_key_file"), &secret);
    let names = |given: Given| given.flag(&at("access_key_id_env"), "B_ID").flag(&at("secret_access_key_env"), "B_KEY");
    let credentials = |given: Given| given.loaded().config.sources["prod"].credentials.clone();
    let session_token = None::<std::path::PathBuf>;
    assert!(matches!(credentials(files()), Credentials::Files { session_token: token, .. } if token == session_token));
    let set = || prod("").env("B_ID", CANARY).env("B_KEY", CANARY);
    assert!(
        matches!(credentials(names(set())), Credentials::Environment { access_key_id, .. } if access_key_id == "B_ID")
    );
    assert!(matches!(credentials(prod("").flag(&at("profile"), "p")), Credentials::Profile(name) if name == "p"));
    files().flag(&at("profile"), "p").refused("source.prod.credentials", "more than one way");
    names(files().env("B_ID", "x").env("B_KEY", "x")).refused("source.prod.credentials", "more than one way");
    names(set().env("B_KEY", "")).refused(&at("secret_access_key_env"), "B_KEY, which is not set");
    prod("").flag(&at("access_key_id_file"), &id).refused(&at("secret_access_key_file"), "is missing");
    prod("").flag(&at("session_token_file"), &id).mistakes();
}

#[test]
fn secret_files_are_there_and_not_for_everybody() {
    let dir = tempfile::tempdir().expect("a directory");
    let (private, public) = (written(dir.path(), "private", 0o440), written(dir.path(), "public", 0o644));
    let missing = dir.path().join("missing").to_str().expect("UTF-8").to_owned();
    let folder = dir.path().to_str().expect("UTF-8").to_owned();
    let secret = "source.prod.credentials.secret_access_key_file";
    let with = |file: &str| prod("").flag("source.prod.credentials.access_key_id_file", &private).flag(secret, file);
    with(&private).loaded();
    with(&public).refused(secret, "everybody on this machine can read");
    with(&missing).refused(secret, "No such file");
    with(&folder).refused(secret, "not a regular file");
    let bundle = "source.prod.endpoints.ca_bundle";
    prod("").flag(bundle, &public).loaded();
    prod("").flag(bundle, &missing).refused(bundle, "No such file");
}

#[test]
fn a_variable_may_name_the_file_that_holds_the_value() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("id");
    let file = path.to_str().expect("UTF-8");
    let name = "TRAILSYNC_SOURCE__PROD__ROLE__EXTERNAL_ID_FILE";
    let external_id = |text: &str| {
        std::fs::write(&path, text).expect("written");
        let loaded = prod(ROLE).env(name, file).loaded();
        loaded.config.sources["prod"].role.as_ref().and_then(|role| role.external_id.clone())
    };
    assert_eq!(external_id("an-id\n").as_deref(), Some("an-id"));
    assert_eq!(external_id("an-id\r\n").as_deref(), Some("an-id"));
    prod(ROLE).env(name, "/nowhere").refused(name, "cannot be read");
    prod(ROLE)
        .env(name, file)
        .env("TRAILSYNC_SOURCE__PROD__ROLE__EXTERNAL_ID", "x1")
        .refused(name, "sets what TRAILSYNC_SOURCE__PROD__ROLE__EXTERNAL_ID sets too");
}

#[test]
fn keys_in_the_open_are_refused_and_never_repeated() {
    for (name, instead) in [
        ("access_key_id", "access_key_id_file or access_key_id_env"),
        ("secret_access_key", "secret_access_key_file or secret_access_key_env"),
        ("session_token", "session_token_file or session_token_env"),
    ] {
        let path = format!("source.prod.credentials.{name}");
        let in_file = prod(&format!("[source.prod.credentials]\n{name} = \"{CANARY}\"")).refused(&path, instead);
        let in_flag = prod("").flag(&path, CANARY).refused(&path, instead);
        let in_variable = prod("").env(&variable(&path), CANARY).refused(&variable(&path), instead);
        [in_file, in_flag, in_variable].iter().for_each(|said| assert!(!said.contains(CANARY), "{said}"));
    }
}

#[test]
fn no_secret_is_ever_seen() {
    let loaded = prod(ROLE).env("TRAILSYNC_SOURCE__PROD__ROLE__EXTERNAL_ID", CANARY).env("OTHER", CANARY).loaded();
    assert_eq!(loaded.config.sources["prod"].role.as_ref().and_then(|r| r.external_id.as_deref()), Some(CANARY));
    let mut shown = vec![format!("{loaded:?}"), format!("{loaded:#?}")];
    shown.extend([Form::Toml, Form::Json].map(|form| printed(&loaded, form)));
    assert!(
        shown[2].contains("external_id = \"***\"  # environment TRAILSYNC_SOURCE__PROD__ROLE__EXTERNAL_ID"),
        "{}",
        shown[2]
    );
    let bad = format!("{CANARY} with spaces");
    let in_all = |value: &str| {
        let mistakes = toml(format!(
            "external_id = \"{value}\"\n{BASE}secret = \"{value}\"\n[source.prod.role]\nexternal_id = \"{value}\"\n\
             [source.prod.credentials]\nprofile = [\"{value}\"]\nsecret_access_key_env = \"{value}\"\nsecret_access_key_file = \"{value}\"\n\
             [source.prod.endpoints]\nproxy = \"http://me:{value}@proxy\"\ns3 = \"https://me:{value}@host\"\n\
             [source.second]\nrole = \"{value}\"\ncredentials = \"{value}\"\n"
        ))
        .env("TRAILSYNC_SOURCE__PROD__ROLE__EXTERNALID", value)
        .env("TRAILSYNC_SOURCE__PROD__CREDENTIALS__SESSION_TOKEN", value)
        .flag("source.prod.role", value)
        .mistakes();
        assert!(mistakes.len() > 10, "{mistakes:#?}");
        [Refused(mistakes.clone()).to_string(), format!("{mistakes:?}")]
    };
    shown.extend(in_all(&bad));
    shown.extend(
        toml(format!("external_id = \"{CANARY}\nx = {CANARY}\n")).mistakes().iter().map(|m| format!("{m} {m:?}")),
    );
    let input = Input {
        file: None,
        environment: BTreeMap::from([("AWS_SECRET_ACCESS_KEY".to_owned(), CANARY.to_owned())]),
        overrides: vec![("source.prod.role.external_id".to_owned(), CANARY.to_owned())],
        now: "2026-01-01T00:00:00Z".parse().expect("a time"),
    };
    shown.push(format!("{input:?}"));
    shown.iter().for_each(|text| assert!(!text.contains(CANARY), "{text}"));
}

#[test]
fn a_mistake_cannot_move_the_cursor() {
    let mistakes = prod("").flag("log.format", "\x1b[31m\nforged").flag("x\r\ny", "").mistakes();
    let said = mistakes.iter().map(ToString::to_string).collect::<String>();
    assert!(said.chars().all(|c| !c.is_control()), "{said:?}");
}

#[test]
fn what_config_prints_is_a_configuration_with_the_same_meaning() {
    let given =
        || prod(ROLE).flag("source.prod.role.tags", "Team=audit,Cost Center=4").flag("source.prod.since", "2024-02-03");
    let first = printed(&given().loaded(), Form::Toml);
    assert!(first.contains("ledger_days = 3  # default\n"), "{first}");
    assert!(first.contains("bucket_owner = \"111111111111\"  # default, from source.prod.role.arn\n"), "{first}");
    assert!(first.contains("trailsync.toml:3\n"), "{first}");
    let second = printed(&toml(first.clone()).loaded(), Form::Toml);
    let bare = |text: &str| {
        text.lines().map(|line| line.split("  # ").next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(bare(&first), bare(&second));
}

#[test]
fn config_as_json_has_value_and_origin_of_each_path() {
    let json: serde_json::Value = serde_json::from_str(&printed(&prod(ROLE).loaded(), Form::Json)).expect("JSON");
    assert_eq!(json["state.ledger_days"], serde_json::json!({ "value": 3, "origin": "default" }));
    assert_eq!(json["source.prod.bucket_owner"]["value"], "111111111111");
    assert_eq!(json["source.prod.poll.lookback"]["value"][2], serde_json::json!({ "depth": "35d", "every": "1d" }));
}

#[test]
fn the_schema_has_every_option_and_what_is_required() {
    let mut out = Vec::new();
    print_schema(&mut out).expect("printed");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).expect("JSON"), schema());
    let schema = schema();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    for option in OPTIONS {
        let pointer = format!("/properties/{}", option.path.replace('.', "/properties/"));
        let pointer = pointer.replace("/properties/*", "/additionalProperties");
        let described = schema.pointer(&pointer).unwrap_or_else(|| panic!("{pointer}"));
        assert!(described["description"].as_str().is_some_and(|doc| doc.starts_with(option.doc)), "{pointer}");
    }
    let source = &schema["properties"]["source"]["additionalProperties"];
    assert_eq!(source["required"], serde_json::json!(["bucket", "region", "destination"]));
    assert_eq!(source["properties"]["role"]["required"], serde_json::json!(["arn", "session_name"]));
    assert_eq!(schema["required"], serde_json::json!(["source"]));
}

const REFERENCE: &str = include_str!("../config/trailsync.toml");

/// The reference with every option taken out of its comment.
fn whole_reference() -> toml::Table {
    let uncommented = REFERENCE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') && !rest.is_empty() => rest,
        _ => line,
    });
    uncommented.collect::<Vec<_>>().join("\n").parse().expect("TOML")
}

#[test]
fn the_reference_works_as_it_stands() {
    let loaded = toml(REFERENCE).loaded();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn the_reference_has_every_option_and_nothing_else_at_its_true_default() {
    let whole = whole_reference();
    let defaults = prod(ROLE).loaded();
    let printed: toml::Table = printed(&defaults, Form::Toml).parse().expect("TOML");
    let find = |table: &toml::Table, path: &str| {
        let mut value = toml::Value::Table(table.clone());
        for part in path.split('.') {
            value = value.get(part)?.clone();
        }
        Some(value)
    };
    // What belongs to the role of a bucket has its defaults only where there is one.
    let role = "role = { arn = \"arn:aws:iam::222222222222:role/W\", session_name = \"w1\" }\n";
    let of_a_bucket: toml::Table = self::printed(&archived(role).loaded(), Form::Toml).parse().expect("TOML");
    // So has what belongs to a deletion.
    let deleting: toml::Table = self::printed(&deleting("").loaded(), Form::Toml).parse().expect("TOML");
    for option in OPTIONS {
        let path = option.path_in("prod");
        let stated = find(&whole, &path).unwrap_or_else(|| panic!("{path} is not in the reference"));
        match option.default {
            Fallback::Value(_) | Fallback::From(_) => {
                let default = [&printed, &of_a_bucket, &deleting].into_iter().find_map(|table| find(table, &path));
                assert_eq!(Some(stated), default, "{path}");
            }
            Fallback::Required | Fallback::Absent | Fallback::Unless(_) => {}
        }
    }
    // Copies go to a tree or to a bucket, and credentials and files of the example are not on this machine.
    let tree = ["path", "group", "reserve_mib"];
    let bucket = destination_options(|name| {
        !tree.contains(&name) && !["file_mode", "dir_mode", "allow_volatile"].contains(&name)
    });
    for absent in [tree.map(str::to_owned).to_vec(), bucket] {
        let mut whole = whole.clone();
        whole["http"].as_table_mut().expect("a table").remove("token_file");
        let prod = whole["source"]["prod"].as_table_mut().expect("a table");
        prod.remove("credentials");
        prod["endpoints"].as_table_mut().expect("a table").remove("ca_bundle");
        let destination = prod["destination"].as_table_mut().expect("a table");
        destination.remove("credentials");
        destination["endpoints"].as_table_mut().expect("a table").remove("ca_bundle");
        absent.iter().for_each(|name| _ = destination.remove(name));
        toml(whole.to_string()).loaded();
    }
}

#[test]
fn the_page_is_on_loopback_unless_told_otherwise_and_beyond_it_wants_a_token() {
    let listen = |given: Given| given.loaded().config.http.listen.map(|address| address.to_string());
    assert_eq!(listen(prod(ROLE)).as_deref(), Some("127.0.0.1:9720"));
    assert_eq!(listen(prod(ROLE).flag("http.listen", "off")), None);
    for wrong in ["9720", "localhost:9720", "http://127.0.0.1:9720", "127.0.0.1"] {
        prod(ROLE).flag("http.listen", wrong).refused("http.listen", "an address and a port, or `off`");
    }
    let open = || prod(ROLE).flag("http.listen", "[::]:9720");
    open().warned("http.listen", "reachable from other machines");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("token");
    std::fs::write(&path, CANARY).expect("written");
    let with_token = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
        open().flag("http.token_file", &path.display().to_string())
    };
    assert!(!with_token(0o644).refused("http.token_file", "everybody").contains(CANARY));
    assert!(with_token(0o600).loaded().warnings.is_empty());
}

fn destination_options(wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let names =
        OPTIONS.iter().filter_map(|option| option.path.strip_prefix("source.*.destination.")?.split('.').next());
    names.filter(|name| wanted(name)).map(str::to_owned).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics(
        text in ".{0,200}",
        lines in prop::collection::vec("(\\[(source|state|a)(\\.[a-z*\"]{0,3}){0,3}\\]|[a-z_.\"]{1,12} = ([0-9a-z\"\\[\\]{}.,=é-]{0,20}|\"[^\"]{0,20}\"))", 0..8),
        variables in prop::collection::btree_map("TRAILSYNC_(SOURCE__[A-Z_.é]{0,4}__)?[A-Z_]{0,20}", ".{0,20}", 0..6),
        flags in prop::collection::vec(("[a-z.*]{0,20}", ".{0,20}"), 0..4),
    ) {
        for file in [text, lines.join("\n")] {
            let given = Given { toml: Some(file), environment: variables.clone(), overrides: flags.clone() };
            let said = given.load().map(|loaded| printed(&loaded, Form::Toml)).unwrap_or_else(|refused| refused.to_string());
            prop_assert!(!said.is_empty());
        }
    }

    #[test]
    fn no_value_of_any_option_panics(at in 0..OPTIONS.len(), value in ".{0,40}|[0-9a-z:/,=-]{0,40}", number in any::<i64>()) {
        let path = OPTIONS[at].path_in("prod");
        let _ = prod(ROLE).flag(&path, &value).load();
        let _ = prod(ROLE).env(&variable(&path), value).load();
        let (table, name) = path.rsplit_once('.').unwrap_or(("", &path));
        let _ = toml(format!("[{table}]\n{name} = {number}\n")).load();
    }
}

#[test]
fn a_source_with_a_bad_name_does_not_hide_its_other_mistakes() {
    let mistakes = prod("[source.\"Prod EU\"]\nbucket = \"UPPER\"\nregoin = \"eu-west-1\"\n").mistakes();
    let paths: Vec<_> = mistakes.iter().map(|mistake| mistake.path.as_str()).collect();
    assert_eq!(paths, ["source", "source.Prod EU.bucket", "source.Prod EU.regoin"]);
}
