//! Public keys: asked for with our own credentials, kept, and exported beside the copy.

#[path = "support/account.rs"]
mod account;

use std::sync::Arc;

use account::{B, REGION, Shared};
use fakeaws::digests::SigningKey;
use fakeaws::{Fault, Op, policies};
use trailsync::clock::{Timestamp, shift};
use trailsync::destination::memory::Memory;
use trailsync::keyring::{CloudTrail, Found, Keyring};
use trailsync::ledger::Ledger;
use trailsync::public_keys::PublicKeys;

const DAY: i64 = 86_400;

/// A keyring of B's in front of CloudTrail, and what it writes to.
struct Bench {
    shared: Shared,
    ledger: Ledger,
    copy: Memory,
    keyring: Keyring,
    now: Timestamp,
}

impl Bench {
    async fn new() -> Self {
        let shared = Shared::own_logs().await;
        let ledger = Ledger::in_memory().await.unwrap();
        let keyring = keyring(&shared, &ledger);
        let now = "2026-03-10T12:00:00Z".parse().unwrap();
        let bench = Self { shared, ledger, copy: Memory::new(), keyring, now };
        bench.allow(true);
        bench
    }

    fn allow(&self, allowed: bool) {
        let role = &self.shared.role;
        let policy =
            if allowed { policies::assume_role_and_list_public_keys(role) } else { policies::assume_role(role) };
        assert!(self.shared.world.set_user_policy(&format!("arn:aws:iam::{B}:user/mirror"), policy));
    }

    /// Publishes the key that signs at a time, and gives its fingerprint.
    fn publish(&self, region: &str, at: Timestamp) -> String {
        let key = SigningKey::of(region, at).public.clone();
        self.shared.world.add_public_key(region, key.clone());
        key.fingerprint
    }

    fn asked(&self) -> u64 {
        self.shared.world.counters().total(Op::ListPublicKeys)
    }

    async fn tend(&self, region: &str) {
        self.keyring.tend(&self.copy, region, self.now).await.unwrap();
    }

    async fn find(&self, region: &str, fingerprint: &str, at: Timestamp) -> Found {
        self.keyring.find(&self.copy, region, fingerprint, (at, shift(at, 3600)), self.now).await.unwrap()
    }

    fn exported(&self, region: &str) -> Vec<String> {
        let bytes = self.copy.kept(&format!("public-keys/{region}.json"));
        let keys = bytes.map(|bytes| PublicKeys::parse(&bytes).unwrap());
        keys.iter().flat_map(|keys| keys.all()).map(|key| key.fingerprint.clone()).collect()
    }
}

fn keyring(shared: &Shared, ledger: &Ledger) -> Keyring {
    let source = shared.source("", "");
    let http = shared.process().http.get(&source.endpoints).unwrap();
    let service = CloudTrail::new(&source.endpoints, shared.keeper(&source), http);
    Keyring::new("acme", REGION, Arc::new(service), ledger.clone())
}

#[tokio::test]
async fn keys_are_fetched_when_a_region_is_first_seen_then_daily_and_stand_beside_the_copy() {
    let mut bench = Bench::new().await;
    let old = bench.publish(REGION, shift(bench.now, -20 * DAY));
    bench.tend(REGION).await;
    bench.tend(REGION).await;
    assert_eq!((bench.asked(), bench.exported(REGION)), (1, vec![old.clone()]));

    let newer = bench.publish(REGION, shift(bench.now, 10 * DAY));
    for _ in 0..20 {
        bench.now = shift(bench.now, DAY);
        bench.tend(REGION).await;
    }
    let mut both = vec![old, newer];
    both.sort_unstable();
    assert_eq!((bench.asked(), bench.exported(REGION)), (21, both));
    assert_eq!(bench.shared.world.counters().total(Op::AssumeRole), 0, "our own credentials are enough");
}

#[tokio::test]
async fn a_key_that_a_digest_names_is_asked_for_by_its_time_and_not_again_for_its_siblings() {
    let bench = Bench::new().await;
    let years_ago = shift(bench.now, -700 * DAY);
    let old = bench.publish(REGION, years_ago);
    bench.tend(REGION).await;
    assert!(bench.exported(REGION).is_empty());
    let Found::Key(key) = bench.find(REGION, &old, years_ago).await else { panic!() };
    assert_eq!((key.fingerprint, bench.exported(REGION)), (old.clone(), vec![old.clone()]));
    assert_eq!(bench.find(REGION, "00112233", years_ago).await, Found::Unknown);
    assert_eq!(bench.asked(), 2, "the answer for a day holds for an hour");
    let again = keyring(&bench.shared, &bench.ledger);
    let window = (years_ago, years_ago);
    assert!(matches!(again.find(&bench.copy, REGION, &old, window, bench.now).await.unwrap(), Found::Key(_)));
    assert_eq!(bench.asked(), 2, "after a restart it is still here");
}

#[tokio::test]
async fn without_the_permission_it_waits_says_which_and_goes_on_once_it_is_granted() {
    let mut bench = Bench::new().await;
    bench.allow(false);
    let key = bench.publish(REGION, bench.now);
    bench.tend(REGION).await;
    assert_eq!(bench.find(REGION, &key, bench.now).await, Found::Waits);
    assert_eq!(bench.asked(), 1, "a denied request rests");
    let row = bench.ledger.key_requests().await.unwrap().remove(0);
    assert!(
        row.error
            .unwrap()
            .contains("allow `the base credentials' user or role` the action `cloudtrail:ListPublicKeys`")
    );
    assert_eq!((row.error_code.as_deref(), row.failing_since), (Some("AccessDeniedException"), Some(bench.now)));

    bench.allow(true);
    bench.now = shift(bench.now, 600);
    assert!(matches!(bench.find(REGION, &key, bench.now).await, Found::Key(_)));
    assert_eq!(bench.ledger.key_requests().await.unwrap()[0].error, None);
}

#[tokio::test]
async fn a_failing_service_is_asked_again_later_each_time() {
    let mut bench = Bench::new().await;
    bench.shared.world.faults().inject(Fault::ServiceUnavailable).on(Op::ListPublicKeys).always();
    let start = bench.now;
    while bench.asked() < 6 {
        bench.tend(REGION).await;
        bench.now = shift(bench.now, 1);
    }
    let waited = bench.now.as_second() - start.as_second();
    assert!((60..=200).contains(&waited), "{waited} s for six questions");
}

#[tokio::test]
async fn a_hostile_folder_never_becomes_part_of_a_host() {
    let bench = Bench::new().await;
    for region in ["evil.example/", "..", "", "us-gov-west-1", "eu-west-1.evil.example"] {
        bench.tend(region).await;
        assert_eq!(bench.find(region, "00", bench.now).await, Found::Unknown);
    }
    assert_eq!(bench.asked(), 0);
}

#[tokio::test]
async fn an_export_that_is_written_again_forgets_no_key() {
    let bench = Bench::new().await;
    bench.publish(REGION, bench.now);
    bench.tend(REGION).await;
    let first = bench.exported(REGION);
    bench.shared.world.remove_public_keys(REGION);
    bench.publish(REGION, shift(bench.now, -60 * DAY));
    let other = keyring(&bench.shared, &Ledger::in_memory().await.unwrap());
    let window = (shift(bench.now, -60 * DAY), shift(bench.now, -60 * DAY));
    other.find(&bench.copy, REGION, "00", window, bench.now).await.unwrap();
    let both = bench.exported(REGION);
    assert!(both.len() == 2 && both.contains(&first[0]));
}
