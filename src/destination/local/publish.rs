//! One batch from the stage to its places: durable data, then names, then durable directories.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::AtFlags;
use rustix::io::{Errno, Result as SystemResult};

use crate::content::Asked;
use crate::destination::{Item, Published, sidecar, wrong_version};
use crate::error::Error;
use crate::failpoint::reached;
use crate::object::Content;
use crate::path::{self, Part};

use super::Handle;
use super::fault::{errno, failed};
use super::staging::{StagedFile, Writer};
use super::tree::{Durability, Tree, open_regular, split};
use super::witness::Witness;

/// Publishes a batch; see [`Destination::publish`](crate::destination::Destination::publish).
///
/// Nothing is renamed before all data are durable, so whatever is visible is whole, also after a power cut.
pub fn publish(tree: &Arc<Tree>, batch: Vec<Item<Handle>>) -> Result<Vec<Published>, Error> {
    let mut planned = batch.into_iter().map(|item| Planned::new(tree, item)).collect::<Result<Vec<_>, _>>()?;
    reached("staged");
    let witnesses = witnesses(&planned);
    sync_data(tree, &witnesses)?;
    reached("synced");

    let half = planned.len().div_ceil(2);
    let mut placing = Placing::new(tree);
    let mut published = Vec::with_capacity(planned.len());
    for item in &mut planned {
        published.push(placing.place(item)?);
        if published.len() == half {
            reached("renamed_some");
        }
    }
    reached("renamed");
    if placing.found_same {
        sync_data(tree, &witnesses)?;
    }
    if let Some(witness) = witnesses.first() {
        placing.sync_dirs(witness)?;
    }
    reached("dirs_synced");
    Ok(published)
}

/// Publishes one small file of our own over what was there.
pub fn keep(tree: &Arc<Tree>, path: &str, bytes: &[u8]) -> Result<(), Error> {
    let fault = |errno| failed("keep", tree.shown(path), errno);
    let mut writer = Writer::create(tree, PLAIN).map_err(fault)?;
    writer.write(bytes).map_err(fault)?;
    let (_, mut staged) = writer.finish_durably().map_err(fault)?;
    reached("keep_synced");
    let (directory, name) = split(path);
    let opened = tree.make_dir(directory).map_err(fault)?;
    staged.place_over(&opened, name).map_err(fault)?;
    reached("keep_renamed");
    tree.sync_dirs([directory], &staged.witness).map_err(fault)
}

/// What is asked about small files of our own: they are compared by their SHA-256.
const PLAIN: Asked = Asked { inflate: false, md5: false };

/// An object, its metadata, and the directory of both.
struct Planned {
    directory: String,
    sidecar: Option<Piece>,
    object: Piece,
}

/// One staged file, its content and its name to be.
struct Piece {
    name: String,
    content: Content,
    staged: StagedFile,
}

impl Planned {
    /// Stages the metadata too.
    fn new(tree: &Arc<Tree>, item: Item<Handle>) -> Result<Self, Error> {
        let Item { place, staged, metadata } = item;
        let path_of = |part| path::of(&place.key, place.version.as_deref(), part).ok_or_else(|| wrong_version(&place));
        let path = path_of(Part::Object)?;
        let (directory, name) = split(&path);
        let object = Piece { name: name.to_owned(), content: staged.content, staged: staged.handle.0 };
        let sidecar = match metadata {
            None => None,
            Some(metadata) => {
                let path = path_of(Part::Metadata)?;
                let json = sidecar::render(&place.key, &metadata);
                Some(Piece::staged(tree, split(&path).1, &json).map_err(|e| failed("publish", tree.shown(&path), e))?)
            }
        };
        Ok(Self { directory: directory.to_owned(), sidecar, object })
    }

    fn witnesses(&self) -> impl Iterator<Item = &Arc<Witness>> {
        self.sidecar.iter().chain([&self.object]).map(|piece| &piece.staged.witness)
    }
}

impl Piece {
    fn staged(tree: &Arc<Tree>, name: &str, bytes: &[u8]) -> SystemResult<Self> {
        let mut writer = Writer::create(tree, PLAIN)?;
        writer.write(bytes)?;
        let (content, staged) = writer.finish()?;
        Ok(Self { name: name.to_owned(), content, staged })
    }

    /// The regular file that stands in its place with the same bytes, if one does.
    fn same_in(&self, directory: BorrowedFd<'_>) -> SystemResult<Option<File>> {
        let Some(mut file) = open_regular(directory, &self.name)? else { return Ok(None) };
        let same_size = file.metadata().map_err(|e| errno(&e))?.len() == self.content.size;
        let same = same_size && sha256(&mut file).map_err(|e| errno(&e))? == self.content.sha256;
        Ok(same.then_some(file))
    }

    /// Whether something else stands in its place.
    fn differs_in(&self, directory: BorrowedFd<'_>) -> SystemResult<bool> {
        match rustix::fs::statat(directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
            Ok(_) => Ok(self.same_in(directory)?.is_none()),
        }
    }
}

/// Everybody who was called before a byte of the batch was written; nearly always one.
fn witnesses(planned: &[Planned]) -> Vec<Arc<Witness>> {
    let mut all: Vec<Arc<Witness>> = Vec::new();
    for witness in planned.iter().flat_map(Planned::witnesses) {
        if !all.iter().any(|known| Arc::ptr_eq(known, witness)) {
            all.push(witness.clone());
        }
    }
    all
}

fn sync_data(tree: &Tree, witnesses: &[Arc<Witness>]) -> Result<(), Error> {
    match tree.durability {
        // Each file was synced before it was closed.
        Durability::Each => Ok(()),
        Durability::Together => witnesses
            .iter()
            .try_for_each(|witness| tree.sync_data(witness))
            .map_err(|errno| failed("publish", &tree.path, errno)),
    }
}

/// The renames of one batch, and the directories that they touched.
struct Placing<'a> {
    tree: &'a Tree,
    touched: BTreeSet<String>,
    /// The directory of the last item: keys come in order.
    current: Option<(String, OwnedFd)>,
    /// A file that was here before may not be durable yet.
    found_same: bool,
}

impl<'a> Placing<'a> {
    fn new(tree: &'a Tree) -> Self {
        Self { tree, touched: BTreeSet::new(), current: None, found_same: false }
    }

    /// Metadata becomes visible before its object: an object that is seen has what belongs to it.
    fn place(&mut self, item: &mut Planned) -> Result<Published, Error> {
        let directory = self.enter(&item.directory)?;
        let result = self.place_pair(&directory, item);
        let fault =
            |errno| failed("publish", self.tree.shown(&format!("{}/{}", item.directory, item.object.name)), errno);
        let published = result.map_err(fault)?;
        self.current = Some((item.directory.clone(), directory));
        Ok(published)
    }

    fn place_pair(&mut self, directory: &OwnedFd, item: &mut Planned) -> SystemResult<Published> {
        if let Some(sidecar) = &mut item.sidecar {
            let kept_out = item.object.differs_in(directory.as_fd())?;
            if kept_out || self.place_piece(directory, &item.directory, sidecar)? == Published::Other {
                return Ok(Published::Other);
            }
        }
        self.place_piece(directory, &item.directory, &mut item.object)
    }

    fn place_piece(&mut self, directory: &OwnedFd, path: &str, piece: &mut Piece) -> SystemResult<Published> {
        match piece.staged.place_new(directory, &piece.name) {
            Ok(()) => return Ok(Published::New),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let Some(file) = piece.same_in(directory.as_fd())? else { return Ok(Published::Other) };
        if self.tree.is_suspect(path) {
            // A second sync would succeed and prove nothing; the same bytes in a new file are proven.
            piece.staged.place_over(directory, &piece.name)?;
        } else if self.tree.durability == Durability::Each {
            rustix::fs::fsync(&file)?;
        } else {
            self.found_same = true;
        }
        Ok(Published::Same)
    }

    fn enter(&mut self, path: &str) -> Result<OwnedFd, Error> {
        if let Some((current, directory)) = self.current.take()
            && current == path
        {
            return Ok(directory);
        }
        self.touched.insert(path.to_owned());
        self.tree.make_dir(path).map_err(|errno| failed("publish", self.tree.shown(path), errno))
    }

    fn sync_dirs(&self, witness: &Witness) -> Result<(), Error> {
        let touched = self.touched.iter().map(String::as_str);
        self.tree.sync_dirs(touched, witness).map_err(|errno| failed("publish", &self.tree.path, errno))
    }
}

fn sha256(file: &mut File) -> std::io::Result<[u8; 32]> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => context.update(&buffer[..read]),
        }
    }
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(context.finish().as_ref());
    Ok(sha256)
}
