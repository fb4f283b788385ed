//! Whether a digest can be believed: by its own signature, else by the one that the next digest quotes.

use super::arrival::{Arrival, tail};
use super::finding::Verdict;
use crate::digest::{Digest, Doubt, Link};
use crate::public_keys::PublicKeys;

/// The keys of a region.
pub enum Keys {
    /// They are here.
    Here(PublicKeys),
    /// There is a file, but it is damaged; that was reported.
    Damaged,
    /// There is no file.
    Absent,
}

/// A digest that waits for the next one of its chain.
pub struct Held {
    /// As it was read.
    pub arrival: Arrival,
    /// Whether its own signature holds.
    pub own: Result<(), Doubt>,
    /// It is outside of what is to be verified, and only shows what is around it.
    pub quiet: bool,
}

/// What is said of a digest.
pub struct Settled {
    /// Of the digest itself.
    pub verdict: Verdict,
    /// Why, unless it is valid.
    pub detail: String,
    /// Of its metadata, where something is wrong with them.
    pub metadata: Option<(Verdict, String)>,
    /// Its signature.
    pub signature: Option<Vec<u8>>,
}

impl Held {
    /// Checks an arrival's own signature.
    pub fn new(arrival: Arrival, keys: &Keys, quiet: bool) -> Self {
        let signature = arrival.signature.as_deref().unwrap_or_default();
        let own = verify(&arrival, signature, keys);
        Self { arrival, own, quiet }
    }

    /// What this digest says of the one before it.
    pub fn link(&self) -> Option<&Link> {
        self.arrival.document.as_ref().ok()?.digest.previous.as_ref()
    }

    /// Settles what is said of this digest, with the next one of its chain where there is one.
    pub fn settle(&self, heir: Option<&Held>, keys: &Keys) -> Settled {
        let mut settled = self.by_signatures(heir, keys);
        if settled.metadata.is_none() && self.arrival.metadata_changed {
            let why = "its metadata are not in the form in which they were written".to_owned();
            settled.metadata = Some((Verdict::Altered, why));
        }
        settled
    }

    fn by_signatures(&self, heir: Option<&Held>, keys: &Keys) -> Settled {
        let trouble = self.arrival.signature.as_ref().err().cloned();
        let document = match &self.arrival.document {
            Ok(document) => document,
            Err((verdict, why)) => return settled(*verdict, why, trouble),
        };
        if self.own.is_ok() {
            let signature = self.arrival.signature.as_ref().ok().cloned();
            return Settled { signature, ..settled(Verdict::Valid, "", None) };
        }
        let link = heir.and_then(|heir| heir.link().map(|link| (heir, link)));
        let link = link.filter(|(_, link)| tail(&link.origin.key) == tail(&self.arrival.key));
        if let Some((_, link)) = link
            && verify(&self.arrival, &link.signature, keys).is_ok()
        {
            let (verdict, why) =
                trouble.unwrap_or((Verdict::Altered, "the signature in its metadata is not its own".into()));
            let metadata = Some((verdict, format!("{why}; the next digest quotes its signature, and that holds")));
            return Settled { signature: Some(link.signature.clone()), ..settled(Verdict::Valid, "", metadata) };
        }
        if let Some((heir, link)) = link
            && heir.own.is_ok()
            && link.hash != document.hash
        {
            let why = format!("the next digest, {}, names another hash", heir.arrival.key);
            return settled(Verdict::Altered, &why, trouble);
        }
        self.doubted(&document.digest, trouble)
    }

    /// Nothing but its own metadata speaks for it, and that is not enough.
    fn doubted(&self, digest: &Digest, trouble: Option<(Verdict, String)>) -> Settled {
        let unproven = |metadata| settled(Verdict::Unknown, "nothing that is whole speaks for it", metadata);
        match &self.own {
            Err(Doubt::UnknownKey(_)) => {
                let why = format!("it was signed with the key {}, which is not here", digest.fingerprint);
                settled(Verdict::UnknownKey, &why, trouble)
            }
            _ if trouble.is_some() => unproven(trouble),
            Err(Doubt::Signature) if self.arrival.metadata_changed => {
                unproven(Some((Verdict::Altered, "its metadata changed, and with them the signature".into())))
            }
            Err(doubt) => settled(Verdict::BadSignature, &doubt.to_string(), None),
            Ok(()) => settled(Verdict::Valid, "", None),
        }
    }
}

fn settled(verdict: Verdict, detail: &str, metadata: Option<(Verdict, String)>) -> Settled {
    Settled { verdict, detail: detail.to_owned(), metadata, signature: None }
}

fn verify(arrival: &Arrival, signature: &[u8], keys: &Keys) -> Result<(), Doubt> {
    let Ok(document) = &arrival.document else { return Err(Doubt::Signature) };
    let digest = &document.digest;
    let key = match keys {
        Keys::Here(keys) => keys.of(&digest.fingerprint, digest.key_window(arrival.backfilled_at)),
        Keys::Damaged | Keys::Absent => None,
    };
    digest.verify(&document.hash, signature, arrival.backfilled_at, key)
}
