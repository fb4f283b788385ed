//! Puts a source's parts together: keeper, bucket, tree, mirror.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Config, Source, Storage};
use crate::destination::bucket::{self, Bucket};
use crate::destination::local::Local;
use crate::destination::store::Store;
use crate::discover::Wanted;
use crate::error::{Class, Error, Report};
use crate::gate::Gate;
use crate::identity;
use crate::keyring::{CloudTrail, Keyring};
use crate::ledger::{DATABASE, Ledger, SessionRow};
use crate::manifest::Manifests;
use crate::mirror::{Mirror, Permits, Rules};
use crate::prove::{self, Prover};
use crate::prune::{self, Pruner, Terms};
use crate::pulse::Heart;
use crate::role::{Keeper, Process};
use crate::scheduler::{Runner, session_row};
use crate::scrub::{self, Pace, RealTiming, Scrubber};
use crate::share::Share;
use crate::source::s3::S3Source;
use crate::trouble::{Say, Trouble};

/// A destination that cannot be used is looked at again after so long.
const REST: Duration = Duration::from_secs(20);
/// Objects that are read again before it is recorded how far that is.
const SCRUBBED_A_TURN: u64 = 1000;
/// Objects that are decided on, recorded and deleted at the source together.
const PRUNED_AT_ONCE: usize = 500;
/// Requests for it in flight.
const PRUNED_IN_FLIGHT: usize = 8;
/// Records that are walked over before it is recorded how far that is.
const WALKED_A_TURN: u64 = 20_000;

/// A source, ready to run.
pub struct Parts {
    /// Keeps its role session.
    pub keeper: Arc<Keeper>,
    /// Keeps the session of its destination, where that has credentials of its own.
    pub archive: Option<Arc<Keeper>>,
    /// Where copies go.
    pub store: Arc<Store>,
    /// Mirrors its streams.
    pub mirror: Arc<Mirror<S3Source, Store>>,
    /// Proves what is mirrored.
    pub prover: Arc<Prover<S3Source, Store>>,
    /// Reads the copy again; `None` for a bucket, whose service does that itself.
    pub scrubber: Option<Arc<Scrubber<S3Source, Store>>>,
    /// The daemon lets it.
    pub scrubs: bool,
    /// Deletes at the source; `None` where that is not configured.
    pub pruner: Option<Arc<Pruner<S3Source, Store>>>,
    /// What to discover.
    pub wanted: Wanted,
    /// Its configuration.
    pub source: Source,
    /// Its share of the passes of all sources.
    pub passes: Share,
}

/// All sources of a process.
pub struct Assembled {
    /// Ready to run.
    pub ready: Vec<Parts>,
    /// Their destinations cannot be used now.
    pub waiting: Vec<Waiting>,
}

/// A source whose destination cannot be used now.
pub struct Waiting {
    /// Why.
    pub error: Error,
    connected: Connected,
}

/// What a source has of what all share.
struct Shares {
    objects: Share,
    passes: Share,
    pace: Arc<Pace>,
}

/// A source without its destination.
struct Connected {
    config: Config,
    source: Source,
    ledger: Ledger,
    process: Process,
    shares: Shares,
    keeper: Arc<Keeper>,
    archive: Option<Arc<Keeper>>,
    bucket: S3Source,
    keyring: Keyring,
}

/// Puts all sources together; nothing is asked of any service yet.
///
/// # Errors
/// `Fatal` when a destination must not be used, `Stream` when an endpoint's CA bundle or proxy cannot.
pub async fn assemble(config: &Config, ledger: &Ledger, process: &Process) -> Result<Assembled, Error> {
    let rate = config.scrub.mib_per_second << 20;
    assemble_paced(config, ledger, process, Some(rate)).await
}

/// The same, reading copies again at so many bytes a second, all sources together; `None`: as fast as it goes.
///
/// # Errors
/// As for [`assemble`].
pub async fn assemble_paced(
    config: &Config,
    ledger: &Ledger,
    process: &Process,
    bytes_per_second: Option<u64>,
) -> Result<Assembled, Error> {
    let pace = Arc::new(Pace::new(bytes_per_second, RealTiming::default()));
    let objects = Share::among(config.sources.len(), config.concurrency.objects);
    let passes = Share::among(config.sources.len(), config.concurrency.passes);
    let mut assembled = Assembled { ready: Vec::new(), waiting: Vec::new() };
    for ((source, objects), passes) in config.sources.values().zip(objects).zip(passes) {
        let connected =
            Connected::new(config, source, ledger, process, Shares { objects, passes, pace: pace.clone() })?;
        match connected.open().await {
            Ok(tree) => assembled.ready.push(connected.with(tree)),
            Err(error) if error.class() == Class::Fatal => return Err(error),
            Err(error) => assembled.waiting.push(Waiting { error, connected }),
        }
    }
    Ok(assembled)
}

impl Connected {
    fn new(
        config: &Config,
        source: &Source,
        ledger: &Ledger,
        process: &Process,
        shares: Shares,
    ) -> Result<Self, Error> {
        let keeper = Keeper::connect(source, process, fastrand::u64(..))?;
        let http = process.http.get(&source.endpoints)?;
        let own = source.destination.bucket();
        let archive = own.map(|own| bucket::keeper(source, own, process, fastrand::u64(..))).transpose()?;
        let bucket = S3Source::new(source, keeper.clone(), http.clone());
        let service = CloudTrail::new(&source.endpoints, keeper.clone(), http);
        let keyring = Keyring::new(&source.name, &source.region, Arc::new(service), ledger.clone());
        let (config, source, ledger, process) = (config.clone(), source.clone(), ledger.clone(), process.clone());
        Ok(Self { config, source, ledger, process, shares, keeper, archive, bucket, keyring })
    }

    /// Opens the destination and makes sure that it is the right one; what came of it is recorded.
    async fn open(&self) -> Result<Store, Error> {
        let (name, now) = (&self.source.name, self.process.clock.now());
        let opened = self.open_now().await;
        match &opened {
            Ok(_) => self.ledger.source_ready(name, now).await?,
            Err(error) => self.ledger.source_failed(name, error, now).await?,
        }
        opened
    }

    async fn open_now(&self) -> Result<Store, Error> {
        let (store, shown, holds) = match (&self.source.destination, &self.archive) {
            (Storage::Bucket(own), Some(keeper)) => {
                let spool = self.config.state.dir.join("spool").join(&self.source.name);
                let bucket = Bucket::open(&self.source, own, keeper.clone(), &self.process, spool)?;
                let holds = bucket::holds_objects(&self.source, own, &self.process).await?;
                (Store::Bucket(bucket), format!("{}/{}", own.bucket, own.prefix), holds)
            }
            (Storage::Tree(options), _) => {
                let (shown, holds) = (options.path.display().to_string(), holds_objects(&options.path));
                let options = options.clone();
                let opened = tokio::task::spawn_blocking(move || Local::open(&options)).await;
                let tree = opened.map_err(|error| Error::of(Class::Stream, Report::new("open", &shown, error)))??;
                (Store::Tree(tree), shown, holds)
            }
            (Storage::Bucket(own), None) => {
                let report = Report::new("open", &own.bucket, "nothing keeps the session of the destination");
                return Err(Error::of(Class::Fatal, report));
            }
        };
        identity::check(&self.source.name, &shown, &store, holds, &self.ledger).await?;
        Ok(store)
    }

    fn with(self, store: Store) -> Parts {
        let Self { config, source, ledger, process, shares, keeper, archive, bucket, keyring } = self;
        let Shares { objects, passes, pace } = shares;
        let permits = Permits { source: Arc::new(Gate::new(source.concurrency)), process: objects };
        let manifests = Manifests::under(&config.state.dir);
        let rules = rules(&config, &source);
        let store = Arc::new(store);
        let mirror =
            Mirror::new(Arc::new(bucket), store.clone(), ledger, manifests, process.clock.clone(), rules, permits);
        let (mirror, wanted) = (Arc::new(mirror), wanted(&source));
        let prover = Arc::new(Prover::new(mirror.clone(), keyring, proof_rules(&source, &wanted)));
        let every = i64::try_from(config.scrub.every.as_secs()).unwrap_or(i64::MAX);
        let rules = scrub::Rules { wanted: wanted.clone(), every, pace, objects_a_turn: SCRUBBED_A_TURN };
        let is_tree = matches!(*store, Store::Tree(_));
        let scrubber = is_tree.then(|| Arc::new(Scrubber::new(mirror.clone(), prover.clone(), rules)));
        let scrubs = config.scrub.mib_per_second > 0;
        let pruner = prune_rules(&source, &wanted).map(|rules| Pruner::new(mirror.clone(), prover.clone(), rules));
        let pruner = pruner.map(Arc::new);
        Parts { keeper, archive, store, mirror, prover, scrubber, scrubs, pruner, wanted, source, passes }
    }
}

impl Waiting {
    /// Tries to open the destination every now and then, and says once that it cannot, until it can; `None` when it
    /// was told to stop.
    ///
    /// # Errors
    /// `Fatal` when the process must end.
    pub async fn until_ready(self, stop: CancellationToken) -> Result<Option<Parts>, Error> {
        let Self { mut error, connected } = self;
        let mut trouble = Trouble::default();
        loop {
            let source = &connected.source.name;
            if trouble.failed(error.code(), Instant::now()) != Say::Nothing {
                warn!(%source, code = error.code(), "Nothing of `{source}` is mirrored: {error}");
            }
            if stop.run_until_cancelled(sleep(REST)).await.is_none() {
                return Ok(None);
            }
            match connected.open().await {
                Ok(tree) => {
                    info!(%source, "The destination of `{source}` can be used now");
                    return Ok(Some(connected.with(tree)));
                }
                Err(fatal) if fatal.class() == Class::Fatal => return Err(fatal),
                Err(again) => error = again,
            }
        }
    }
}

fn proof_rules(source: &Source, wanted: &Wanted) -> prove::Rules {
    prove::Rules {
        bucket: source.bucket.clone(),
        wanted: wanted.clone(),
        since: source.since,
        grace: i64::try_from(source.proof.grace.as_secs()).unwrap_or(i64::MAX),
    }
}

/// How a source's objects are deleted there, where that is configured.
fn prune_rules(source: &Source, wanted: &Wanted) -> Option<prune::Rules> {
    let after = source.after_mirror?;
    let age = i64::try_from(after.delete_after.as_secs()).unwrap_or(i64::MAX);
    Some(prune::Rules {
        wanted: wanted.clone(),
        terms: Terms { age, require: after.require },
        most: after.most,
        batch: PRUNED_AT_ONCE,
        in_flight: source.concurrency.min(PRUNED_IN_FLIGHT),
        records_a_turn: WALKED_A_TURN,
    })
}

impl Parts {
    /// The session of the destination as the state keeps it, beside the source's own.
    pub fn archive_row(&self) -> Option<SessionRow> {
        self.archive.as_ref().map(|keeper| session_row(&archive_name(&self.source.name), &keeper.state()))
    }

    /// The source as the daemon runs it.
    pub fn into_runner(self, heart: Heart) -> Runner<S3Source, Store> {
        let session = self.keeper.observe();
        Runner {
            mirror: self.mirror,
            wanted: self.wanted,
            poll: self.source.poll,
            passes: self.passes,
            prover: self.prover,
            scrubber: self.scrubber.filter(|_| self.scrubs),
            pruner: self.pruner,
            session,
            heart,
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

/// The name under which a source's destination is shown where it has a session of its own.
pub fn archive_name(source: &str) -> String {
    format!("{source}/destination")
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
///
/// Buckets are asked only when there is no database.
///
/// # Errors
/// When a bucket must be asked and does not answer.
pub async fn mirrored_before(config: &Config, process: &Process) -> Result<bool, Error> {
    if config.sources.values().filter_map(|source| source.destination.tree()).any(|tree| holds_objects(&tree.path)) {
        return Ok(true);
    }
    if config.state.dir.join(DATABASE).exists() {
        return Ok(false);
    }
    for source in config.sources.values() {
        if let Some(own) = source.destination.bucket()
            && bucket::holds_objects(source, own, process).await?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a tree holds anything of ours.
pub fn holds_objects(root: &Path) -> bool {
    if root.join(".trailsync/manifests").exists() {
        return true;
    }
    let own = [".trailsync", "lost+found"];
    std::fs::read_dir(root)
        .is_ok_and(|entries| entries.flatten().any(|entry| !own.iter().any(|name| entry.file_name() == *name)))
}
