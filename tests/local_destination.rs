//! What is published in a local tree is there: whole, durable, in its place and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use trailsync::config;
use trailsync::content::Asked;
use trailsync::destination::local::{Found, Handle, Local};
use trailsync::destination::{Destination, Item, Place, Published};
use trailsync::error::{Class, Error};
use trailsync::object::Metadata;
use trailsync::source::Body;

#[path = "support/hostile.rs"]
mod hostile;

/// A directory that holds the tree and, beside it, what must stay untouched.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        let scratch = Self(tempfile::tempdir().unwrap());
        fs::create_dir(scratch.outside()).unwrap();
        scratch
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("tree")
    }

    fn outside(&self) -> PathBuf {
        self.0.path().join("outside")
    }

    fn open(&self) -> Local {
        Local::open(&options(&self.root())).unwrap()
    }

    fn staged(&self) -> usize {
        fs::read_dir(self.root().join(".trailsync/stage")).unwrap().count()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Deeper than the standard library can remove with the usual number of descriptors.
        let _ = Command::new("rm").arg("-rf").arg("--").arg(self.root()).status();
    }
}

fn options(root: &Path) -> config::Destination {
    config::Destination {
        path: root.to_owned(),
        file_mode: 0o640,
        dir_mode: 0o750,
        group: None,
        allow_volatile: true,
        reserve_mib: Some(0),
    }
}

fn body(bytes: impl Into<Bytes>) -> Body {
    let bytes = bytes.into();
    let step = 10_000;
    let cuts = (0..bytes.len()).step_by(step).map(|at| bytes.slice(at..bytes.len().min(at + step))).collect::<Vec<_>>();
    Box::pin(stream::iter(cuts.into_iter().map(Ok)))
}

fn first(key: &str) -> Place {
    Place { key: key.to_owned(), version: None }
}

async fn item(local: &Local, key: &str, bytes: impl Into<Bytes>) -> Item<Handle> {
    let bytes = bytes.into();
    let staged = local.stage(body(bytes.clone()), bytes.len() as u64, Asked::all(false)).await.unwrap();
    Item { place: first(key), staged, metadata: None }
}

async fn publish(local: &Local, key: &str, bytes: impl Into<Bytes>) -> Result<Published, Error> {
    let batch = vec![item(local, key, bytes).await];
    Ok(local.publish(batch).await?.remove(0))
}

fn stored(local: &Local, place: &Place) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    local.read(place).unwrap()?.read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

fn walk(local: &Local) -> Vec<Found> {
    local.walk().collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn every_key_of_the_corpus_is_stored_inside_the_root_and_can_be_told_from_its_path() {
    let scratch = Scratch::new();
    let local = scratch.open();
    let keys = hostile::hostile_keys();
    for keys in keys.chunks(100) {
        let mut batch = Vec::new();
        for key in keys {
            batch.push(item(&local, key, key.clone()).await);
        }
        assert!(local.publish(batch).await.unwrap().iter().all(|published| *published == Published::New));
    }
    let found: BTreeSet<_> = walk(&local)
        .into_iter()
        .map(|found| match found {
            Found::Object(Place { key, version: None }) => key,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(found, keys.iter().cloned().collect());
    for key in &keys {
        assert_eq!(stored(&local, &first(key)).unwrap(), key.as_bytes());
    }
    let beside: Vec<_> = fs::read_dir(scratch.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside.len(), 2, "{beside:?}");
    assert_eq!(fs::read_dir(scratch.outside()).unwrap().count(), 0);
}

#[tokio::test]
async fn metadata_is_visible_with_its_object_and_belongs_to_it() {
    let scratch = Scratch::new();
    let local = scratch.open();
    let metadata = |value: &str| Some(Metadata::from([("signature".to_owned(), value.to_owned())]));
    for (value, bytes, expected) in [
        (None, "1", Published::New),
        (metadata("x"), "1", Published::Same),
        (metadata("x"), "1", Published::Same),
        (None, "1", Published::Same),
        (metadata("y"), "1", Published::Other),
        (metadata("x"), "2", Published::Other),
    ] {
        let item = Item { metadata: value, ..item(&local, "d.json.gz", bytes).await };
        assert_eq!(local.publish(vec![item]).await.unwrap(), [expected]);
    }
    assert_eq!(local.read_metadata(&first("d.json.gz")).unwrap(), metadata("x"));
    assert_eq!(local.read_metadata(&first("e.json.gz")).unwrap(), None);
    assert!(scratch.root().join("d.json.gz%_meta.json").is_file());
    assert_eq!(walk(&local), [Found::Object(first("d.json.gz")), Found::Metadata(first("d.json.gz"))]);

    let kept_out = Item { metadata: metadata("z"), ..item(&local, "e.gz", "1").await };
    fs::create_dir(scratch.root().join("e.gz")).unwrap();
    assert_eq!(local.publish(vec![kept_out]).await.unwrap(), [Published::Other]);
    assert!(!scratch.root().join("e.gz%_meta.json").exists(), "metadata of an object that is not ours");
}

#[tokio::test]
async fn small_files_of_our_own_are_replaced_and_hidden() {
    let scratch = Scratch::new();
    let local = scratch.open();
    local.keep("manifests/2026/a.zst", vec![1]).await.unwrap();
    local.keep("manifests/2026/a.zst", vec![2]).await.unwrap();
    assert_eq!(local.read_kept("manifests/2026/a.zst").unwrap(), Some(vec![2]));
    assert_eq!(local.read_kept("manifests/2026/b.zst").unwrap(), None);
    assert!(walk(&local).is_empty());
    for name in ["", "/x", "x/", "a//b", "../x", "a/../b", ".x", "a/.x", "a b", "é", "lock", "stage/x", "a\0b", "a\nb"]
    {
        assert_eq!(local.keep(name, vec![]).await.unwrap_err().class(), Class::Stream, "{name:?}");
    }
}

#[tokio::test]
async fn rights_do_not_depend_on_the_umask() {
    let scratch = Scratch::new();
    let gid = fs::metadata(scratch.outside()).unwrap().gid();
    // Only root may give files to any group.
    let group = if is_root() { 4_242 } else { gid };
    let rights = config::Destination {
        file_mode: 0o666,
        dir_mode: 0o2777,
        group: Some(group.to_string()),
        ..options(&scratch.root())
    };
    let local = Local::open(&rights).unwrap();
    let mut item = item(&local, "a/b/c.gz", "x").await;
    item.metadata = Some(Metadata::new());
    local.publish(vec![item]).await.unwrap();
    for (path, mode) in [
        ("", 0o2777),
        ("a", 0o2777),
        ("a/b", 0o2777),
        ("a/b/c.gz", 0o666),
        ("a/b/c.gz%_meta.json", 0o666),
        (".trailsync", 0o2777),
    ] {
        let metadata = fs::metadata(scratch.root().join(path)).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.gid()), (mode, group), "{path}");
    }
    assert_eq!(fs::metadata(scratch.root().join(".trailsync/stage")).unwrap().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn what_is_dropped_is_gone() {
    let scratch = Scratch::new();
    let local = scratch.open();
    drop(item(&local, "a.gz", "x").await);
    assert_eq!(scratch.staged(), 0);

    let endless = Box::pin(body(vec![7; 600_000]).chain(stream::pending()));
    let stage = local.stage(endless, 1_000_000, Asked::all(false));
    assert!(tokio::time::timeout(Duration::from_millis(200), stage).await.is_err());
    assert_eq!(scratch.staged(), 0, "a stage that was cancelled");
}

#[tokio::test]
async fn what_a_killed_process_had_staged_is_removed_and_what_it_published_stays() {
    let scratch = Scratch::new();
    let local = scratch.open();
    publish(&local, "a/b.gz", "x").await.unwrap();
    drop(local);
    let stage = scratch.root().join(".trailsync/stage");
    fs::write(stage.join("leftover"), "x").unwrap();
    fs::create_dir(stage.join("directory")).unwrap();
    symlink(scratch.outside(), stage.join("link")).unwrap();
    let local = scratch.open();
    assert_eq!(scratch.staged(), 0);
    assert!(scratch.outside().is_dir());
    assert_eq!(stored(&local, &first("a/b.gz")).unwrap(), b"x");
}

const PLANTS: [&str; 6] = ["link to a directory", "link to a file", "dangling link", "fifo", "directory", "file"];

fn plant(kind: &str, at: &Path, outside: &Path) {
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    match kind {
        "link to a directory" => symlink(outside, at).unwrap(),
        "link to a file" => symlink(outside.join("file"), at).unwrap(),
        "dangling link" => symlink(outside.join("new"), at).unwrap(),
        "fifo" => assert!(Command::new("mkfifo").arg(at).status().unwrap().success()),
        "directory" => fs::create_dir(at).unwrap(),
        _ => fs::write(at, "planted").unwrap(),
    }
}

/// What a link that is followed would lead to: a file, and a directory with the name of the next one.
fn lure(outside: &Path) {
    fs::write(outside.join("file"), "x").unwrap();
    fs::create_dir(outside.join("b")).unwrap();
    fs::create_dir(outside.join("stage")).unwrap();
}

/// Everything outside, as it must stay.
fn snapshot(outside: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(outside).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(snapshot(&path));
        }
        all.insert(path.clone(), fs::read(path).ok());
    }
    all
}

#[tokio::test]
async fn nothing_planted_in_the_tree_is_followed_or_waited_for() {
    for kind in PLANTS {
        for (at, depth) in [("a", 0), ("a/b", 1), ("a/b/c.gz", 2), ("a/b/c.gz%_meta.json", 3)] {
            let scratch = Scratch::new();
            lure(&scratch.outside());
            let before = snapshot(&scratch.outside());
            let local = scratch.open();
            plant(kind, &scratch.root().join(at), &scratch.outside());

            let mut item = item(&local, "a/b/c.gz", "x").await;
            item.metadata = Some(Metadata::new());
            let publish = tokio::time::timeout(Duration::from_secs(10), local.publish(vec![item]));
            let result = publish.await.unwrap_or_else(|_| panic!("a {kind} at {at} held us up"));
            match result {
                Ok(published) if depth >= 2 => assert_eq!(published, [Published::Other], "{kind} at {at}"),
                Ok(published) => assert_eq!((published, kind), (vec![Published::New], "directory"), "{at}"),
                Err(error) => {
                    assert!(depth < 2 && kind != "directory", "{kind} at {at}: {error}");
                    assert_eq!(error.class(), Class::Stream, "{error}");
                    assert!(error.to_string().contains("move what is no directory"), "{error}");
                }
            }
            assert_eq!(snapshot(&scratch.outside()), before, "{kind} at {at}");
            assert_eq!(scratch.staged(), 0);
            assert!(local.read_metadata(&first("a/b/c.gz")).is_ok());
            let _ = local.read(&first("a/b/c.gz")).unwrap();
        }
    }
}

#[tokio::test]
async fn a_planted_hard_link_to_the_same_bytes_is_not_written_through() {
    let scratch = Scratch::new();
    let local = scratch.open();
    fs::write(scratch.outside().join("file"), "x").unwrap();
    fs::hard_link(scratch.outside().join("file"), scratch.root().join("a.gz")).unwrap();
    assert_eq!(publish(&local, "a.gz", "y").await.unwrap(), Published::Other);
    assert_eq!(publish(&local, "a.gz", "x").await.unwrap(), Published::Same);
    assert_eq!(fs::read(scratch.outside().join("file")).unwrap(), b"x");
}

#[test]
fn nothing_planted_among_our_own_files_is_followed_or_waited_for() {
    for kind in PLANTS {
        for at in [".trailsync", ".trailsync/stage", ".trailsync/lock"] {
            let scratch = Scratch::new();
            lure(&scratch.outside());
            let before = snapshot(&scratch.outside());
            plant(kind, &scratch.root().join(at), &scratch.outside());
            let harmless = kind == if at.ends_with("lock") { "file" } else { "directory" };
            assert_eq!(Local::open(&options(&scratch.root())).is_ok(), harmless, "{kind} at {at}");
            assert_eq!(snapshot(&scratch.outside()), before, "{kind} at {at}");
        }
    }
}

#[tokio::test]
async fn a_walk_names_what_is_foreign_and_does_not_leave_the_tree() {
    let scratch = Scratch::new();
    let local = scratch.open();
    publish(&local, "a/b.gz", "x").await.unwrap();
    fs::write(scratch.outside().join("x.gz"), "x").unwrap();
    let root = scratch.root();
    symlink(scratch.outside(), root.join("a/link")).unwrap();
    symlink(root.join("a/b.gz"), root.join("a/link.gz")).unwrap();
    plant("fifo", &root.join("fifo.gz"), &scratch.outside());
    fs::write(root.join("notes"), "x").unwrap();
    fs::create_dir_all(root.join(".snapshot/deep")).unwrap();
    fs::create_dir_all(root.join("dir.gz/deep")).unwrap();
    fs::write(root.join("dir.gz/deep/x.gz"), "x").unwrap();
    fs::write(root.join("a/.trailsync"), "x").unwrap();
    let foreign: Vec<_> = walk(&local).into_iter().filter(|found| *found != Found::Object(first("a/b.gz"))).collect();
    let names = [".snapshot", "fifo.gz", "notes", "a/.trailsync", "a/link", "a/link.gz", "dir.gz/deep/x.gz"];
    assert_eq!(foreign, names.map(|name| Found::Foreign(name.to_owned())));
}

#[test]
fn a_tree_belongs_to_one_process() {
    let scratch = Scratch::new();
    let local = scratch.open();
    let error = Local::open(&options(&scratch.root())).err().unwrap();
    assert_eq!(error.class(), Class::Fatal);
    assert!(error.to_string().contains("two sources have this tree"), "{error}");
    drop(local);
    scratch.open();
}

#[test]
fn a_root_is_made_where_it_is_missing_and_refused_where_it_is_no_directory() {
    let scratch = Scratch::new();
    let deep = scratch.root().join("x/y/z");
    Local::open(&options(&deep)).unwrap();
    assert_eq!(fs::metadata(&deep).unwrap().permissions().mode() & 0o777, 0o750);

    let file = scratch.outside().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = Local::open(&options(&path)).err().unwrap();
        assert_eq!((error.class(), error.code()), (Class::Fatal, "ENOTDIR"), "{error}");
    }
    let group = config::Destination { group: Some("no such group".to_owned()), ..options(&scratch.root()) };
    assert_eq!(Local::open(&group).err().unwrap().class(), Class::Fatal);
}

#[test]
fn storage_that_forgets_is_refused_unless_allowed() {
    let Ok(volatile) = tempfile::tempdir_in("/dev/shm") else { return skipped("no /dev/shm here") };
    let root = volatile.path().join("tree");
    let refusal = Local::open(&config::Destination { allow_volatile: false, ..options(&root) }).err().unwrap();
    assert_eq!(refusal.class(), Class::Fatal);
    assert!(refusal.to_string().contains("tmpfs, which loses everything"), "{refusal}");
    Local::open(&options(&root)).unwrap();
}

#[test]
fn a_tree_that_cannot_be_written_is_refused() {
    if is_root() {
        return skipped("root may write everywhere");
    }
    let scratch = Scratch::new();
    fs::create_dir(scratch.root()).unwrap();
    fs::set_permissions(scratch.root(), fs::Permissions::from_mode(0o500)).unwrap();
    let error = Local::open(&options(&scratch.root())).err().unwrap();
    assert_eq!((error.class(), error.code()), (Class::Fatal, "EACCES"), "{error}");
}

/// A small file system of its own, unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: &Path, options: &str) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).output().ok()?;
        mount.status.success().then(|| Self(at.to_owned()))
    }

    fn remount(&self, options: &str) {
        assert!(Command::new("mount").args(["-o", options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn what_is_reserved_of_a_disk_stays_free_and_mirroring_goes_on_when_there_is_room() {
    let scratch = Scratch::new();
    let Some(mounted) = Mounted::new(&scratch.root(), "size=8m") else {
        return skipped("mounting needs root");
    };
    let local = Local::open(&config::Destination { reserve_mib: Some(4), ..options(&scratch.root()) }).unwrap();
    assert_eq!(publish(&local, "a.gz", "x").await.unwrap(), Published::New);
    let filler = scratch.root().join("filler.gz");
    fs::write(&filler, vec![7; 5 << 20]).unwrap();
    let error = local.stage(body(b"x".to_vec()), 1, Asked::all(false)).await.err().unwrap();
    assert_eq!((error.class(), error.code()), (Class::Stream, "ENOSPC"), "{error}");
    assert!(error.to_string().contains("2 MiB are free, of which 4 MiB stay reserved"), "{error}");
    assert_eq!(scratch.staged(), 0);
    fs::remove_file(filler).unwrap();
    assert_eq!(publish(&local, "b.gz", "x").await.unwrap(), Published::New);
    drop(local);
    drop(mounted);
}

#[tokio::test]
async fn full_storage_pauses_the_stream_and_goes_on_when_there_is_room() {
    let scratch = Scratch::new();
    let Some(mounted) = Mounted::new(&scratch.root(), "size=1m,nr_inodes=200") else {
        return skipped("mounting needs root");
    };
    let local = scratch.open();
    let space = local.free_space().unwrap();
    assert!(
        space.total_bytes == 1 << 20 && space.free_bytes < space.total_bytes && space.free_files < 200,
        "{space:?}"
    );
    assert_eq!(publish(&local, "a.gz", "x").await.unwrap(), Published::New);

    let too_much = local.stage(body(vec![7; 2_000_000]), 2_000_000, Asked::all(false)).await.err().unwrap();
    assert_eq!((too_much.class(), too_much.code()), (Class::Stream, "ENOSPC"), "{too_much}");
    assert!(too_much.to_string().contains("make room"), "{too_much}");
    assert_eq!(scratch.staged(), 0);

    let staged = item(&local, "deep/er/b.gz", "x").await;
    let fillers: Vec<_> = (0..300).map(|n| scratch.root().join(format!("filler{n}.gz"))).collect();
    let fill = || fillers.iter().take_while(|filler| fs::write(filler, "").is_ok()).count();
    assert!(fill() < 200, "inodes are used up");
    let error = local.publish(vec![staged]).await.unwrap_err();
    assert_eq!((error.class(), error.code()), (Class::Stream, "ENOSPC"), "{error}");
    // What the failed batch had staged is free again.
    fill();
    let error = local.keep("manifest", vec![1]).await.unwrap_err();
    assert_eq!((error.class(), error.code()), (Class::Stream, "ENOSPC"), "{error}");
    fillers.iter().for_each(|filler| _ = fs::remove_file(filler));
    assert_eq!(publish(&local, "deep/er/b.gz", "x").await.unwrap(), Published::New);

    drop(local);
    mounted.remount("remount,ro");
    let error = Local::open(&options(&scratch.root())).err().unwrap();
    assert_eq!((error.class(), error.code()), (Class::Stream, "EROFS"), "{error}");
    mounted.remount("remount,rw");
    let local = scratch.open();
    assert_eq!(publish(&local, "c.gz", "x").await.unwrap(), Published::New);
    assert_eq!(walk(&local).len(), 3);
    drop(local);
}

#[tokio::test]
async fn another_file_system_inside_the_tree_is_named() {
    let scratch = Scratch::new();
    let local = scratch.open();
    let Some(_mounted) = Mounted::new(&scratch.root().join("a"), "size=1m") else {
        return skipped("mounting needs root");
    };
    let error = publish(&local, "a/b.gz", "x").await.unwrap_err();
    assert_eq!((error.class(), error.code()), (Class::Stream, "EXDEV"), "{error}");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

#[tokio::test]
async fn a_tree_that_is_not_at_its_path_any_more_takes_nothing_until_it_is_back() {
    let scratch = Scratch::new();
    let local = scratch.open();
    local.present().await.unwrap();
    let away = scratch.0.path().join("away");
    fs::rename(scratch.root(), &away).unwrap();
    for other in [false, true] {
        if other {
            fs::create_dir(scratch.root()).unwrap();
        }
        let staged = item(&local, "a.gz", "one").await;
        let refused = [local.present().await.unwrap_err(), local.publish(vec![staged]).await.err().unwrap()];
        for error in refused {
            assert_eq!((error.class(), error.code()), (Class::Stream, "DestinationGone"), "{error}");
            assert!(error.to_string().contains("goes on by itself"), "{error}");
        }
    }
    fs::remove_dir(scratch.root()).unwrap();
    fs::rename(&away, scratch.root()).unwrap();
    local.present().await.unwrap();
    let staged = item(&local, "a.gz", "one").await;
    assert_eq!(local.publish(vec![staged]).await.unwrap(), [Published::New]);
}
