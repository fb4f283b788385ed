//! Two hands that write chains: our stand-in for AWS, and a script that shares nothing with it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fakeaws::digests::{Digest, Link, SigningKey};
use fakeaws::{BucketSpec, Cadence, FakeClock, ObjectSpec, PublicKey, Trail, World};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::recipe::{Key, Made, Object, Recipe, Twist, gunzip};

/// What is asked for: a bucket, and who writes into it.
pub type Wanted = (String, Vec<Recipe>);

/// Everything that was asked for, by `tests/fakeaws`.
pub fn fakeaws(wanted: &[Wanted]) -> Vec<Made> {
    let made = |(bucket, recipes): &Wanted| {
        let world = World::new(FakeClock::fixed_at(recipes[0].start));
        world.add_bucket(BucketSpec::new(bucket, "111111111111", "us-east-1"));
        recipes.iter().for_each(|recipe| Delivered::new(&world, bucket, recipe).write());
        let regions: BTreeSet<_> = recipes.iter().map(|recipe| &recipe.region).collect();
        let keys = regions.into_iter().flat_map(|region| {
            let keys = world.public_keys(region, Timestamp::MIN, Timestamp::MAX);
            keys.into_iter().map(|key| shown(region, &key))
        });
        let objects = world.keys(bucket, "").into_iter().map(|key| {
            let object = world.object(bucket, &key).expect("it was listed");
            (key, Object { body: object.body.bytes().to_vec(), metadata: object.metadata.clone() })
        });
        Made { bucket: bucket.clone(), objects: objects.collect(), keys: keys.collect() }
    };
    wanted.iter().map(made).collect()
}

fn shown(region: &str, key: &PublicKey) -> Key {
    let (fingerprint, value) = (key.fingerprint.clone(), BASE64.encode(&key.der));
    Key { region: region.to_owned(), fingerprint, value, from: key.valid_from, until: key.valid_until }
}

/// A trail that fakeaws delivered, about to get its twist.
struct Delivered<'a> {
    world: &'a World,
    bucket: &'a str,
    recipe: &'a Recipe,
    /// The keys of its digests, the first hour first.
    digests: Vec<String>,
    /// For [`Twist::Spki`].
    spki: Option<SigningKey>,
}

impl<'a> Delivered<'a> {
    fn new(world: &'a World, bucket: &'a str, recipe: &'a Recipe) -> Self {
        let trail = Trail {
            bucket: bucket.to_owned(),
            prefix: recipe.prefix.clone(),
            organization: recipe.organization.clone(),
            accounts: vec![recipe.account.clone()],
            regions: vec![recipe.region.clone()],
            trail_name: recipe.trail.clone(),
            home_region: recipe.home.clone(),
            since: recipe.start,
            // Trails that differ in nothing but their region are different trails.
            seed: recipe.region.bytes().map(u64::from).sum(),
            cadences: vec![Cadence { every: 600, files: (1, 1), ..Cadence::default() }],
            ..Trail::default()
        };
        let delivered = trail.deliver_until(world, recipe.start + SignedDuration::from_hours(recipe.hours + 2));
        let is_digest = |key: &&String| key.contains("/CloudTrail-Digest/");
        let keys: Vec<_> = delivered.into_iter().map(|delivery| delivery.key).collect();
        let mut digests: Vec<_> = keys.iter().filter(is_digest).cloned().collect();
        let late = digests.split_off(usize::try_from(recipe.hours).expect("few"));
        // The world ends with the last digest: what came after it is taken away.
        late.iter().for_each(|key| _ = world.delete_object(bucket, key));
        let of_this = Self { world, bucket, recipe, digests, spki: None };
        let logs = of_this.digests.iter().flat_map(|key| of_this.read(key).log_files);
        let named: BTreeSet<_> = logs.map(|log| log.object).collect();
        let unnamed = keys.iter().filter(|key| !is_digest(key) && !named.contains(*key));
        unnamed.for_each(|key| _ = world.delete_object(bucket, key));
        of_this
    }

    fn read(&self, key: &str) -> Digest {
        let body = self.world.body(self.bucket, key).expect("a digest");
        serde_json::from_slice(&gunzip(&body)).expect("a digest")
    }

    fn write(mut self) {
        let Some(twist) = self.recipe.twist else { return };
        if twist == Twist::Spki {
            self.spki = Some(self.published_otherwise());
        }
        let (mut link, mut replacement) = (None, None);
        for (hour, key) in (1..).zip(self.digests.clone()) {
            let (digest, before) = (self.read(&key), link.clone());
            link = self.twisted(twist, hour, digest, link);
            if twist == (Twist::Replaced { hour }) {
                replacement = Some((self.read(&key), before));
            }
        }
        if let Some((mut digest, before)) = replacement {
            digest.log_files.remove(0);
            self.sign(digest.after(before.as_ref()));
        }
        if let Twist::Backfill { hour } = twist {
            self.backfill(hour);
        }
    }

    /// Signs the digest of an hour anew, with what the twist makes of it.
    fn twisted(&self, twist: Twist, hour: i64, mut digest: Digest, link: Option<Link>) -> Option<Link> {
        let mut previous = link.clone();
        match twist {
            Twist::Quiet { hour: at } if at == hour => self.drop_logs(&mut digest, |_| false),
            Twist::Begins { hour: at } if at == hour => previous = None,
            Twist::Stop { hour: at } if at == hour => self.cut_short(&mut digest),
            Twist::Stop { hour: at } if at + 1 == hour => {
                self.drop_logs(&mut digest, |_| false);
                self.world.delete_object(self.bucket, &digest.object);
                return None;
            }
            Twist::WrongHash { hour: at } if at == hour => {
                previous.as_mut().expect("a link").hash = "0".repeat(64);
            }
            Twist::BogusAlgorithm { hour: at } if at == hour => {
                "MD5".clone_into(&mut digest.log_files[0].hash_algorithm);
            }
            Twist::Foreign { hour: at } if at == hour => {
                let key = SigningKey::fresh(self.recipe.start);
                return Some(digest.after(previous.as_ref()).put(self.world, &key, self.recipe.start));
            }
            _ => {}
        }
        Some(self.sign(digest.after(previous.as_ref())))
    }

    fn sign(&self, digest: Digest) -> Link {
        let end: Timestamp = digest.digest_end_time.parse().expect("a time");
        match &self.spki {
            Some(key) => digest.put(self.world, key, end),
            None => digest.put(self.world, &SigningKey::of(&self.recipe.region, end), end),
        }
    }

    /// Takes logs away, and out of their digest.
    fn drop_logs(&self, digest: &mut Digest, keep: impl Fn(usize) -> bool) {
        let logs = std::mem::take(&mut digest.log_files).into_iter().enumerate();
        let (kept, dropped): (Vec<_>, Vec<_>) = logs.partition(|(number, _)| keep(*number));
        dropped.iter().for_each(|(_, log)| _ = self.world.delete_object(self.bucket, &log.object));
        digest.log_files = kept.into_iter().map(|(_, log)| log).collect();
    }

    /// Ends a digest after twenty minutes.
    fn cut_short(&self, digest: &mut Digest) {
        self.world.delete_object(self.bucket, &digest.object);
        let start: Timestamp = digest.digest_start_time.parse().expect("a time");
        let end = start + SignedDuration::from_mins(20);
        let (head, _) = digest.object.rsplit_once('_').expect("a name");
        digest.object = format!("{head}_{}.json.gz", end.strftime("%Y%m%dT%H%M%SZ"));
        digest.digest_end_time = end.to_string();
        self.drop_logs(digest, |number| number == 0);
    }

    /// One log of the hour is named by a digest of its own, made nine days later.
    fn backfill(&self, hour: i64) {
        let digest = self.read(&self.digests[usize::try_from(hour).expect("few") - 1]);
        let made = self.recipe.start + SignedDuration::from_hours(9 * 24);
        let mut late = digest.clone();
        let mut log = digest.log_files[0].clone();
        let object = self.world.object(self.bucket, &log.object).expect("a log");
        log.object = log.object.replace(".json.gz", "late.json.gz");
        self.world.put_object(self.bucket, &log.object, ObjectSpec::log(object.body.bytes()));
        late.log_files = vec![log];
        late.object = digest.object.replace(".json.gz", "_backfill.json.gz");
        let key = SigningKey::of(&self.recipe.region, made);
        self.world.add_public_key(&self.recipe.region, key.public.clone());
        let link = late.after(None).put(self.world, &key, made);
        let stored = self.world.object(self.bucket, &link.object).expect("a digest");
        let object = stored
            .metadata
            .iter()
            .fold(ObjectSpec::log(stored.body.bytes()), |object, (name, value)| object.metadata(name, value));
        let object = object.metadata("backfill-generation-timestamp", &made.to_string());
        self.world.put_object(self.bucket, &link.object, object);
    }

    /// A key of its own that is published as `SubjectPublicKeyInfo`.
    fn published_otherwise(&self) -> SigningKey {
        let mut key = SigningKey::fresh(self.recipe.start);
        let (from, until) = (key.public.valid_from, key.public.valid_until);
        key.public = PublicKey::new(spki(&key.public.der), from, until);
        self.world.add_public_key(&self.recipe.region, key.public.clone());
        key
    }
}

/// `SubjectPublicKeyInfo` around a PKCS#1 key of 2,048 bits.
fn spki(pkcs1: &[u8]) -> Vec<u8> {
    const ALGORITHM: [u8; 15] = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 1, 5, 0];
    let sized = |tag: u8, length: usize| {
        let [high, low] = u16::try_from(length).expect("short").to_be_bytes();
        [tag, 0x82, high, low]
    };
    let bits = [&sized(3, pkcs1.len() + 1)[..], &[0], pkcs1].concat();
    [&sized(0x30, ALGORITHM.len() + bits.len())[..], &ALGORITHM, &bits].concat()
}

#[derive(Deserialize)]
struct Written {
    objects: BTreeMap<String, WrittenObject>,
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct WrittenObject {
    body: String,
    metadata: BTreeMap<String, String>,
}

/// Everything that was asked for, by `generator.py`.
pub fn python(programs: &Path, wanted: &[Wanted]) -> Vec<Made> {
    let script: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/verify_witness/generator.py"].iter().collect();
    let mut child = Command::new(programs.join("python"))
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let asked: Vec<Value> =
        wanted.iter().map(|(bucket, recipes)| json!({"bucket": bucket, "recipes": recipes})).collect();
    let mut into = child.stdin.take().expect("piped");
    into.write_all(Value::from(asked).to_string().as_bytes()).expect("read");
    drop(into);
    let done = child.wait_with_output().expect("it ends");
    assert!(done.status.success(), "generator.py: {}", done.status);
    let written: Vec<Written> = serde_json::from_slice(&done.stdout).expect("JSON");
    let object =
        |object: WrittenObject| Object { body: BASE64.decode(object.body).expect("base64"), metadata: object.metadata };
    let made = |(bucket, written): (&String, Written)| Made {
        bucket: bucket.clone(),
        objects: written.objects.into_iter().map(|(key, written)| (key, object(written))).collect(),
        keys: written.keys,
    };
    wanted.iter().map(|(bucket, _)| bucket).zip(written).map(made).collect()
}
