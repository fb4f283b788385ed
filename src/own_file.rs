//! Small JSON files of our own in the copy: written one way only, and closed by a checksum over themselves.

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::key::file_safe;

/// The version of every such file that this program writes and reads.
pub const VERSION: u32 = 1;

/// Why a file of our own is not taken, in words that follow its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A later version of this program wrote it.
    #[error("was written by a newer trailsync; use that version")]
    Newer,
    /// Its bytes are not those that were written.
    #[error("is damaged: {0}")]
    Damaged(String),
}

/// The file's bytes: the document, and `sha256` over the document as last field.
///
/// `document` serializes to an object with at least one field, `version` among them.
pub fn render<T: Serialize>(document: &T) -> Vec<u8> {
    let text = serde_json::to_string_pretty(document).unwrap_or_default();
    let body = text.strip_suffix("\n}").unwrap_or(&text);
    format!("{body},\n  \"sha256\": \"{}\"\n}}\n", sum(body)).into_bytes()
}

/// The document, when these are exactly the bytes that [`render`] makes of it.
///
/// # Errors
/// `Damaged` when so much as one bit differs, `Newer` for another version.
pub fn parse<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    let damaged = |error: serde_json::Error| Refused::Damaged(error.to_string());
    match serde_json::from_slice::<T>(bytes) {
        Ok(document) if render(&document) == bytes => Ok(document),
        read => {
            if is_newer(bytes) {
                return Err(Refused::Newer);
            }
            read.map_err(damaged)?;
            Err(Refused::Damaged("its checksum is not that of its bytes".into()))
        }
    }
}

/// A whole file of another version. A version that a flipped bit made is no such file: its checksum is wrong.
fn is_newer(bytes: &[u8]) -> bool {
    let Ok(document) = serde_json::from_slice::<Value>(bytes) else { return false };
    let is_later = document.get("version").and_then(Value::as_u64).is_some_and(|version| version > u64::from(VERSION));
    is_later && is_whole(bytes)
}

/// The name of the file that belongs to a text which somebody else chose, below `.trailsync/`.
pub fn name(folder: &str, text: &str) -> String {
    // `%` is no letter of our own file names.
    let safe = file_safe(text).replace('%', "=");
    let fits = (1..=190).contains(&safe.len());
    format!("{folder}/{}.json", if fits { safe } else { sum(text) })
}

fn sum(text: &str) -> String {
    hex::encode(digest(&SHA256, text.as_bytes()))
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((body, tail)) = text.rsplit_once(",\n  \"sha256\": \"") else { return false };
    tail == format!("{}\"\n}}\n", sum(body))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Document {
        version: u32,
        names: Vec<String>,
        empty: Vec<String>,
    }

    fn document(version: u32) -> Document {
        Document { version, names: vec!["a\"}\n".into(), "b".into()], empty: Vec::new() }
    }

    #[test]
    fn what_was_written_is_read_and_any_flipped_bit_is_seen() {
        let bytes = render(&document(1));
        assert_eq!(parse::<Document>(&bytes), Ok(document(1)));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(parse::<Document>(&flipped), Err(Refused::Damaged(_))), "bit {bit}");
        }
        assert!(parse::<Document>(&bytes[..bytes.len() - 1]).is_err());
        assert!(parse::<Document>(&[&bytes[..], b"\n"].concat()).is_err());
    }

    #[test]
    fn a_hostile_name_stays_in_the_folder_and_apart_from_others() {
        assert_eq!(name("f", "eu-west-1"), "f/eu-west-1.json");
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=+@".contains(&byte);
        let hostile = ["..", "a/../../b", "é\u{202e}", "", "%2e", ".x", &"x".repeat(199), &"é".repeat(70)];
        let names: std::collections::BTreeSet<_> = hostile.iter().map(|text| name("f", text)).collect();
        assert_eq!(names.len(), hostile.len());
        for name in names {
            let file = name.strip_prefix("f/").unwrap();
            assert!(file.len() <= 200 && !file.starts_with('.') && file.bytes().all(safe), "{name}");
        }
    }

    #[test]
    fn a_whole_file_of_a_later_version_is_called_newer() {
        #[derive(Serialize)]
        struct Later {
            version: u32,
            other: u32,
        }
        assert_eq!(parse::<Document>(&render(&Later { version: 2, other: 1 })), Err(Refused::Newer));
        let Err(Refused::Damaged(_)) = parse::<Document>(&render(&Later { version: 1, other: 1 })) else { panic!() };
    }
}
