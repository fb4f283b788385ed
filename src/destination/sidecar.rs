//! User metadata of an object as the small JSON file that stands beside its copy.

use serde::{Deserialize, Serialize};

use crate::object::Metadata;
use crate::own_file;

#[derive(Serialize, Deserialize)]
struct File {
    key: String,
    metadata: Metadata,
    #[serde(skip_serializing, default, rename = "sha256")]
    _sum: Option<String>,
}

/// The file's bytes: the same for the same metadata, for people to read too, closed by a checksum.
pub fn render(key: &str, metadata: &Metadata) -> Vec<u8> {
    own_file::render(&File { key: key.to_owned(), metadata: metadata.clone(), _sum: None })
}

/// Key and metadata, or `None` when these bytes are no such file.
pub fn parse(bytes: &[u8]) -> Option<(String, Metadata)> {
    let file: File = serde_json::from_slice(bytes).ok()?;
    Some((file.key, file.metadata))
}

/// Whether these are exactly the bytes that were written.
pub fn is_whole(bytes: &[u8]) -> bool {
    own_file::parse::<File>(bytes).is_ok()
}

/// The metadata, when these are exactly the bytes that [`render`] makes for this key.
pub fn whole(bytes: &[u8], key: &str) -> Option<Metadata> {
    let (named, metadata) = parse(bytes)?;
    (named == key && render(key, &metadata) == bytes).then_some(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_comes_back_and_reads_well() {
        let metadata = Metadata::from([
            ("signature".to_owned(), "ab\"\n".to_owned()),
            ("signature-algorithm".to_owned(), "SHA256withRSA".to_owned()),
        ]);
        let bytes = render("a/b.json.gz", &metadata);
        let text = r#"{
  "key": "a/b.json.gz",
  "metadata": {
    "signature": "ab\"\n",
    "signature-algorithm": "SHA256withRSA"
  },
  "sha256": "SUM"
}
"#;
        let (body, _) = text.split_once(",\n  \"sha256\"").unwrap();
        let sum = hex::encode(crate::content::of(body.as_bytes(), false).sha256);
        assert_eq!(String::from_utf8_lossy(&bytes), text.replace("SUM", &sum));
        assert!(is_whole(&bytes));
        assert_eq!(parse(&bytes), Some(("a/b.json.gz".to_owned(), metadata)));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_whole(&flipped), "bit {bit}");
        }
        assert_eq!(parse(b"{}"), None);
        assert_eq!(parse(b"{\"key\":1,\"metadata\":{}}"), None);
    }
}
