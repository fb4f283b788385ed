//! The public keys with which `CloudTrail` lets digests be verified.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use md5::{Digest as _, Md5};

use crate::clock::Timestamp;

/// A public key as `ListPublicKeys` gives it. Keys belong to one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// The key in DER: PKCS#1 `RSAPublicKey`, or `SubjectPublicKeyInfo`.
    pub der: Vec<u8>,
    /// MD5 of these bytes in lower-case hexadecimal, as digests name it.
    pub fingerprint: String,
    /// When it began to be valid.
    pub valid_from: Timestamp,
    /// When it ceased to be.
    pub valid_until: Timestamp,
}

/// Why a key is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its bytes are others than those whose fingerprint it has.
    #[error("its fingerprint is {0}, that of its bytes {1}")]
    Fingerprint(String, String),
    /// It would have to end before it began.
    #[error("it is valid from {0} to {1}")]
    Validity(Timestamp, Timestamp),
}

impl PublicKey {
    /// A key whose fingerprint is that of its bytes.
    ///
    /// # Errors
    /// When it is not, or the key was never valid.
    pub fn new(der: Vec<u8>, fingerprint: &str, from: Timestamp, until: Timestamp) -> Result<Self, Refused> {
        let own = hex::encode(Md5::digest(&der));
        if !own.eq_ignore_ascii_case(fingerprint) {
            return Err(Refused::Fingerprint(fingerprint.to_owned(), own));
        }
        if until < from {
            return Err(Refused::Validity(from, until));
        }
        Ok(Self { der, fingerprint: own, valid_from: from, valid_until: until })
    }

    /// It was valid at some moment from the first time to the second.
    pub fn was_valid_in(&self, (from, to): (Timestamp, Timestamp)) -> bool {
        self.valid_from <= to && from <= self.valid_until
    }

    /// The signature is this key's over `text`: RSA PKCS#1 v1.5 with SHA-256, 2,048 bits or more, and nothing else.
    pub fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.der).verify(text.as_bytes(), signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding};
    use proptest::prelude::*;

    use super::*;

    fn sign(pair: &KeyPair, how: &'static dyn RsaEncoding) -> Vec<u8> {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(how, &SystemRandom::new(), b"text", &mut signature).unwrap();
        signature
    }

    fn key(der: &[u8]) -> PublicKey {
        let fingerprint = hex::encode(Md5::digest(der));
        PublicKey::new(der.to_vec(), &fingerprint, Timestamp::MIN, Timestamp::MAX).unwrap()
    }

    #[test]
    fn both_encodings_of_a_key_verify_and_no_other_padding_or_hash_does() {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let pkcs1 = key(pair.public_key().as_ref());
        let spki = key(pair.public_key().as_der().unwrap().as_ref());
        assert_ne!(pkcs1.der, spki.der);
        for key in [pkcs1, spki] {
            assert!(key.verifies("text", &sign(&pair, &RSA_PKCS1_SHA256)));
            assert!(!key.verifies("texT", &sign(&pair, &RSA_PKCS1_SHA256)));
            assert!(!key.verifies("text", &sign(&pair, &RSA_PKCS1_SHA512)));
            assert!(!key.verifies("text", &sign(&pair, &RSA_PSS_SHA256)));
            assert!(!key.verifies("text", b""));
        }
        assert!(!key(b"no key").verifies("text", &sign(&pair, &RSA_PKCS1_SHA256)));
    }

    #[test]
    fn a_key_whose_fingerprint_is_anothers_is_refused() {
        let refused = PublicKey::new(b"der".to_vec(), "00", Timestamp::MIN, Timestamp::MAX).unwrap_err();
        let own = hex::encode(Md5::digest(b"der"));
        assert_eq!(refused, Refused::Fingerprint("00".into(), own.clone()));
        assert!(PublicKey::new(b"der".to_vec(), &own.to_uppercase(), Timestamp::MIN, Timestamp::MAX).is_ok());
        assert!(PublicKey::new(b"der".to_vec(), &own, Timestamp::MAX, Timestamp::MIN).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_bytes_make_it_panic(der in proptest::collection::vec(any::<u8>(), 0..400), sig in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(!key(&der).verifies("text", &sig));
        }
    }
}
