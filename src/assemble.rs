//! Puts a source's parts together: keeper, bucket, tree, mirror.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::config::{Config, Source};
use crate::destination::local::Local;
use crate::discover::Wanted;
use crate::error::Error;
use crate::keyring::{CloudTrail, Keyring};
use crate::ledger::Ledger;
use crate::manifest::Manifests;
use crate::mirror::{Mirror, Permits, Rules};
use crate::prove::{self, Prover};
use crate::role::{Keeper, Process};
use crate::scheduler::Runner;
use crate::share::Share;
use crate::source::s3::S3Source;

/// A source, ready to run.
pub struct Parts {
    /// Keeps its role session.
    pub keeper: Arc<Keeper>,
    /// Mirrors its streams.
    pub mirror: Arc<Mirror<S3Source, Local>>,
    /// Proves what is mirrored.
    pub prover: Arc<Prover<S3Source, Local>>,
    /// What to discover.
    pub wanted: Wanted,
    /// Its configuration.
    pub source: Source,
    /// Its share of the passes of all sources.
    pub passes: Share,
}

/// Puts all sources together; nothing is asked of any service yet.
///
/// # Errors
/// `Fatal` when a destination cannot be used, `Stream` when an endpoint's CA bundle or proxy cannot.
pub fn assemble(config: &Config, ledger: &Ledger, process: &Process) -> Result<Vec<Parts>, Error> {
    let objects = Share::among(config.sources.len(), config.concurrency.objects);
    let passes = Share::among(config.sources.len(), config.concurrency.passes);
    let sources = config.sources.values().zip(objects).zip(passes);
    sources.map(|((source, objects), passes)| parts(config, source, ledger, process, objects, passes)).collect()
}

fn parts(
    config: &Config,
    source: &Source,
    ledger: &Ledger,
    process: &Process,
    objects: Share,
    passes: Share,
) -> Result<Parts, Error> {
    let keeper = Keeper::connect(source, process, fastrand::u64(..))?;
    let bucket = S3Source::new(source, keeper.clone(), process.http.get(&source.endpoints)?);
    let tree = Local::open(&source.destination)?;
    let permits = Permits { source: Arc::new(Semaphore::new(source.concurrency)), process: objects };
    let manifests = Manifests::under(&config.state.dir);
    let mirror = Mirror::new(
        Arc::new(bucket),
        Arc::new(tree),
        ledger.clone(),
        manifests,
        process.clock.clone(),
        rules(config, source),
        permits,
    );
    let (mirror, wanted) = (Arc::new(mirror), wanted(source));
    let service = CloudTrail::new(&source.endpoints, keeper.clone(), process.http.get(&source.endpoints)?);
    let keyring = Keyring::new(&source.name, &source.region, Arc::new(service), ledger.clone());
    let prover = Arc::new(Prover::new(mirror.clone(), keyring, proof_rules(source, &wanted)));
    Ok(Parts { keeper, mirror, prover, wanted, source: source.clone(), passes })
}

fn proof_rules(source: &Source, wanted: &Wanted) -> prove::Rules {
    prove::Rules {
        bucket: source.bucket.clone(),
        wanted: wanted.clone(),
        since: source.since,
        grace: i64::try_from(source.proof.grace.as_secs()).unwrap_or(i64::MAX),
    }
}

impl Parts {
    /// The source as the daemon runs it.
    pub fn into_runner(self) -> Runner<S3Source, Local> {
        let session = self.keeper.observe();
        Runner {
            mirror: self.mirror,
            wanted: self.wanted,
            poll: self.source.poll,
            passes: self.passes,
            prover: self.prover,
            session,
        }
    }
}

fn rules(config: &Config, source: &Source) -> Rules {
    Rules {
        poll: source.poll.clone(),
        since: source.since,
        retention: source.source_retention.map(|age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX)),
        ledger_days: config.state.ledger_days,
        in_flight: source.concurrency,
        pace: 1.0,
        random: fastrand::f64,
    }
}

/// What to discover of a source.
pub fn wanted(source: &Source) -> Wanted {
    Wanted {
        source: source.name.clone(),
        prefix: source.prefix.clone(),
        organization: source.organization.clone(),
        accounts: source.accounts.clone(),
        kinds: source.kinds.clone(),
        regions: source.regions.clone(),
    }
}

/// Whether any destination holds something already: then a missing database is not made anew.
pub fn mirrored_before(config: &Config) -> bool {
    config.sources.values().any(|source| holds_objects(&source.destination.path))
}

fn holds_objects(root: &Path) -> bool {
    if root.join(".trailsync/manifests").exists() {
        return true;
    }
    let own = [".trailsync", "lost+found"];
    std::fs::read_dir(root)
        .is_ok_and(|entries| entries.flatten().any(|entry| !own.iter().any(|name| entry.file_name() == *name)))
}
