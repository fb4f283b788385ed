//! The public halves of the keys that sign digests, by region.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::object::md5_hex;

/// One key as `ListPublicKeys` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    /// PKCS#1 `RSAPublicKey`, DER.
    pub der: Vec<u8>,
    pub valid_from: Timestamp,
    pub valid_until: Timestamp,
    /// Lower-case hexadecimal MD5 of the DER bytes.
    pub fingerprint: String,
}

impl PublicKey {
    pub fn new(der: Vec<u8>, valid_from: Timestamp, valid_until: Timestamp) -> PublicKey {
        PublicKey { fingerprint: md5_hex(&der), der, valid_from, valid_until }
    }
}

/// Keys live in the region whose digests they sign, and nowhere else.
#[derive(Debug, Default)]
pub(crate) struct PublicKeys(BTreeMap<String, Vec<PublicKey>>);

impl PublicKeys {
    pub fn add(&mut self, region: &str, key: PublicKey) {
        let keys = self.0.entry(region.to_owned()).or_default();
        if !keys.contains(&key) {
            keys.push(key);
        }
    }

    pub fn remove(&mut self, region: &str) {
        self.0.remove(region);
    }

    pub fn valid_between(&self, region: &str, from: Timestamp, to: Timestamp) -> Vec<PublicKey> {
        let keys = self.0.get(region).map_or(&[][..], Vec::as_slice);
        let overlaps = |key: &&PublicKey| key.valid_from <= to && key.valid_until >= from;
        keys.iter().filter(overlaps).cloned().collect()
    }
}
