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
use crate::scrub::{self, Pace, RealTiming, Scrubber};
use crate::share::Share;
use crate::source::s3::S3Source;

/// Objects that are read again before it is recorded how far that is.
const SCRUBBED_A_TURN: u64 = 1000;

/// A source, ready to run.
pub struct Parts {
    /// Keeps its role session.
    pub keeper: Arc<Keeper>,
    /// Mirrors its streams.
    pub mirror: Arc<Mirror<S3Source, Local>>,
    /// Proves what is mirrored.
    pub prover: Arc<Prover<S3Source, Local>>,
    /// Reads the copy again.
    pub scrubber: Arc<Scrubber<S3Source, Local>>,
    /// It is switched on.
    pub scrubs: bool,
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
    let rate = config.scrub.mib_per_second << 20;
    assemble_paced(config, ledger, process, Some(rate))
}

/// The same, reading copies again at so many bytes a second, all sources together.
///
/// # Errors
/// As for [`assemble`].
pub fn assemble_paced(
    config: &Config,
    ledger: &Ledger,
    process: &Process,
    bytes_per_second: Option<u64>,
) -> Result<Vec<Parts>, Error> {
    let pace = Arc::new(Pace::new(bytes_per_second, RealTiming::default()));
    let objects = Share::among(config.sources.len(), config.concurrency.objects);
    let passes = Share::among(config.sources.len(), config.concurrency.passes);
    let sources = config.sources.values().zip(objects).zip(passes);
    let shares = |(objects, passes)| Shares { objects, passes, pace: pace.clone() };
    sources
        .map(|((source, objects), passes)| parts(config, source, ledger, process, shares((objects, passes))))
        .collect()
}

/// What a source has of what all share.
struct Shares {
    objects: Share,
    passes: Share,
    pace: Arc<Pace>,
}

fn parts(config: &Config, source: &Source, ledger: &Ledger, process: &Process, shares: Shares) -> Result<Parts, Error> {
    let Shares { objects, passes, pace } = shares;
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
    let every = i64::try_from(config.scrub.every.as_secs()).unwrap_or(i64::MAX);
    let rules = scrub::Rules { wanted: wanted.clone(), every, pace, objects_a_turn: SCRUBBED_A_TURN };
    let scrubber = Arc::new(Scrubber::new(mirror.clone(), prover.clone(), rules));
    let scrubs = config.scrub.mib_per_second > 0;
    Ok(Parts { keeper, mirror, prover, scrubber, scrubs, wanted, source: source.clone(), passes })
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
            scrubber: self.scrubs.then_some(self.scrubber),
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
