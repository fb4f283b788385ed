//! A mirror as an operator of B configures it on another machine, and what it must have in the end.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::account::{A, B, BUCKET, REGION, Shared};
use crate::daemon::deliver;
use crate::program::files;

pub const LOGS: usize = 5;

/// Account A with some logs in its bucket.
pub async fn shared() -> Shared {
    let shared = Shared::own_logs().await;
    (0..LOGS).for_each(|n| deliver(&shared, n));
    shared
}

/// An address at which nobody listens yet.
pub fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").to_string()
}

/// The configuration, with the key pair in these files and copies in this tree.
pub fn configuration(shared: &Shared, listen: &str, tree: &str, id: &str, key: &str) -> String {
    let (endpoint, arn) = (shared.aws.endpoint(), &shared.role);
    format!(
        "[http]\nlisten = \"{listen}\"\n\
         [source.acme]\nbucket = \"{BUCKET}\"\nregion = \"{REGION}\"\nbucket_owner = \"{A}\"\naccounts = [\"{B}\"]\n\
         destination = {{ path = \"{tree}\", allow_volatile = true, reserve_mib = 1 }}\n\
         credentials = {{ access_key_id_file = \"{id}\", secret_access_key_file = \"{key}\" }}\n\
         endpoints = {{ s3 = \"{endpoint}\", sts = \"{endpoint}\", cloudtrail = \"{endpoint}\", path_style = true }}\n\
         [source.acme.role]\narn = \"{arn}\"\nsession_name = \"trailsync\"\n\
         [source.acme.poll]\nevery = \"5s\"\nidle_every = \"5s\"\n"
    )
}

/// Writes a file with these permission bits.
pub fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
}

/// Every log of the bucket is in the tree, byte for byte, and nothing else but the mirror's own.
pub fn is_whole(shared: &Shared, tree: &Path) {
    let keys = shared.world.keys(BUCKET, "");
    let body = |key: &String| shared.world.body(BUCKET, key).expect("a body").to_vec();
    let there: BTreeMap<String, Vec<u8>> = keys.iter().map(|key| (key.clone(), body(key))).collect();
    let mut here = files(tree);
    here.retain(|path, _| !path.starts_with(".trailsync/"));
    assert_eq!(here.len(), LOGS, "{:?}", here.keys());
    assert!(here == there, "{:?} and {:?} differ", here.keys(), there.keys());
}
