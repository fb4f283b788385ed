//! Delivering what a trail has scheduled, and vouching for it.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use crate::clock::iso_seconds;
use crate::digests::{Digest, Link, LogFile, SigningKey, sha256_hex};
use crate::log_body::{gunzip, gzip, realistic};
use crate::object::ObjectSpec;
use crate::trail::{Bodies, Delivery, Kind, Trail};
use crate::world::World;

/// How far a world's trails have delivered.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    trails: BTreeMap<String, TrailProgress>,
    /// Everything delivered, in order of arrival within each trail.
    pub delivered: Vec<Delivery>,
}

#[derive(Debug, Default)]
struct TrailProgress {
    through: Option<Timestamp>,
    chains: BTreeMap<(String, String), Chain>,
}

/// The digests of one account and region.
#[derive(Debug, Default)]
struct Chain {
    last: Option<Link>,
    /// Delivered and not yet vouched for.
    waiting: Vec<(Timestamp, LogFile)>,
}

impl Trail {
    /// Puts everything that is due by `through` and was not delivered yet into the world's bucket,
    /// digests included, dated when it arrived. A second call with the same time does nothing.
    ///
    /// # Panics
    /// If there is no such bucket.
    pub fn deliver_until(&self, world: &World, through: Timestamp) -> Vec<Delivery> {
        let mut progress = world.inner().progress.write();
        let own = progress.trails.entry(self.identity()).or_default();
        let from = own.through.unwrap_or(Timestamp::MIN);
        if through <= from {
            return Vec::new();
        }
        let due: Vec<Delivery> = self.schedule(from, through).collect();
        for delivery in &due {
            let stream = (delivery.account.clone(), delivery.region.clone());
            let chain = own.chains.entry(stream).or_default();
            match delivery.kind {
                Kind::Digest => self.vouch(world, delivery, chain),
                _ => self.deliver(world, delivery, chain),
            }
        }
        own.through = Some(through);
        progress.delivered.extend(due.iter().cloned());
        due
    }

    /// What makes it this trail and not another; cadences may change under way.
    fn identity(&self) -> String {
        let parts = [
            &self.bucket,
            &self.prefix,
            &self.trail_name,
            &self.accounts.join("+"),
        ];
        format!("{}/{}", parts.map(String::as_str).join("/"), self.seed)
    }

    fn deliver(&self, world: &World, delivery: &Delivery, chain: &mut Chain) {
        let (object, hash, oldest, newest) = match self.bodies {
            Bodies::Realistic => {
                let body = realistic(
                    delivery.seed,
                    &delivery.account,
                    &delivery.region,
                    delivery.at,
                );
                let object = ObjectSpec::log(gzip(&body.text));
                (object, sha256_hex(&body.text), body.oldest, body.newest)
            }
            Bodies::Cheap => {
                let size = 250 + u32::try_from(delivery.seed % 200).unwrap_or_default();
                let object = ObjectSpec::generated(delivery.seed, size);
                let hash = self.digests.then(|| inflated_hash(&object.body.bytes()));
                (object, hash.unwrap_or_default(), delivery.at, delivery.at)
            }
        };
        world.put_object(&self.bucket, &delivery.key, object.modified(delivery.at));
        if self.digests {
            let entry = LogFile {
                bucket: self.bucket.clone(),
                object: delivery.key.clone(),
                hash_value: hash,
                hash_algorithm: "SHA-256".to_owned(),
                newest_event_time: iso_seconds(newest),
                oldest_event_time: iso_seconds(oldest),
            };
            chain.waiting.push((delivery.at, entry));
        }
    }

    /// Writes the digest of the hour that ended at the delivery's name.
    fn vouch(&self, world: &World, delivery: &Delivery, chain: &mut Chain) {
        let end = delivery.named;
        let waiting = std::mem::take(&mut chain.waiting);
        let (covered, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(at, _)| *at < end);
        chain.waiting = later;
        let log_files: Vec<LogFile> = covered.into_iter().map(|(_, file)| file).collect();
        let digest = Digest {
            aws_account_id: delivery.account.clone(),
            digest_start_time: iso_seconds((end - SignedDuration::from_hours(1)).max(self.since)),
            digest_end_time: iso_seconds(end),
            bucket: self.bucket.clone(),
            object: delivery.key.clone(),
            newest_event_time: log_files
                .iter()
                .map(|file| file.newest_event_time.clone())
                .max(),
            oldest_event_time: log_files
                .iter()
                .map(|file| file.oldest_event_time.clone())
                .min(),
            log_files,
            ..Digest::default()
        };
        let key = SigningKey::of(&delivery.region, end);
        world.add_public_key(&delivery.region, key.public.clone());
        let link = digest
            .after(chain.last.as_ref())
            .put(world, &key, delivery.at);
        chain.last = Some(link);
    }
}

fn inflated_hash(gzip: &Bytes) -> String {
    sha256_hex(&gunzip(gzip).unwrap_or_default())
}

/// Trails that the world delivers by itself.
impl World {
    /// Lets the world know a trail; [`deliver_due`](World::deliver_due) then delivers for it.
    pub fn add_trail(&self, trail: Trail) {
        self.inner().trails.write().push(trail);
    }

    pub fn trails(&self) -> Vec<Trail> {
        self.inner().trails.read().clone()
    }

    /// Delivers for every trail what is due by then.
    pub fn deliver_until(&self, through: Timestamp) -> Vec<Delivery> {
        let trails = self.trails();
        trails
            .iter()
            .flat_map(|trail| trail.deliver_until(self, through))
            .collect()
    }

    /// Delivers for every trail what is due by the world's clock.
    pub fn deliver_due(&self) -> Vec<Delivery> {
        self.deliver_until(self.clock().now())
    }

    /// Everything that trails have delivered so far.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.inner().progress.read().delivered.clone()
    }

    /// Has the server deliver what is due, several times a second, from now on or until `until`.
    pub fn go_live(&self, until: Option<Timestamp>) {
        *self.inner().live.write() = Some(until.unwrap_or(Timestamp::MAX));
    }

    pub fn stop_live(&self) {
        *self.inner().live.write() = None;
    }

    /// One beat of live delivery.
    pub(crate) fn beat(&self) {
        let Some(until) = *self.inner().live.read() else {
            return;
        };
        let now = self.clock().now();
        self.deliver_until(now.min(until));
        if now >= until {
            self.stop_live();
        }
    }
}
