//! The public keys of one region, as the small file that stands beside the copy.
//!
//! `.trailsync/public-keys/<region>.json` holds all that is needed to verify the digests of that region without a
//! network, years later:
//!
//! ```json
//! {
//!   "version": 1,
//!   "region": "eu-west-1",
//!   "keys": [
//!     {
//!       "fingerprint": "67b9fa73676d86966b449dd677850753",
//!       "der": "MIIBCgKCAQEA…",
//!       "valid_from": "2026-11-01T00:00:00Z",
//!       "valid_until": "2026-12-01T00:00:00Z"
//!     }
//!   ],
//!   "sha256": "…"
//! }
//! ```
//!
//! `der` is what `ListPublicKeys` gave; the fingerprint is the MD5 of it; keys are sorted by fingerprint and start.
//! `sha256` is over all that precedes the comma before it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::digest::PublicKey;
use crate::own_file::{self, Refused, VERSION};

/// Where all key files stand, below `.trailsync/`.
pub const FOLDER: &str = "public-keys";

/// The keys of one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKeys {
    /// The region whose digests they verify.
    pub region: String,
    keys: Vec<PublicKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    region: String,
    keys: Vec<Key>,
    #[serde(skip_serializing, default, rename = "sha256")]
    _sum: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    fingerprint: String,
    der: String,
    valid_from: Timestamp,
    valid_until: Timestamp,
}

impl PublicKeys {
    /// The keys of a region, in any order; the same key given twice counts once.
    pub fn new(region: &str, mut keys: Vec<PublicKey>) -> Self {
        let order = |key: &PublicKey| (key.fingerprint.clone(), key.valid_from, key.valid_until);
        keys.sort_by_cached_key(order);
        keys.dedup();
        Self { region: region.to_owned(), keys }
    }

    /// All of them, by fingerprint and start.
    pub fn all(&self) -> &[PublicKey] {
        &self.keys
    }

    /// These and those: an export that is written again never forgets a key.
    pub fn with(mut self, more: impl IntoIterator<Item = PublicKey>) -> Self {
        self.keys.extend(more);
        Self::new(&self.region, self.keys)
    }

    /// The key of this fingerprint: of several the one that was valid then, if any was.
    pub fn of(&self, fingerprint: &str, window: (Timestamp, Timestamp)) -> Option<&PublicKey> {
        let mut named = self.keys.iter().filter(|key| key.fingerprint.eq_ignore_ascii_case(fingerprint));
        let first = named.clone().next();
        named.find(|key| key.was_valid_in(window)).or(first)
    }

    /// The file's bytes: the same for the same keys.
    pub fn render(&self) -> Vec<u8> {
        let key = |key: &PublicKey| Key {
            fingerprint: key.fingerprint.clone(),
            der: BASE64.encode(&key.der),
            valid_from: key.valid_from,
            valid_until: key.valid_until,
        };
        let keys = self.keys.iter().map(key).collect();
        own_file::render(&File { version: VERSION, region: self.region.clone(), keys, _sum: String::new() })
    }

    /// Reads a file; one flipped bit anywhere in it is noticed.
    ///
    /// # Errors
    /// `Damaged` or `Newer`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let file: File = own_file::parse(bytes)?;
        let keys = file.keys.into_iter().map(Key::checked).collect::<Result<_, _>>()?;
        Ok(Self::new(&file.region, keys))
    }
}

impl Key {
    fn checked(self) -> Result<PublicKey, Refused> {
        let damaged = |why: &dyn std::fmt::Display| Refused::Damaged(format!("key {}: {why}", self.fingerprint));
        let der = BASE64.decode(&self.der).map_err(|error| damaged(&error))?;
        PublicKey::new(der, &self.fingerprint, self.valid_from, self.valid_until).map_err(|error| damaged(&error))
    }
}

/// The name of a region's file, below `.trailsync/`. The region is a folder's name that somebody else chose.
pub fn file_name(region: &str) -> String {
    own_file::name(FOLDER, region)
}

#[cfg(test)]
mod tests {
    use md5::{Digest as _, Md5};

    use super::*;

    fn key(der: &[u8], from: i64) -> PublicKey {
        let fingerprint = hex::encode(Md5::digest(der));
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        PublicKey::new(der.to_vec(), &fingerprint, at(from), at(from + 100)).unwrap()
    }

    #[test]
    fn keys_come_back_in_one_order_each_once() {
        let (one, two) = (key(b"one", 0), key(b"two", 50));
        let keys = PublicKeys::new("eu-west-1", vec![two.clone(), one.clone(), two.clone()]);
        assert_eq!(keys.all().len(), 2);
        assert_eq!(keys, PublicKeys::new("eu-west-1", vec![one.clone()]).with([two, one]));
        assert_eq!(PublicKeys::parse(&keys.render()), Ok(keys.clone()));
        let empty = PublicKeys::new("x", Vec::new());
        assert_eq!(PublicKeys::parse(&empty.render()), Ok(empty));
    }

    #[test]
    fn any_flipped_bit_of_the_file_is_noticed() {
        let bytes = PublicKeys::new("eu-west-1", vec![key(b"one", 0), key(b"two", 50)]).render();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(PublicKeys::parse(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn of_one_fingerprint_the_key_that_was_valid_then_is_taken() {
        let (early, late) = (key(b"one", 0), key(b"one", 1_000));
        let keys = PublicKeys::new("x", vec![early.clone(), late.clone()]);
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert_eq!(keys.of(&late.fingerprint, (at(1_050), at(1_060))), Some(&late));
        assert_eq!(keys.of(&late.fingerprint, (at(5_000), at(5_001))), Some(&early));
        assert_eq!(keys.of("00", (at(0), at(1))), None);
    }
}
