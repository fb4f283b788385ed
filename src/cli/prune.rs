//! `trailsync prune`: one round of deletion at the source, now; or what it would delete, and what not, and why.

use std::io::Write;
use std::sync::Arc;

use clap::Args;
use indicatif::HumanBytes;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Exit, selected};
use crate::assemble::{Assembled, assemble_paced, mirrored_before};
use crate::config::{Config, Require};
use crate::destination::store::Store;
use crate::error::{Class, Error, Report};
use crate::key::Shown;
use crate::ledger::Ledger;
use crate::prune::{Pruned, Pruner};
use crate::role::{Keeper, Process};
use crate::source::s3::S3Source;

/// Options of `trailsync prune`.
#[derive(Debug, Args)]
pub struct Options {
    /// Only these sources.
    pub sources: Vec<String>,
    /// Print what would be deleted and count what would not, and why; nothing is asked of the source.
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Go on with the round that is under way instead of beginning anew.
    #[arg(long, conflicts_with = "dry_run")]
    pub resume: bool,
    /// Only the counts.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Deletes at the sources that are configured so, and says on `out` what went and what stays; exits with 1 when
/// something kept it from going on.
///
/// # Errors
/// `Fatal` when state or destination cannot be used, `Stream` when no source is to be deleted from.
pub async fn prune(
    config: &Config,
    options: &Options,
    process: &Process,
    stop: CancellationToken,
    out: &mut (dyn Write + Send),
) -> Result<Exit, Error> {
    let mut config = selected(config, &options.sources, "prune")?;
    if let Some(name) = options.sources.iter().find(|name| config.sources[*name].after_mirror.is_none()) {
        return Err(not_configured(name));
    }
    config.sources.retain(|_, source| source.after_mirror.is_some());
    if config.sources.is_empty() {
        return Err(not_configured("any source"));
    }
    let opened = Ledger::open(&config.state.dir, mirrored_before(&config, process).await?).await?;
    let Assembled { ready, waiting } = assemble_paced(&config, &opened.ledger, process, None).await?;
    let mut is_done = waiting.is_empty();
    for source in &waiting {
        warn!(code = source.error.code(), "{}", source.error);
    }
    for part in ready {
        let Some(pruner) = part.pruner.clone() else { continue };
        let keepers = [Some(part.keeper.clone()).filter(|_| !options.dry_run), part.archive.clone()];
        let went = source(&pruner, keepers.into_iter().flatten().collect(), options, &stop, out).await;
        is_done &= match went {
            Err(error) if error.class() == Class::Fatal => return Err(error),
            Err(error) => {
                warn!(source = %part.source.name, code = error.code(), "{error}");
                false
            }
            Ok(pruned) => {
                let require = part.source.after_mirror.map(|after| after.require);
                report(&part.source.name, &pruned, require, options.dry_run, out);
                !stop.is_cancelled()
            }
        };
    }
    opened.ledger.close().await;
    Ok(if is_done { Exit::Done } else { Exit::Incomplete })
}

/// One round over one source, with the sessions that it needs.
async fn source(
    pruner: &Pruner<S3Source, Store>,
    keepers: Vec<Arc<Keeper>>,
    options: &Options,
    stop: &CancellationToken,
    out: &mut (dyn Write + Send),
) -> Result<Pruned, Error> {
    let (mut renewing, end) = (JoinSet::new(), CancellationToken::new());
    for keeper in keepers {
        match stop.run_until_cancelled(keeper.ready()).await {
            Some(ready) => ready?,
            None => return Ok(Pruned::default()),
        };
        let token = end.clone();
        renewing.spawn(async move { keeper.run(token).await });
    }
    let went =
        if options.dry_run { look(pruner, options, stop, out).await } else { round(pruner, options, stop).await };
    end.cancel();
    while renewing.join_next().await.is_some() {}
    went
}

async fn look(
    pruner: &Pruner<S3Source, Store>,
    options: &Options,
    stop: &CancellationToken,
    out: &mut (dyn Write + Send),
) -> Result<Pruned, Error> {
    let mut would = |key: &str, record: &crate::record::Record| {
        if !options.quiet {
            // A closed pipe ends nothing: the counts follow.
            let _ = writeln!(out, "would delete {} ({} bytes, of {})", Shown(key), record.size, record.modified);
        }
    };
    pruner.look(stop, &mut would).await
}

async fn round(pruner: &Pruner<S3Source, Store>, options: &Options, stop: &CancellationToken) -> Result<Pruned, Error> {
    if !options.resume {
        pruner.begin_anew().await?;
    }
    let mut all = Pruned::default();
    loop {
        all.add(&pruner.turn(stop).await?);
        if !all.more || stop.is_cancelled() {
            return Ok(all);
        }
    }
}

fn report(source: &str, pruned: &Pruned, require: Option<Require>, dry_run: bool, out: &mut (dyn Write + Send)) {
    let verb = if dry_run { "would be deleted at the source" } else { "deleted at the source" };
    let _ = writeln!(out, "{source}: {} objects, {}, {verb}", pruned.deleted, HumanBytes(pruned.bytes));
    for (reason, count) in &pruned.kept {
        let _ = writeln!(out, "{source}: {count} stay: {reason}");
    }
    if pruned.capped {
        let _ = writeln!(out, "{source}: the round may not delete more: raise `after_mirror.most`, or run it again");
    }
    if require == Some(Require::Stored) {
        let _ = writeln!(out, "{source}: deleted without proof, as `i_accept_deletion_without_proof` says");
    }
}

fn not_configured(subject: &str) -> Error {
    let report = Report::new("prune", subject, "nothing is to be deleted at the source")
        .mend("set `after_mirror.delete_after` for the source, such as \"90d\"");
    Error::of(Class::Stream, report)
}
