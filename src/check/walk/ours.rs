//! What is ours to have right: the keys that we may ask for, the place of the copy, and the clock.

use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::{Reader, Step, Walk, of_error, off_by};
use crate::check::public_keys::{CloudTrail, PublicKeys as _};
use crate::check::{Finding, Hop, State, archive};
use crate::clock::seconds_between;
use crate::config::{Destination, OwnBucket, Storage, shape};
use crate::destination::bucket;
use crate::destination::local::probe::{Probed, probe};
use crate::layout::Stream;
use crate::policy::Partition;
use crate::window::SKEW_SECONDS;

/// Free space below which somebody should know.
const LITTLE_SPACE: u64 = 1 << 30;
/// The same for files: each object is one.
const LITTLE_FILES: u64 = 10_000;

impl Walk<'_> {
    /// The keys of a region whose digests are mirrored, asked for with our own credentials.
    pub(super) async fn public_keys(
        &mut self,
        reader: &Reader,
        streams: &[Stream],
        http: SharedHttpClient,
    ) -> Step<()> {
        if !self.source.kinds.iter().any(|kind| kind == "CloudTrail-Digest") {
            self.skipped(Hop::PublicKeys, "digests are not mirrored");
            return Ok(());
        }
        let partition = Partition::of(&self.source.region);
        // Another account chooses the names of folders; what becomes part of a host name is a region.
        let sound = |region: &&str| shape::region(region) && Partition::of(region) == partition;
        let digests = streams.iter().filter(|stream| stream.kind.folder == "CloudTrail-Digest");
        let region = digests.map(|stream| stream.region.as_str()).find(sound).unwrap_or(&self.source.region).to_owned();
        let tried = format!("ListPublicKeys in {region}");
        let service = CloudTrail::new(&self.source.endpoints, reader.base.clone(), http);
        match service.valid(&region).await {
            Ok(0) => {
                let mut finding = Finding::new(Hop::PublicKeys, State::Warned, tried, "no key is valid there now");
                finding.causes =
                    vec!["no trail has written digests in this region lately: older ones have their keys".into()];
                self.findings.push(finding);
            }
            Ok(keys) => self.passed(Hop::PublicKeys, tried, format!("{keys} in {region}")),
            Err(failure) => {
                let blame = self.scene().public_keys(&failure);
                return Err(self.refused(Hop::PublicKeys, tried, failure, blame));
            }
        }
        Ok(())
    }

    pub(super) async fn destination(&mut self) -> Step<()> {
        match &self.source.destination {
            Storage::Tree(options) => self.tree(options.clone()).await,
            Storage::Bucket(own) => self.archive(own).await,
        }
    }

    /// A bucket of our own, with its own role and credentials; one small object is left there.
    async fn archive(&mut self, own: &OwnBucket) -> Step<()> {
        let tried = format!("to write under `{}` in the bucket {} only where nothing is", own.prefix, own.bucket);
        let probed = bucket::probe(self.source, own, self.process).await;
        probed.map_err(|error| {
            let mut finding = of_error(Hop::Destination, &tried, &error);
            finding.causes.extend(archive::unreached(own, &error).filter(|_| error.report().mend.is_none()));
            if let Some((permission, policy)) = archive::missing(&self.scene(), own, &error) {
                (finding.permission, finding.policy) = (Some(permission), policy);
            }
            self.stop(finding)
        })?;
        let locked = if own.object_lock.is_some() { ", and it has Object Lock" } else { "" };
        self.passed(Hop::Destination, tried, format!("the bucket keeps the condition{locked}"));
        Ok(())
    }

    async fn tree(&mut self, options: Destination) -> Step<()> {
        let path = options.path.clone();
        let tried = format!("to write, read and remove a file under {}", options.path.display());
        let probed = tokio::task::spawn_blocking(move || probe(&options)).await;
        let probed = match probed {
            Ok(probed) => probed,
            Err(panicked) => {
                let finding = Finding::new(Hop::Destination, State::Failed, tried, panicked.to_string());
                return Err(self.stop(finding));
            }
        };
        let probed = probed.map_err(|error| self.stop(of_error(Hop::Destination, &tried, &error)))?;
        let mut finding = Finding::new(Hop::Destination, State::Passed, tried, room(&probed));
        if !probed.exists {
            finding.tried = format!("whether {} can be made", path.display());
        }
        finding.causes = shortcomings(&probed);
        if !finding.causes.is_empty() {
            finding.state = State::Warned;
        }
        self.findings.push(finding);
        Ok(())
    }

    pub(super) fn clock(&mut self) {
        let Some(theirs) = self.served_at else { return self.skipped(Hop::Clock, "the service does not say its time") };
        let ahead = seconds_between(theirs, self.process.clock.now());
        let mut finding = Finding::new(Hop::Clock, State::Passed, "to compare with the service's clock", off_by(ahead));
        if ahead.abs() > SKEW_SECONDS {
            finding.state = State::Warned;
            finding.causes = vec![
                "set this machine's clock: beyond 5 minutes days are not sealed, beyond 15 every request is refused"
                    .into(),
            ];
        }
        self.findings.push(finding);
    }
}

fn room(probed: &Probed) -> String {
    let [free, reserved] = [probed.free_bytes, probed.reserved_bytes].map(indicatif::HumanBytes);
    let made = if probed.exists { "" } else { ", not there yet" };
    let allowed = if probed.is_volatile { ", which forgets and is allowed" } else { "" };
    format!("on {}{allowed}, {free} free and {reserved} reserved{made}", probed.file_system)
}

fn shortcomings(probed: &Probed) -> Vec<String> {
    let mut causes = Vec::new();
    if probed.free_bytes < LITTLE_SPACE {
        causes.push("less than 1 GiB is free: make room, or give the copy a volume of its own".to_owned());
    }
    if probed.free_files < LITTLE_FILES {
        causes.push(format!("only {} more files can be made: use a file system with more inodes", probed.free_files));
    }
    causes
}
