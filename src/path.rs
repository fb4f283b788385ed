//! A key's path in the tree: injective, reversible, inside the root.
//!
//! Real log keys keep their path, byte for byte. Whatever else another account invents becomes a path too,
//! by these rules, each of which can be undone:
//!
//! | in the key | in the tree |
//! | --- | --- |
//! | `/` | the next name |
//! | printable ASCII but `%` and `\`; letters and digits of any script | as it is |
//! | any other byte, and a `.` that starts a name | `%XX` |
//! | nothing between two slashes | `%_empty` |
//! | a last component without a log's extension | `…%_file` |
//! | an earlier component with one | `…%_dir` |
//! | a component too long for a name | `…%_more/…` |
//!
//! An escape is `%` and two upper-case hexadecimal digits, so no key can produce the markers `%_…`. The
//! names of files and of directories are disjoint: no key's path is a prefix of another's, and both `a` and
//! `a/b` can be stored in any order. No name starts with a dot: `.`, `..` and our own `.trailsync` never
//! come from a key.
//!
//! Letters are those of the Unicode version that the compiler knows. A later one may store a key under
//! another path that holds characters which were unassigned before; it then stands there twice.

use crate::key::harmless;

/// Extensions whose files keep their plain name, and whose directories therefore do not.
const EXTENSIONS: [&str; 6] = [".gz", ".json", ".txt", ".csv", ".log", ".parquet"];

const EMPTY: &str = "%_empty";
const FILE: &str = "%_file";
const DIRECTORY: &str = "%_dir";
const MORE: &str = "%_more";
const METADATA: &str = "%_meta.json";

/// Longest name that file systems take.
pub const NAME_BYTES: usize = 255;
/// Longest name made of a key: [`NAME_BYTES`] less `%_m<16 digits>.json`, the longest that may be added.
const COMPONENT_BYTES: usize = NAME_BYTES - 24;
/// Longest head of a component that is split.
const HEAD_BYTES: usize = COMPONENT_BYTES - MORE.len();

/// Which of the two files of an object is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The bytes as the source has them.
    Object,
    /// Its user metadata, as JSON.
    Metadata,
}

/// What a path in the tree stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The object's key.
    pub key: String,
    /// The version that stands beside the first, by 16 hexadecimal digits.
    pub version: Option<String>,
    /// The object itself or its metadata.
    pub part: Part,
}

/// The path of a key, relative to the root, names joined by `/`. Total: every key has exactly one.
pub fn encode(key: &str) -> String {
    let mut path = String::with_capacity(key.len() + FILE.len());
    let mut components = key.split('/').peekable();
    while let Some(component) = components.next() {
        let kind = if components.peek().is_some() { Kind::Directory } else { Kind::File };
        push_component(&mut path, component, kind);
    }
    path
}

/// The key whose path this is, or `None` when [`encode`] never gives this path.
pub fn decode(path: &str) -> Option<String> {
    let mut key = String::with_capacity(path.len());
    let mut names = path.split('/').peekable();
    while let Some(name) = names.next() {
        let head = name.strip_suffix(MORE);
        let body = head.or(name.strip_suffix(FILE)).or(name.strip_suffix(DIRECTORY)).unwrap_or(name);
        unescape(body, &mut key)?;
        if head.is_none() && names.peek().is_some() {
            key.push('/');
        }
    }
    // One rule instead of many: whatever is not written the one canonical way is not ours.
    (encode(&key) == path).then_some(key)
}

/// The path of one part of an object; `None` when the version is not 16 lower-case hexadecimal digits.
pub fn of(key: &str, version: Option<&str>, part: Part) -> Option<String> {
    let mut path = encode(key);
    match (version, part) {
        (None, Part::Object) => {}
        (None, Part::Metadata) => path.push_str(METADATA),
        (Some(version), _) if !is_version(version) => return None,
        (Some(version), Part::Object) => path.extend(["%_v", version]),
        (Some(version), Part::Metadata) => path.extend(["%_m", version, ".json"]),
    }
    Some(path)
}

/// What a path stands for, or `None` when [`of`] never gives this path.
pub fn identify(path: &str) -> Option<Named> {
    let marked = |version: &str| is_version(version).then(|| Some(version.to_owned()));
    let (base, version, part) = if let Some(base) = path.strip_suffix(METADATA) {
        (base, None, Part::Metadata)
    } else if let Some((base, version)) = path.rsplit_once("%_v") {
        (base, marked(version)?, Part::Object)
    } else if let Some((base, version)) = path.strip_suffix(".json").and_then(|path| path.rsplit_once("%_m")) {
        // `%_more/` is no version's mark: there the key goes on.
        match marked(version) {
            Some(version) => (base, version, Part::Metadata),
            None => (path, None, Part::Object),
        }
    } else {
        (path, None, Part::Object)
    };
    Some(Named { key: decode(base)?, version, part })
}

/// Whether this can name a version: 16 lower-case hexadecimal digits.
pub fn is_version(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[derive(Clone, Copy)]
enum Kind {
    File,
    Directory,
}

impl Kind {
    /// What is added to a name so that no file is ever named like a directory.
    fn suffix(self, name: &str) -> &'static str {
        let of_a_log = EXTENSIONS.iter().any(|extension| name.ends_with(extension));
        match self {
            Self::File if !of_a_log => FILE,
            Self::Directory if of_a_log => DIRECTORY,
            _ => "",
        }
    }
}

fn push_component(path: &mut String, component: &str, kind: Kind) {
    let mut rest = component;
    loop {
        if !path.is_empty() {
            path.push('/');
        }
        let start = path.len();
        let fits = escape(rest, COMPONENT_BYTES, path) == rest.len();
        let suffix = kind.suffix(&path[start..]);
        if fits && path.len() - start + suffix.len() <= COMPONENT_BYTES {
            return path.push_str(suffix);
        }
        path.truncate(start);
        let taken = escape(rest, HEAD_BYTES, path);
        path.push_str(MORE);
        rest = &rest[taken..];
    }
}

/// Writes as much of a component as fits into so many bytes of a name; returns how much of it that was.
fn escape(component: &str, room: usize, name: &mut String) -> usize {
    let start = name.len();
    if component.is_empty() {
        name.push_str(EMPTY);
    }
    for (at, c) in component.char_indices() {
        let plain = harmless(c) && !matches!(c, '%' | '\\') && !(c == '.' && at == 0);
        let bytes = if plain { c.len_utf8() } else { 3 * c.len_utf8() };
        if name.len() - start + bytes > room {
            return at;
        }
        if plain {
            name.push(c);
        } else {
            escape_char(c, name);
        }
    }
    component.len()
}

fn escape_char(c: char, name: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
        name.extend(['%', char::from(DIGITS[high]), char::from(DIGITS[low])]);
    }
}

/// Whether a directory's name is the head of a component that is too long for one name: the rest of it is below.
pub fn is_head(name: &str) -> bool {
    name.ends_with(MORE)
}

/// Undoes [`escape`], and accepts more than it gives: [`decode`] compares.
fn unescape(name: &str, key: &mut String) -> Option<()> {
    if name == EMPTY {
        return Some(());
    }
    let mut bytes = Vec::new();
    let mut rest = name;
    while let Some((plain, tail)) = rest.split_once('%') {
        bytes.extend_from_slice(plain.as_bytes());
        bytes.push(u8::from_str_radix(tail.get(..2)?, 16).ok()?);
        rest = &tail[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    key.push_str(std::str::from_utf8(&bytes).ok()?);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_log_services_are_their_own_paths() {
        for key in [
            "AWSLogs/111122223333/CloudTrail/eu-west-1/2026/10/28/111122223333_CloudTrail_eu-west-1_20261028T1205Z_aBcDeFgHiJkLmNoP.json.gz",
            "p/q/AWSLogs/o-a1b2c3d4e5/111122223333/CloudTrail-Digest/us-east-1/2026/01/01/111122223333_CloudTrail-Digest_us-east-1_trail_us-east-1_20260101T000000Z.json.gz",
            "AWSLogs/aws-account-id=111122223333/aws-service=vpcflowlogs/year=2026/x_vpcflowlogs_fl-1_20260101T0000Z_ab.log.gz",
            "logs of today/é/日本/~!@#$^&*()_+-=[]{}|;:'\",<>?`.csv",
        ] {
            assert_eq!(encode(key), key);
            assert_eq!(decode(key).as_deref(), Some(key));
        }
    }

    #[test]
    fn odd_keys_become_paths_by_the_rules() {
        for (key, path) in [
            ("", "%_empty%_file"),
            ("/", "%_empty/%_empty%_file"),
            ("a", "a%_file"),
            ("a/", "a/%_empty%_file"),
            ("a//b.gz", "a/%_empty/b.gz"),
            ("../../etc/passwd", "%2E./%2E./etc/passwd%_file"),
            ("./.trailsync/lock", "%2E/%2Etrailsync/lock%_file"),
            ("a.gz/b.gz", "a.gz%_dir/b.gz"),
            (".gz", "%2Egz%_file"),
            ("100%/a\\b\n\u{202e}.log", "100%25/a%5Cb%0A%E2%80%AE.log"),
            ("%_file/%41.gz", "%25_file/%2541.gz"),
        ] {
            assert_eq!(encode(key), path);
            assert_eq!(decode(path).as_deref(), Some(key), "{path}");
        }
    }

    #[test]
    fn paths_that_no_key_has_are_refused() {
        for path in [
            "",
            "a",
            "/a.gz",
            "a.gz/",
            "a//b.gz",
            ".gz",
            "a%_dir/b.gz",
            "a.gz/b.gz",
            "%2e./x.gz",
            "%41.gz",
            "%FF.gz",
            "a%",
            "a%4",
            "a%_",
            "a%_more",
            "a%_more/b.gz",
            "a.gz%_file",
            "%_empty",
            "x/../b.gz",
            "a\\b.gz",
            "a\nb.gz",
            "%+1.gz",
            "é%_empty.gz",
            "a%é.gz",
        ] {
            assert_eq!(decode(path), None, "{path}");
        }
    }

    #[test]
    fn versions_and_metadata_stand_beside_the_object() {
        let version = Some("0123456789abcdef");
        for (version, part, path) in [
            (None, Part::Object, "d/k.json.gz"),
            (None, Part::Metadata, "d/k.json.gz%_meta.json"),
            (version, Part::Object, "d/k.json.gz%_v0123456789abcdef"),
            (version, Part::Metadata, "d/k.json.gz%_m0123456789abcdef.json"),
        ] {
            assert_eq!(of("d/k.json.gz", version, part).as_deref(), Some(path));
            let named = Named { key: "d/k.json.gz".to_owned(), version: version.map(str::to_owned), part };
            assert_eq!(identify(path), Some(named));
        }
        assert_eq!(of("k", Some("0123456789ABCDEF"), Part::Object), None);
        assert_eq!(of("k", Some("../../../../../x"), Part::Object), None);
        for path in
            ["k.gz%_v", "k.gz%_vx/y.gz", "k.gz%_v0123456789abcdeF", "k.gz%_m0123456789abcde.json", "%_meta.json"]
        {
            assert_eq!(identify(path), None, "{path}");
        }
    }

    #[test]
    fn names_up_to_230_bytes_are_whole_and_longer_ones_are_split_between_characters() {
        let whole = format!("{}.json.gz", "n".repeat(222));
        assert_eq!(encode(&whole), whole);

        let long = format!("{}.json.gz", "n".repeat(300));
        assert_eq!(encode(&long), format!("{}%_more/{}.json.gz", "n".repeat(225), "n".repeat(75)));
        assert_eq!(identify(&encode(&long)).map(|named| named.key), Some(long));

        let escaped = encode(&"\u{202e}".repeat(100));
        assert!(escaped.starts_with(&format!("{}%_more/%E2", "%E2%80%AE".repeat(25))), "{escaped}");
        let dots = ".".repeat(400);
        assert!(encode(&dots).contains("%_more/%2E."), "a rest starts with no dot either");
        assert_eq!(decode(&encode(&dots)), Some(dots));
    }
}
