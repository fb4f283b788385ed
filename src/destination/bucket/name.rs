//! The key of a copy in a bucket of our own: injective, reversible, under our prefix.
//!
//! Keys of logs keep themselves. Only what would fall into our own folder, and what stands beside a first version,
//! goes elsewhere:
//!
//! | what | its key, after the prefix |
//! | --- | --- |
//! | the first version of `<key>` | `<key>` |
//! | the same, when `<key>` starts with `.trailsync/` | `.trailsync/objects/<key>` |
//! | a later version | `.trailsync/versions/<16 hexadecimal digits>/<key>` |
//! | a small file of our own | `.trailsync/<name>` |
//!
//! Nothing is escaped and nothing hashed: S3 takes any UTF-8 of up to 1,024 bytes as a key. The folders `objects` and
//! `versions` are never names of our own files, so no two of these rules give the same key.

use crate::destination::Place;
use crate::path::is_version;

/// The folder of what is our own.
pub const OWN: &str = ".trailsync/";
/// The folder of copies whose keys look like our own.
pub const OBJECTS: &str = ".trailsync/objects/";
/// The folder of later versions.
pub const VERSIONS: &str = ".trailsync/versions/";
/// Longest key that S3 takes, in bytes.
pub const KEY_BYTES: usize = 1024;

/// What a key under our prefix stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// A copy.
    Copy(Place),
    /// A small file of our own.
    Own(String),
    /// Nothing that this program puts there.
    Foreign,
}

/// The key of a copy; `None` when its version is none.
pub fn of(prefix: &str, place: &Place) -> Option<String> {
    let Place { key, version } = place;
    match version {
        None if key.starts_with(OWN) => Some(format!("{prefix}{OBJECTS}{key}")),
        None => Some(format!("{prefix}{key}")),
        Some(version) if is_version(version) => Some(format!("{prefix}{VERSIONS}{version}/{key}")),
        Some(_) => None,
    }
}

/// The key of a small file of our own; `None` when the name is taken by a folder of copies.
pub fn of_own(prefix: &str, name: &str) -> Option<String> {
    let reserved = matches!(name.split('/').next(), Some("objects" | "versions"));
    (!reserved).then(|| format!("{prefix}{OWN}{name}"))
}

/// What a key stands for; whatever the rules above never give is foreign.
pub fn identify(prefix: &str, key: &str) -> Named {
    let Some(rest) = key.strip_prefix(prefix) else { return Named::Foreign };
    let copy = |key: &str, version: Option<&str>| Place { key: key.to_owned(), version: version.map(str::to_owned) };
    let place = if let Some(key) = rest.strip_prefix(OBJECTS) {
        copy(key, None)
    } else if let Some((version, key)) = rest.strip_prefix(VERSIONS).and_then(|rest| rest.split_once('/')) {
        copy(key, Some(version))
    } else if let Some(name) = rest.strip_prefix(OWN) {
        return if name.is_empty() { Named::Foreign } else { Named::Own(name.to_owned()) };
    } else {
        copy(rest, None)
    };
    // One rule instead of many: whatever is not written the one canonical way is not ours.
    let canonical = !place.key.is_empty() && of(prefix, &place).as_deref() == Some(key);
    if canonical { Named::Copy(place) } else { Named::Foreign }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(key: &str, version: Option<&str>) -> Place {
        Place { key: key.to_owned(), version: version.map(str::to_owned) }
    }

    #[test]
    fn keys_keep_themselves_and_only_what_would_be_ours_is_set_apart() {
        let version = Some("0123456789abcdef");
        for (key, version, name) in [
            ("AWSLogs/1/x.json.gz", None, "p/AWSLogs/1/x.json.gz"),
            ("../\n\u{202e}//", None, "p/../\n\u{202e}//"),
            (".trailsync/manifests/x", None, "p/.trailsync/objects/.trailsync/manifests/x"),
            (".trailsync/objects/x", None, "p/.trailsync/objects/.trailsync/objects/x"),
            (".trailsync", None, "p/.trailsync"),
            ("a/.trailsync/x", None, "p/a/.trailsync/x"),
            ("a", version, "p/.trailsync/versions/0123456789abcdef/a"),
            (".trailsync/versions/x", version, "p/.trailsync/versions/0123456789abcdef/.trailsync/versions/x"),
        ] {
            let place = place(key, version);
            assert_eq!(of("p/", &place).as_deref(), Some(name));
            assert_eq!(identify("p/", name), Named::Copy(place));
        }
        assert_eq!(of("p/", &place("a", Some("../../../../../x"))), None);
        assert_eq!(of_own("p/", "manifests/a").as_deref(), Some("p/.trailsync/manifests/a"));
        assert_eq!(identify("p/", "p/.trailsync/manifests/a"), Named::Own("manifests/a".to_owned()));
        assert_eq!((of_own("", "objects/a"), of_own("", "versions")), (None, None));
    }

    #[test]
    fn what_no_rule_gives_is_foreign() {
        for key in [
            "q/a",
            "p/",
            "p/.trailsync/",
            "p/.trailsync/objects/a",
            "p/.trailsync/objects/",
            "p/.trailsync/versions/0123456789abcdeF/a",
            "p/.trailsync/versions/0123456789abcdef/",
            "p/.trailsync/versions/x/a",
        ] {
            assert_eq!(identify("p/", key), Named::Foreign, "{key}");
        }
    }
}
