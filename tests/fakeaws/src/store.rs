//! The keys of one bucket, in the order in which S3 lists them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::object::Entry;

/// A key split where `CloudTrail`'s keys stop repeating themselves, with the first part shared:
/// a million keys then take about 150 bytes each. The split carries no meaning.
#[derive(Debug, Clone)]
struct Key {
    head: Arc<str>,
    tail: Box<str>,
}

impl Key {
    fn whole(&self) -> String {
        format!("{}{}", self.head, self.tail)
    }

    /// A key to search with.
    fn probe(key: &str) -> Key {
        Key {
            head: Arc::from(""),
            tail: key.into(),
        }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.head, &other.head) {
            return self.tail.as_bytes().cmp(other.tail.as_bytes());
        }
        let (short, long, turn) = if self.head.len() <= other.head.len() {
            (self, other, false)
        } else {
            (other, self, true)
        };
        let order = compare_split(short, long);
        if turn { order.reverse() } else { order }
    }
}

/// Compares slice by slice, which is many times faster than byte by byte.
fn compare_split(short: &Key, long: &Key) -> Ordering {
    let (short_head, short_tail) = (short.head.as_bytes(), short.tail.as_bytes());
    let (long_head, long_tail) = (long.head.as_bytes(), long.tail.as_bytes());
    let (same, beyond) = long_head.split_at(short_head.len());
    let (within, after) = short_tail.split_at(short_tail.len().min(beyond.len()));
    short_head
        .cmp(same)
        .then_with(|| match within.cmp(&beyond[..within.len()]) {
            Ordering::Equal if within.len() < beyond.len() => Ordering::Less,
            Ordering::Equal => after.cmp(long_tail),
            unequal => unequal,
        })
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}

/// The objects of one bucket.
#[derive(Debug, Default)]
pub(crate) struct Store {
    objects: BTreeMap<Key, Entry>,
    heads: HashSet<Arc<str>>,
}

/// What one page of a listing is to hold.
#[derive(Debug, Default)]
pub(crate) struct PageQuery<'a> {
    pub prefix: &'a str,
    pub delimiter: Option<&'a str>,
    pub after: Option<After<'a>>,
    pub max_keys: usize,
}

/// Where a page starts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum After<'a> {
    Key(&'a str),
    /// Everything below this common prefix was listed.
    Prefix(&'a str),
}

/// One page; keys and common prefixes are in order, each among themselves.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub contents: Vec<(String, Entry)>,
    pub common_prefixes: Vec<String>,
    /// The last thing listed, if more follows.
    pub last: Option<Last>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Last {
    Key(String),
    Prefix(String),
}

impl Store {
    /// Replaces what was there.
    pub fn put(&mut self, key: &str, entry: Entry) {
        let key = self.key(key);
        self.objects.insert(key, entry);
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.objects.get(&Key::probe(key))
    }

    pub fn delete(&mut self, key: &str) -> bool {
        self.objects.remove(&Key::probe(key)).is_some()
    }

    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Every key below the prefix, in order.
    pub fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (String, &'a Entry)> {
        self.from(Bound::Included(Key::probe(prefix)))
            .map(|(key, entry)| (key.whole(), entry))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Lists one page without looking at any key that is not on it: a common prefix is stepped
    /// over, not walked through.
    pub fn page(&self, query: &PageQuery<'_>) -> Page {
        let mut page = Page::default();
        let mut from = start(query);
        'seek: loop {
            for (key, entry) in self.from(from) {
                let key = key.whole();
                if !key.starts_with(query.prefix) {
                    return page;
                }
                let group = common_prefix(&key, query);
                if group
                    .as_deref()
                    .is_some_and(|group| was_passed(group, query))
                {
                    from = past(group.as_deref().unwrap_or_default());
                    continue 'seek;
                }
                if page.len() >= query.max_keys {
                    page.truncate();
                    return page;
                }
                match group {
                    Some(group) => {
                        from = past(&group);
                        page.common_prefixes.push(group);
                        continue 'seek;
                    }
                    None => page.contents.push((key, entry.clone())),
                }
            }
            return page;
        }
    }

    fn from(&self, start: Bound<Key>) -> impl Iterator<Item = (&Key, &Entry)> {
        self.objects.range((start, Bound::Unbounded))
    }

    fn key(&mut self, key: &str) -> Key {
        let (head, tail) = key.split_at(split_point(key));
        let head = match self.heads.get(head) {
            Some(known) => Arc::clone(known),
            None => {
                let head: Arc<str> = Arc::from(head);
                self.heads.insert(Arc::clone(&head));
                head
            }
        };
        Key {
            head,
            tail: tail.into(),
        }
    }
}

impl Page {
    fn len(&self) -> usize {
        self.contents.len() + self.common_prefixes.len()
    }

    fn truncate(&mut self) {
        let key = self.contents.last().map(|(key, _)| key);
        let prefix = self.common_prefixes.last();
        self.last = match (key, prefix) {
            (Some(key), Some(prefix)) if key > prefix => Some(Last::Key(key.clone())),
            (Some(key), None) => Some(Last::Key(key.clone())),
            (_, Some(prefix)) => Some(Last::Prefix(prefix.clone())),
            (None, None) => None,
        };
    }
}

fn start(query: &PageQuery<'_>) -> Bound<Key> {
    match query.after {
        Some(After::Prefix(prefix)) => past(prefix),
        Some(After::Key(key)) if key >= query.prefix => Bound::Excluded(Key::probe(key)),
        _ => Bound::Included(Key::probe(query.prefix)),
    }
}

/// Up to and including the first delimiter behind the prefix.
fn common_prefix(key: &str, query: &PageQuery<'_>) -> Option<String> {
    let delimiter = query.delimiter?;
    let rest = &key[query.prefix.len()..];
    let end = rest.find(delimiter)? + delimiter.len();
    Some(key[..query.prefix.len() + end].to_owned())
}

/// Common prefixes not greater than the start are left out ("`StartAfter`", `ListObjectsV2`).
fn was_passed(group: &str, query: &PageQuery<'_>) -> bool {
    matches!(query.after, Some(After::Key(key)) if group <= key)
}

/// The first key that does not start with `prefix`.
fn past(prefix: &str) -> Bound<Key> {
    let mut kept = prefix.to_owned();
    while let Some(last) = kept.pop() {
        if let Some(next) = (last..=char::MAX).nth(1) {
            kept.push(next);
            return Bound::Included(Key::probe(&kept));
        }
    }
    // Nothing can follow: start behind the longest key there may be.
    Bound::Excluded(Key::probe(&char::MAX.to_string().repeat(257)))
}

/// Behind the day in `…_20240102T0304Z_…`, else behind the last slash.
fn split_point(key: &str) -> usize {
    let slash = key.rfind('/').map_or(0, |at| at + 1);
    let name = &key[slash..];
    let day = name
        .match_indices('T')
        .map(|(at, _)| at)
        .find(|&at| at >= 8 && name.as_bytes()[at - 8..at].iter().all(u8::is_ascii_digit));
    slash + day.map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(keys: &[&str]) -> Store {
        let mut store = Store::default();
        for key in keys {
            store.put(
                key,
                Entry::Generated {
                    seed: 0,
                    size: 200,
                    modified: 0,
                },
            );
        }
        store
    }

    fn walk(store: &Store, prefix: &str, delimiter: Option<&str>, max_keys: usize) -> Vec<String> {
        let (mut found, mut last) = (Vec::new(), None);
        loop {
            let after = match &last {
                None => None,
                Some(Last::Key(key)) => Some(After::Key(key)),
                Some(Last::Prefix(prefix)) => Some(After::Prefix(prefix)),
            };
            let page = store.page(&PageQuery {
                prefix,
                delimiter,
                after,
                max_keys,
            });
            assert!(page.len() <= max_keys);
            found.extend(page.contents.into_iter().map(|(key, _)| key));
            found.extend(page.common_prefixes);
            last = page.last;
            if last.is_none() {
                found.sort();
                return found;
            }
        }
    }

    #[test]
    fn keys_are_in_utf8_order_however_they_are_split() {
        let mut keys = vec![
            "a",
            "a/",
            "a/b",
            "a//b",
            "a/z",
            "a/b/c",
            "A",
            "\u{1}",
            "\n",
            "\u{ffff}",
            "\u{1f600}",
            "b",
            "x/1_CloudTrail_20240102T0304Z_a",
            "x/1_CloudTrail_20240102T0304Z_b",
            "x/1_CloudTrail_20240102",
            "x/1_CloudTrail_20240103T0000Z_a",
            "x/1_CloudTrail_20240102T",
        ];
        let store = store(&keys);
        keys.sort_unstable();
        for size in 1..5 {
            assert_eq!(walk(&store, "", None, size), keys);
        }
        let listed: Vec<String> = store.below("").map(|(key, _)| key).collect();
        assert_eq!(listed, keys);
        for key in keys {
            assert!(store.get(key).is_some(), "{key:?}");
        }
    }

    #[test]
    fn common_prefixes_are_stepped_over_and_counted() {
        let store = store(&["a/1", "a/2", "b", "c/1", "c/d/1", "d"]);
        for size in 1..6 {
            assert_eq!(walk(&store, "", Some("/"), size), ["a/", "b", "c/", "d"]);
            assert_eq!(walk(&store, "c/", Some("/"), size), ["c/1", "c/d/"]);
        }
    }

    #[test]
    fn a_start_inside_a_common_prefix_passes_it() {
        let store = store(&["a/1", "a/2", "b"]);
        let query = PageQuery {
            delimiter: Some("/"),
            after: Some(After::Key("a/1")),
            max_keys: 10,
            ..PageQuery::default()
        };
        let page = store.page(&query);
        assert!(page.common_prefixes.is_empty());
        assert_eq!(page.contents.len(), 1);
    }

    #[test]
    fn the_end_of_all_keys_has_nothing_past_it() {
        let store = store(&["\u{10ffff}/a", "\u{10ffff}\u{10ffff}"]);
        let found = walk(&store, "", Some("\u{10ffff}"), 10);
        assert_eq!(found, ["\u{10ffff}"]);
    }
}
