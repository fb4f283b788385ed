//! `trailsync verify` beside `aws cloudtrail validate-logs`, over the same hours of the same chain.
//!
//! The AWS CLI reads only from S3, so it fetches everything from a server on loopback; its own time counts alone, not
//! the server's. trailsync reads the copy on disk, which is what it is for.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use fakeaws::digests::SigningKey;
use fakeaws::{AccessKey, BucketSpec, FakeAws, FakeClock, ObjectSpec, PublicKey, World, policies};
use jiff::{SignedDuration, Timestamp};
use trailsync::destination::sidecar;
use trailsync::path::{self, Part};

use crate::archive::{ACCOUNT, Archive, BUCKET, Bodies, Plan, REGION, TRAIL, write};
use crate::cost::{self, Cost, median};
use crate::table::{Ratio, Results, Row};
use crate::{Setting, verified};

/// The AWS CLI takes seconds for a thousand logs.
const LOGS: u64 = 2_000;
const HOURS: i64 = 24;
/// Runs, whatever is asked for.
const RUNS: usize = 3;

/// Runs both in turns.
pub fn run(setting: &Setting) -> Result<Results> {
    let aws = std::path::absolute(&setting.witness)?.join("bin/aws");
    let plan = Plan { logs: LOGS, hours: HOURS, bodies: Bodies::Genuine };
    let mut results = Results {
        workload: "verify-aws",
        about: format!("A copy of {LOGS} logs of a genuine size and {HOURS} digests, one account and region."),
        rows: vec![],
        ratios: vec![],
        notes: vec![],
    };
    if !aws.exists() {
        results.notes.push(format!("SKIPPED: there is no {}: run `make witness`", aws.display()));
        return Ok(results);
    }
    let scratch = setting.scratch()?;
    let archive = write(&plan, &scratch.path().join("copy"))?;
    let (world, key) = world(&archive)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let server = runtime.block_on(FakeAws::start(world))?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        theirs.push(validated(&aws, scratch.path(), &server, &key, &archive)?);
        ours.push(verified(scratch.path(), &archive.root, &[])?);
    }
    results.rows =
        vec![row("`trailsync verify`", &ours, &archive), row("`aws cloudtrail validate-logs`", &theirs, &archive)];
    let mut ratio = |what: &str, of: fn(&Cost) -> f64| {
        let each = theirs.iter().zip(&ours).map(|(theirs, ours)| of(theirs) / of(ours));
        results.ratios.push(Ratio { what: what.into(), value: median(each), unit: "", target: None });
    };
    ratio("the AWS CLI ÷ trailsync, wall", |cost| cost.wall_seconds);
    ratio("the AWS CLI ÷ trailsync, CPU", Cost::cpu_seconds);
    results.notes.push("The AWS CLI can only fetch: from a server on loopback, whose own time is not counted.".into());
    Ok(results)
}

fn row(what: &str, costs: &[Cost], archive: &Archive) -> Row {
    Row {
        what: what.into(),
        runs: costs.len(),
        objects: archive.objects,
        wall_seconds: Some(median(costs.iter().map(|cost| cost.wall_seconds))),
        cpu_seconds: median(costs.iter().map(Cost::cpu_seconds)),
        peak_mib: Some(median(costs.iter().map(|cost| cost.peak_kib as f64 / 1024.0))),
        stored_bytes: archive.stored_bytes,
        inflated_bytes: archive.inflated_bytes,
        asked: None,
    }
}

/// A service that has every object of a copy, its keys, and a user who may read them.
fn world(archive: &Archive) -> Result<(World, AccessKey)> {
    let world = World::new(FakeClock::system());
    world.add_bucket(BucketSpec::new(BUCKET, ACCOUNT, REGION));
    for key in objects(&archive.root, "")? {
        let mut object = ObjectSpec::log(std::fs::read(archive.root.join(&key))?);
        let beside = path::of(&key, None, Part::Metadata).map(|beside| archive.root.join(beside));
        if let Some(beside) = beside.filter(|beside| beside.exists()) {
            let (_, metadata) = sidecar::parse(&std::fs::read(beside)?).context("metadata")?;
            object = metadata.iter().fold(object, |object, (name, value)| object.metadata(name, value));
        }
        world.put_object(BUCKET, &key, object);
    }
    let public = SigningKey::of(REGION, archive.from).public.clone();
    let valid_until = archive.to + SignedDuration::from_hours(HOURS);
    world.add_public_key(REGION, PublicKey { valid_until, ..public });
    let key = world.add_user(ACCOUNT, "auditor", policies::everything());
    Ok((world, key))
}

/// The keys of all objects below a folder.
fn objects(root: &Path, folder: &str) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    for entry in std::fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("a name")?;
        let below = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        match entry.file_type()?.is_dir() {
            _ if name.starts_with('.') || name.ends_with("%_meta.json") => {}
            true => keys.extend(objects(root, &below)?),
            false => keys.push(below),
        }
    }
    Ok(keys)
}

/// One run of the AWS CLI; it must find every log valid.
fn validated(aws: &PathBuf, scratch: &Path, server: &FakeAws, key: &AccessKey, archive: &Archive) -> Result<Cost> {
    let mut validate = Command::new(aws);
    let trail = format!("arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/{TRAIL}");
    // Digests that end after the end are looked for, too.
    let to: Timestamp = archive.to + SignedDuration::from_secs(1);
    validate
        .args(["cloudtrail", "validate-logs", "--region", REGION, "--s3-bucket", BUCKET, "--account-id", ACCOUNT])
        .args(["--trail-arn", &trail, "--start-time", &archive.from.to_string(), "--end-time", &to.to_string()])
        .env("AWS_ENDPOINT_URL", server.endpoint())
        .env("AWS_ACCESS_KEY_ID", &key.id)
        .env("AWS_SECRET_ACCESS_KEY", &key.secret)
        .env_remove("AWS_SESSION_TOKEN")
        .env_remove("AWS_PROFILE")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    let (said, cost) = cost::run(scratch, &validate)?;
    let said = String::from_utf8_lossy(&said);
    ensure!(cost.code == Some(0) && said.contains(&format!("{LOGS}/{LOGS} log files valid")), "the AWS CLI: {said}");
    Ok(cost)
}
