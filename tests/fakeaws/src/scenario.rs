//! Ready-made worlds, for the demo, for benchmarks and from files.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::{FakeClock, civil};
use crate::control::Put;
use crate::faults::Rule;
use crate::identity::{AccessKey, RoleSpec, user_arn};
use crate::object::ObjectSpec;
use crate::policies;
use crate::trail::{Cadence, Trail};
use crate::world::{BucketSpec, World};

/// The account that owns the logs, and those that read them.
pub const OWNER: &str = "111111111111";
pub const CONSUMER_B: &str = "222222222222";
pub const CONSUMER_C: &str = "333333333333";

/// The external id that consumer C must name.
pub const EXTERNAL_ID_OF_C: &str = "trailsync-demo-7f3a9c";

/// What somebody needs to know to use a world.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// `http://127.0.0.1:PORT`, for every service.
    pub endpoint: String,
    /// Key pairs by name.
    pub keys: BTreeMap<String, KeyInfo>,
    pub roles: BTreeMap<String, RoleInfo>,
    pub buckets: Vec<String>,
    pub region: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub account: String,
    pub arn: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleInfo {
    pub arn: String,
    /// The account whose users may assume it.
    pub consumer: String,
    pub external_id: Option<String>,
}

impl Ready {
    /// Makes a user with a key, and writes both down under `name`.
    fn user(&mut self, world: &World, name: &str, account: &str, policy: Value) {
        let key = world.add_user(account, name, policy);
        self.key(name, account, key, user_arn(account, name));
    }

    fn key(&mut self, name: &str, account: &str, key: AccessKey, arn: String) {
        let info = KeyInfo {
            access_key_id: key.id,
            secret_access_key: key.secret,
            account: account.to_owned(),
            arn,
        };
        self.keys.insert(name.to_owned(), info);
    }

    /// Publishes itself to the control interface.
    pub fn publish(&self, world: &World) {
        *world.inner().scenario.write() = json!(self);
    }
}

/// The demo: one bucket, two consumers, two days of history, then a delivery every other second.
#[derive(Debug, Clone)]
pub struct Demo {
    pub prefix: String,
    pub regions: Vec<String>,
    pub history: SignedDuration,
    /// Short, so that renewals are seen.
    pub session_lifetime: Option<Duration>,
    pub seed: u64,
}

impl Default for Demo {
    fn default() -> Self {
        Demo {
            prefix: String::new(),
            regions: ["us-east-1", "eu-west-1"].map(String::from).to_vec(),
            history: SignedDuration::from_hours(48),
            session_lifetime: Some(Duration::from_secs(20)),
            seed: 1,
        }
    }
}

pub const DEMO_BUCKET: &str = "example-org-cloudtrail-logs";

impl Demo {
    /// Builds the world and delivers its history; live delivery is the caller's to start.
    pub fn build(&self, clock: FakeClock) -> (World, Ready) {
        let world = World::new(clock);
        let mut ready = Ready {
            region: "us-east-1".to_owned(),
            buckets: vec![DEMO_BUCKET.to_owned()],
            ..Ready::default()
        };
        world.add_bucket(BucketSpec::new(DEMO_BUCKET, OWNER, "us-east-1"));
        ready.user(&world, "owner", OWNER, policies::everything());
        self.consumer(&world, &mut ready, "b", CONSUMER_B, None);
        self.consumer(&world, &mut ready, "c", CONSUMER_C, Some(EXTERNAL_ID_OF_C));
        let now = world.clock().now();
        for account in [OWNER, CONSUMER_B, CONSUMER_C] {
            world.add_trail(self.trail(account, now));
        }
        world.deliver_until(now);
        (world, ready)
    }

    fn consumer(
        &self,
        world: &World,
        ready: &mut Ready,
        name: &str,
        account: &str,
        external_id: Option<&str>,
    ) {
        let trust = match external_id {
            None => policies::trust_account_root(account),
            Some(id) => policies::trust_with_external_id(account, id),
        };
        let spec = RoleSpec {
            trust,
            policy: policies::read_own_logs(DEMO_BUCKET, &self.prefix, account),
            session_lifetime: self.session_lifetime,
            ..RoleSpec::default()
        };
        let arn = world.add_role(OWNER, &format!("CloudTrailLogs-{account}"), spec);
        let policy = policies::assume_role_and_list_public_keys(&arn);
        ready.user(world, &format!("mirror-{name}"), account, policy);
        let info = RoleInfo {
            arn,
            consumer: account.to_owned(),
            external_id: external_id.map(str::to_owned),
        };
        ready.roles.insert(name.to_owned(), info);
    }

    /// The owner's trail stays at five minutes; the consumers' become lively now.
    fn trail(&self, account: &str, now: Timestamp) -> Trail {
        let history = Cadence {
            files: (1, 2),
            ..Cadence::default()
        };
        let live = Cadence {
            since: now,
            every: 2,
            files: (0, 1),
            name_minutes: 1,
            late_per_mille: 120,
            weeks_late_per_mille: 20,
        };
        let is_consumer = account != OWNER;
        Trail {
            bucket: DEMO_BUCKET.to_owned(),
            prefix: self.prefix.clone(),
            accounts: vec![account.to_owned()],
            regions: self.regions.clone(),
            seed: self.seed,
            since: now - self.history,
            cadences: std::iter::once(history)
                .chain(is_consumer.then_some(live))
                .collect(),
            ..Trail::default()
        }
    }
}

/// One stream of very many small logs, spread evenly over some days.
#[derive(Debug, Clone)]
pub struct Million {
    pub keys: u64,
    pub days: u32,
    pub account: String,
    pub region: String,
    /// Keys dated years ahead, which no honest trail delivers.
    pub planted_future: u64,
    pub seed: u64,
    /// Bytes of each log.
    pub size: u32,
}

impl Default for Million {
    fn default() -> Self {
        Million {
            keys: 1_000_000,
            days: 400,
            account: CONSUMER_B.to_owned(),
            region: "us-east-1".to_owned(),
            planted_future: 0,
            seed: 1,
            size: 300,
        }
    }
}

pub const MILLION_BUCKET: &str = "example-million-logs";

impl Million {
    pub fn build(&self, clock: FakeClock) -> (World, Ready) {
        let world = World::new(clock);
        let mut ready = Ready {
            region: self.region.clone(),
            buckets: vec![MILLION_BUCKET.to_owned()],
            ..Ready::default()
        };
        world.add_bucket(BucketSpec::new(MILLION_BUCKET, OWNER, &self.region));
        ready.user(&world, "owner", OWNER, policies::everything());
        let spec = RoleSpec {
            trust: policies::trust_account_root(&self.account),
            policy: policies::read_own_logs(MILLION_BUCKET, "", &self.account),
            max_session_seconds: 43_200,
            ..RoleSpec::default()
        };
        let arn = world.add_role(OWNER, "MillionLogs", spec);
        ready.user(
            &world,
            "mirror",
            &self.account,
            policies::assume_role_and_list_public_keys(&arn),
        );
        let info = RoleInfo {
            arn,
            consumer: self.account.clone(),
            external_id: None,
        };
        ready.roles.insert("million".to_owned(), info);
        world.put_objects(MILLION_BUCKET, self.past(world.clock().now()));
        world.put_objects(MILLION_BUCKET, self.future(world.clock().now()));
        (world, ready)
    }

    /// Oldest first; the last one is named by the current minute.
    fn past(&self, now: Timestamp) -> impl Iterator<Item = (String, ObjectSpec)> {
        let span = i64::from(self.days) * 86_400;
        let keys = i64::try_from(self.keys).unwrap_or(i64::MAX).max(1);
        (0..self.keys.cast_signed()).map(move |number| {
            // In 128 bits, because a million keys times a year of seconds is near the edge of 64.
            let age = i128::from(span) * i128::from(keys - 1 - number) / i128::from(keys);
            let age = SignedDuration::from_secs(i64::try_from(age).unwrap_or(span));
            self.object(now - age, number.cast_unsigned())
        })
    }

    fn future(&self, now: Timestamp) -> impl Iterator<Item = (String, ObjectSpec)> {
        (0..self.planted_future).map(move |number| {
            let days = 2 * 365 + i64::try_from(number % 1_000).unwrap_or_default();
            let named = now + SignedDuration::from_hours(24 * days);
            let (key, object) = self.object(named, self.keys + number);
            (key, object.modified(now))
        })
    }

    fn object(&self, named: Timestamp, number: u64) -> (String, ObjectSpec) {
        let (account, region) = (&self.account, &self.region);
        let mut random =
            fastrand::Rng::with_seed(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let suffix: String = std::iter::repeat_with(|| random.alphanumeric())
            .take(16)
            .collect();
        let (year, month, day) = civil(named);
        let minute = named.as_second().rem_euclid(86_400) / 60;
        let (hour, minute) = (minute / 60, minute % 60);
        let key = format!(
            "AWSLogs/{account}/CloudTrail/{region}/{year:04}/{month:02}/{day:02}/\
             {account}_CloudTrail_{region}_{year:04}{month:02}{day:02}T{hour:02}{minute:02}Z_{suffix}.json.gz"
        );
        let object =
            ObjectSpec::generated(self.seed.wrapping_add(number), self.size).modified(named);
        (key, object)
    }
}

/// A world described by a file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Described {
    buckets: Vec<BucketSpec>,
    users: Vec<DescribedUser>,
    roles: Vec<DescribedRole>,
    objects: Vec<Put>,
    trails: Vec<Trail>,
    /// Trails deliver until then before anybody asks.
    deliver_until: Option<Timestamp>,
    faults: Vec<Rule>,
    region: Option<String>,
}

#[derive(Debug, Deserialize)]
struct DescribedUser {
    account: String,
    name: String,
    policy: Value,
}

#[derive(Debug, Deserialize)]
struct DescribedRole {
    account: String,
    name: String,
    #[serde(default)]
    consumer: String,
    #[serde(default)]
    external_id: Option<String>,
    #[serde(flatten)]
    spec: RoleSpec,
}

impl Described {
    /// # Errors
    /// A sentence about what in the description makes no sense.
    ///
    /// # Panics
    /// If a policy is malformed.
    pub fn build(self, clock: FakeClock) -> Result<(World, Ready), String> {
        let world = World::new(clock);
        let mut ready = Ready {
            region: self.region.unwrap_or_else(|| "us-east-1".to_owned()),
            buckets: self
                .buckets
                .iter()
                .map(|bucket| bucket.name.clone())
                .collect(),
            ..Ready::default()
        };
        for bucket in self.buckets {
            world.add_bucket(bucket);
        }
        for user in self.users {
            ready.user(&world, &user.name, &user.account, user.policy);
        }
        for role in self.roles {
            let arn = world.add_role(&role.account, &role.name, role.spec);
            let info = RoleInfo {
                arn,
                consumer: role.consumer,
                external_id: role.external_id,
            };
            ready.roles.insert(role.name, info);
        }
        for put in self.objects {
            if !ready.buckets.contains(&put.bucket) {
                return Err(format!("no bucket {}", put.bucket));
            }
            let (bucket, key) = (put.bucket.clone(), put.key.clone());
            world.put_object(&bucket, &key, put.object()?);
        }
        for trail in self.trails {
            if !ready.buckets.contains(&trail.bucket) {
                return Err(format!("no bucket {}", trail.bucket));
            }
            world.add_trail(trail);
        }
        if let Some(until) = self.deliver_until {
            world.deliver_until(until);
        }
        for rule in self.faults {
            world.faults().arm(rule);
        }
        Ok((world, ready))
    }
}

/// An empty world with one powerful user in the owner's account.
pub fn empty(clock: FakeClock) -> (World, Ready) {
    let world = World::new(clock);
    let mut ready = Ready {
        region: "us-east-1".to_owned(),
        ..Ready::default()
    };
    ready.user(&world, "owner", OWNER, policies::everything());
    (world, ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_keys_end_now_and_planted_ones_lie_years_ahead() {
        let now: Timestamp = "2024-03-05T06:07:08Z".parse().expect("a time");
        let million = Million {
            keys: 1_000,
            days: 35,
            planted_future: 3,
            ..Million::default()
        };
        let (world, _) = million.build(FakeClock::fixed_at(now));
        let keys = world.keys(MILLION_BUCKET, "AWSLogs/222222222222/CloudTrail/us-east-1/");
        assert_eq!(keys.len(), 1_003);
        assert!(keys[0].contains("/2024/01/30/"), "{}", keys[0]);
        assert!(keys[999].contains("_20240305T0607Z_"), "{}", keys[999]);
        assert!(keys[1_000].contains("/2026/03/"), "{}", keys[1_000]);
    }

    #[test]
    fn the_demo_has_history_for_everybody_and_late_files() {
        let now: Timestamp = "2024-03-05T06:07:08Z".parse().expect("a time");
        let (world, ready) = Demo {
            history: SignedDuration::from_hours(12),
            ..Demo::default()
        }
        .build(FakeClock::fixed_at(now));
        for account in [OWNER, CONSUMER_B, CONSUMER_C] {
            assert!(
                world
                    .keys(DEMO_BUCKET, &format!("AWSLogs/{account}/"))
                    .len()
                    > 250,
                "{account}"
            );
        }
        assert_eq!(
            ready.roles["c"].external_id.as_deref(),
            Some(EXTERNAL_ID_OF_C)
        );
        let before = world.object_count(DEMO_BUCKET);
        world.clock().advance(Duration::from_secs(60));
        let live = world.deliver_due();
        assert!(live.len() > 20, "{}", live.len());
        assert_eq!(world.object_count(DEMO_BUCKET), before + live.len());
    }
}
