//! Account A lets B delete, B's copies grow old, and a pruner goes over them.

use std::collections::{BTreeMap, BTreeSet};

use fakeaws::{Op, policies};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use trailsync::assemble::wanted;
use trailsync::config::Require;
use trailsync::destination::memory::Memory;
use trailsync::error::Error;
use trailsync::layout::Stream;
use trailsync::ledger::{DeletionRow, Outcome};
use trailsync::prune::{Pruned, Pruner, Rules, Terms};
use trailsync::record::Record;
use trailsync::records::Records;
use trailsync::source::s3::S3Source;

use crate::account::{B, BUCKET};
use crate::bench::{Bench, DAY};

/// As the daemon's, but small.
pub fn rules(bench: &Bench) -> Rules {
    Rules {
        wanted: wanted(&bench.source),
        terms: Terms { age: 90 * DAY, require: Require::Proven },
        most: 10_000,
        batch: 4,
        in_flight: 2,
        records_a_turn: 50,
    }
}

pub fn pruner(bench: &Bench, rules: Rules) -> Pruner<S3Source, Memory> {
    Pruner::new(bench.mirror.clone(), bench.prover.clone(), rules)
}

/// A bucket policy that lets B read, and delete by entity tag.
pub fn allow_deletion(bench: &Bench, allowed: bool) {
    let user = format!("arn:aws:iam::{B}:user/mirror");
    let reading = policies::bucket_read_for(BUCKET, &user);
    let deleting = json!({
        "Effect": "Allow",
        "Principal": { "AWS": user },
        "Action": "s3:DeleteObject",
        "Resource": format!("arn:aws:s3:::{BUCKET}/AWSLogs/*"),
        "Condition": { "Null": { "s3:if-match": "false" } },
    });
    let policy = if allowed { policies::with(&reading, deleting) } else { reading };
    bench.world.set_bucket_policy(BUCKET, Some(policy));
}

/// So many hours with a log and a digest each, mirrored, proven, and then old enough.
pub async fn old(hours: usize) -> Bench {
    let mut bench = Bench::new().await;
    allow_deletion(&bench, true);
    bench.hours(hours).await;
    bench.advance(91 * DAY);
    bench.settle().await;
    bench
}

/// One round, to its end.
pub async fn round(bench: &Bench, rules: Rules) -> Result<Pruned, Error> {
    let pruner = pruner(bench, rules);
    pruner.begin_anew().await.unwrap();
    let mut all = Pruned::default();
    for _ in 0..1000 {
        all.add(&pruner.turn(&CancellationToken::new()).await?);
        if !all.more {
            return Ok(all);
        }
    }
    panic!("the round does not end");
}

/// What would go, and what would stay.
pub async fn look(bench: &Bench, rules: Rules) -> (BTreeSet<String>, Pruned) {
    let mut keys = BTreeSet::new();
    let mut would = |key: &str, _: &Record| {
        keys.insert(key.to_owned());
    };
    let pruned = pruner(bench, rules).look(&CancellationToken::new(), &mut would).await.unwrap();
    (keys, pruned)
}

pub fn keys(bench: &Bench) -> BTreeSet<String> {
    bench.world.keys(BUCKET, "").into_iter().collect()
}

pub fn digests(bench: &Bench) -> BTreeSet<String> {
    keys(bench).into_iter().filter(|key| key.contains("CloudTrail-Digest")).collect()
}

pub fn logs(bench: &Bench) -> BTreeSet<String> {
    keys(bench).into_iter().filter(|key| !key.contains("CloudTrail-Digest")).collect()
}

pub fn deletes(bench: &Bench) -> u64 {
    bench.world.counters().total(Op::DeleteObject)
}

/// Every record by its key, with its audit row where there is one.
pub async fn records(bench: &Bench) -> BTreeMap<String, (Record, Option<DeletionRow>)> {
    let mut all = BTreeMap::new();
    for row in bench.ledger.checkpoints().await.unwrap() {
        let stream = Stream::of_key(&row.source, "AWSLogs/", &format!("{}x", row.prefix)).unwrap();
        let mut records = Records::from(&bench.ledger, bench.mirror.manifests(), &stream, row.id, "");
        while let Some(record) = records.next().await.unwrap() {
            let deletion = bench.ledger.deletion(&stream, row.id, &record).await.unwrap();
            all.insert(format!("{}{}", stream.prefix, record.suffix), (record, deletion));
        }
    }
    all
}

pub async fn outcome(bench: &Bench, key: &str) -> Option<Option<Outcome>> {
    records(bench).await.remove(key).and_then(|(_, row)| row).map(|row| row.outcome)
}

/// What is alarmed but the silence of the trail since.
pub async fn alarmed(bench: &Bench) -> Vec<(String, String)> {
    bench.alarmed().await.into_iter().filter(|(kind, _)| kind != "gap").collect()
}

/// Everything is listed again, against manifests and ledger.
pub async fn list_everything(bench: &Bench) {
    bench.advance(31 * DAY);
    settle(bench).await;
}

/// Every stream is listed, those of which nothing is left, too, and what waits is proved.
pub async fn settle(bench: &Bench) {
    bench.list().await;
    for row in bench.ledger.checkpoints().await.unwrap() {
        bench.take_turn(Stream::of_key(&row.source, "AWSLogs/", &format!("{}x", row.prefix)).unwrap()).await;
    }
    bench.prove().await;
}
