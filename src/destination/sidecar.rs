//! User metadata of an object as the small JSON file that stands beside its copy.

use serde_json::{Value, json};

use crate::object::Metadata;

/// The file's bytes: the same for the same metadata, for people to read too.
pub fn render(key: &str, metadata: &Metadata) -> Vec<u8> {
    format!("{:#}\n", json!({ "key": key, "metadata": metadata })).into_bytes()
}

/// Key and metadata, or `None` when these bytes are no such file.
pub fn parse(bytes: &[u8]) -> Option<(String, Metadata)> {
    let file: Value = serde_json::from_slice(bytes).ok()?;
    let key = file.get("key")?.as_str()?.to_owned();
    let metadata = serde_json::from_value(file.get("metadata")?.clone()).ok()?;
    Some((key, metadata))
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
  }
}
"#;
        assert_eq!(String::from_utf8_lossy(&bytes), text);
        assert_eq!(parse(&bytes), Some(("a/b.json.gz".to_owned(), metadata)));
        assert_eq!(parse(b"{}"), None);
        assert_eq!(parse(b"{\"key\":1,\"metadata\":{}}"), None);
    }
}
