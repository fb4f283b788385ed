//! Whether a destination is the one that holds what the state says: an id in both, kept at first use.

use crate::destination::Destination;
use crate::error::{Class, Error, Report};
use crate::ledger::Ledger;

/// The name of the file with the id, below `.trailsync/`.
const NAME: &str = "id";

/// What is to be done about the two ids.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// They are one.
    Same,
    /// The destination has one that the state is to remember.
    Remember(String),
    /// Neither has one that counts.
    New,
    /// The copies are elsewhere, and why that is known.
    Elsewhere(String),
}

/// Decides by the id that the destination keeps, the one that the state remembers, whether the state has objects of
/// the source, and whether the destination holds anything.
fn judge(kept: Option<&str>, remembered: Option<&str>, recorded: bool, holds: bool) -> Verdict {
    match (kept, remembered) {
        (Some(kept), Some(remembered)) if kept == remembered => Verdict::Same,
        (Some(kept), Some(remembered)) if recorded => Verdict::Elsewhere(format!(
            "its `.trailsync/id` is {kept}, and the copies of this source are in {remembered}"
        )),
        (None, Some(remembered)) if recorded => {
            Verdict::Elsewhere(format!("it has no `.trailsync/id`; that of the copies of this source is {remembered}"))
        }
        (Some(kept), _) => Verdict::Remember(kept.to_owned()),
        // From before there were ids: a tree that holds nothing is not where the copies are.
        (None, None) if recorded && !holds => Verdict::Elsewhere("it is empty".to_owned()),
        (None, _) => Verdict::New,
    }
}

/// Makes sure that a destination is where the copies of a source are; a first one gets an id. `holds` says whether
/// anything of ours stands there.
///
/// # Errors
/// `Stream` with the reason and the mend when the copies are elsewhere; otherwise those of destination and ledger.
pub async fn check<D: Destination>(
    source: &str,
    shown: &str,
    destination: &D,
    holds: bool,
    ledger: &Ledger,
) -> Result<(), Error> {
    let kept = destination.recall(NAME).await?.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    let remembered = ledger.destination_id(source).await?;
    let recorded = ledger.has_objects(source).await?;
    match judge(kept.as_deref(), remembered.as_deref(), recorded, holds) {
        Verdict::Same => Ok(()),
        Verdict::Remember(id) => ledger.save_destination_id(source, &id).await,
        Verdict::New => {
            let id = format!("{:032x}", fastrand::u128(..));
            destination.keep(NAME, format!("{id}\n").into_bytes()).await?;
            ledger.save_destination_id(source, &id).await
        }
        Verdict::Elsewhere(why) => Err(elsewhere(source, shown, &why)),
    }
}

fn elsewhere(source: &str, shown: &str, why: &str) -> Error {
    let why = format!("it is not where the copies of `{source}` are: {why}");
    let mend = format!(
        "mount it, or set `source.{source}.destination` back; when the copies are lost, `trailsync rebuild --set-aside` \
         begins with what is there"
    );
    Error::of(Class::Stream, Report::new("open", shown, why).code("OtherDestination").mend(mend))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::memory::Memory;

    #[test]
    fn only_a_destination_that_lacks_what_is_recorded_is_refused() {
        let refused = |kept, remembered, recorded, holds| {
            matches!(judge(kept, remembered, recorded, holds), Verdict::Elsewhere(_))
        };
        assert_eq!(judge(Some("a"), Some("a"), true, true), Verdict::Same);
        assert!(refused(Some("b"), Some("a"), true, true), "another tree");
        assert!(refused(None, Some("a"), true, true), "a tree of before, or of somebody else");
        assert!(refused(None, None, true, false), "an empty one");
        assert_eq!(judge(Some("b"), Some("a"), false, true), Verdict::Remember("b".into()));
        assert_eq!(judge(Some("b"), None, true, true), Verdict::Remember("b".into()));
        assert_eq!(judge(None, None, true, true), Verdict::New, "from before there were ids");
        assert_eq!(judge(None, Some("a"), false, false), Verdict::New);
    }

    #[tokio::test]
    async fn a_destination_gets_an_id_once_and_keeps_it() {
        let (memory, ledger) = (Memory::default(), Ledger::in_memory().await.unwrap());
        check("prod", "memory", &memory, false, &ledger).await.unwrap();
        let id = memory.kept(NAME).unwrap();
        assert_eq!(ledger.destination_id("prod").await.unwrap().unwrap(), String::from_utf8_lossy(&id).trim());
        check("prod", "memory", &memory, true, &ledger).await.unwrap();
        assert_eq!(memory.kept(NAME).unwrap(), id);
    }
}
