//! What a power cut can leave. Owns a model of a disk that is fed a record of file operations and can say, at any
//! moment, some of the states in which a power cut may leave the files; knows nothing of stores.
//!
//! Of a file's bytes, those written before a completed sync are there. Of the others, some policy chooses. Of names
//! (made, renamed, removed), those changed before a completed sync of their directory are there; of the others of each
//! directory, some first ones. With [`Names::Ordered`], as with a journalling file system, any completed sync takes all
//! earlier changes of names along.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use crate::random::Random;
use crate::recorder::Event;

/// What becomes of written bytes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// All are lost, and so are changes of names.
    DropAll,
    /// Each file keeps its first writes, the last of them torn at a sector.
    Prefix,
    /// Each sector is kept or lost by itself.
    Sectors,
    /// Nothing is lost: the death of the process alone.
    KeepAll,
}

pub(crate) const POLICIES: [Policy; 4] = [Policy::DropAll, Policy::Prefix, Policy::Sectors, Policy::KeepAll];

/// How changes of names get to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// Only when their directory is synced.
    Strict,
    /// With any sync that follows.
    Ordered,
}

const SECTOR: usize = 512;

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

impl Change {
    fn apply(&self, contents: &mut Vec<u8>) {
        match self {
            Change::Write { at, bytes } => {
                if contents.len() < at + bytes.len() {
                    contents.resize(at + bytes.len(), 0);
                }
                contents[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Change::Truncate(len) => contents.resize(*len, 0),
        }
    }

    /// Whether nothing can be told any more of some bytes of an earlier change, or of the length that it made.
    fn replaces(&self, earlier: &Change) -> bool {
        match (self, earlier) {
            (Change::Write { at, bytes }, Change::Write { at: earlier, bytes: others }) => {
                *at < earlier + others.len() && *earlier < at + bytes.len()
            }
            (Change::Truncate(_), _) | (_, Change::Truncate(_)) => true,
        }
    }
}

#[derive(Debug, Clone, Default)]
struct FileState {
    durable: Vec<u8>,
    /// What comes on top of that, with the moment of each, and whether a sync can still save it.
    pending: Vec<(u64, Change, bool)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Directory,
    File(usize),
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(PathBuf, Node),
    Remove(PathBuf),
    Move(PathBuf, PathBuf),
}

type Tree = BTreeMap<PathBuf, Node>;

impl NameChange {
    fn apply(&self, tree: &mut Tree) {
        match self {
            NameChange::Set(path, node) => {
                tree.insert(path.clone(), *node);
            }
            NameChange::Remove(path) => {
                tree.remove(path);
            }
            NameChange::Move(from, to) => {
                let moved: Vec<_> = tree.range(from.clone()..).take_while(|(path, _)| path.starts_with(from)).collect();
                let moved: Vec<_> = moved.into_iter().map(|(path, node)| (path.clone(), *node)).collect();
                for (path, node) in moved {
                    tree.remove(&path);
                    tree.insert(to.join(path.strip_prefix(from).expect("below it")), node);
                }
            }
        }
    }

    fn directory(&self) -> &Path {
        let (NameChange::Set(path, _) | NameChange::Remove(path) | NameChange::Move(_, path)) = self;
        path.parent().expect("below the root")
    }
}

/// A disk at some moment of a record.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    root: PathBuf,
    names: Names,
    files: Vec<FileState>,
    live: Tree,
    durable: Tree,
    /// With the moment of each.
    renaming: Vec<(u64, NameChange)>,
    /// Directories that got another path, with the moment of each.
    moved: Vec<(u64, PathBuf, PathBuf)>,
    descriptors: HashMap<u32, Node>,
    paths: HashMap<u32, PathBuf>,
    syncs: HashMap<u64, (u64, u32, Option<Node>, PathBuf)>,
    moment: u64,
}

/// The bytes that a power cut left, by their paths below the root; `None` for a directory.
pub(crate) type Image = BTreeMap<PathBuf, Option<Vec<u8>>>;

impl Disk {
    /// A disk on which the directory `root` holds what is in `base`, all of it synced.
    pub(crate) fn new(root: &Path, names: Names, base: &Image) -> Disk {
        let mut disk = Disk {
            root: root.to_owned(),
            names,
            files: Vec::new(),
            live: Tree::new(),
            durable: Tree::new(),
            renaming: Vec::new(),
            moved: Vec::new(),
            descriptors: HashMap::new(),
            paths: HashMap::new(),
            syncs: HashMap::new(),
            moment: 0,
        };
        disk.live.insert(root.to_owned(), Node::Directory);
        for (path, contents) in base {
            let node = match contents {
                None => Node::Directory,
                Some(bytes) => disk.add(bytes.clone()),
            };
            disk.live.insert(root.join(path), node);
        }
        disk.durable = disk.live.clone();
        disk
    }

    fn add(&mut self, durable: Vec<u8>) -> Node {
        self.files.push(FileState { durable, pending: Vec::new() });
        Node::File(self.files.len() - 1)
    }

    fn rename(&mut self, change: NameChange) {
        change.apply(&mut self.live);
        self.renaming.push((self.moment, change));
    }

    /// The path that a directory has now which had this one at an earlier moment.
    fn now(&self, then: u64, directory: &Path) -> PathBuf {
        let mut path = directory.to_owned();
        for (_, from, to) in self.moved.iter().filter(|(moment, ..)| *moment > then) {
            if let Ok(below) = path.strip_prefix(from) {
                path = if below.as_os_str().is_empty() { to.clone() } else { to.join(below) };
            }
        }
        path
    }

    fn change(&mut self, fd: u32, change: Change) {
        // The shim saw descriptors that were opened below the root only.
        if let Some(Node::File(file)) = self.descriptors.get(&fd) {
            self.files[*file].pending.push((self.moment, change, true));
        }
    }

    /// Takes the next thing that happened into account.
    pub(crate) fn apply(&mut self, event: &Event) {
        self.moment += 1;
        match event {
            Event::Open { fd, path, create, truncate } => {
                let node = match self.live.get(path) {
                    Some(&node) => node,
                    None if *create => {
                        let node = self.add(Vec::new());
                        self.rename(NameChange::Set(path.clone(), node));
                        node
                    }
                    None => return,
                };
                self.descriptors.insert(*fd, node);
                self.paths.insert(*fd, path.clone());
                if *truncate {
                    self.change(*fd, Change::Truncate(0));
                }
            }
            Event::Close { fd } => {
                self.descriptors.remove(fd);
            }
            Event::Write { fd, at, bytes } => {
                self.change(*fd, Change::Write { at: *at as usize, bytes: bytes.clone() });
            }
            Event::Truncate { fd, len } => self.change(*fd, Change::Truncate(*len as usize)),
            Event::SyncBegins { fd, number } => {
                let path = self.paths.get(fd).cloned().unwrap_or_default();
                self.syncs.insert(*number, (self.moment, *fd, self.descriptors.get(fd).copied(), path));
            }
            Event::SyncFails { fd } => {
                if let Some(Node::File(file)) = self.descriptors.get(fd) {
                    self.files[*file].pending.iter_mut().for_each(|pending| pending.2 = false);
                }
            }
            Event::SyncEnds { number } => {
                let (begun, _, node, path) = self.syncs.remove(number).expect("begun");
                if let Some(Node::File(file)) = node {
                    let state = &mut self.files[file];
                    let mut kept: Vec<(u64, Change, bool)> = Vec::new();
                    for pending in state.pending.drain(..) {
                        if pending.0 < begun && pending.2 {
                            // What was to be there before, and may be lost, does not come back in its place.
                            kept.retain(|earlier| !pending.1.replaces(&earlier.1));
                            pending.1.apply(&mut state.durable);
                        } else {
                            kept.push(pending);
                        }
                    }
                    state.pending = kept;
                }
                let all = self.names == Names::Ordered;
                let mut kept = Vec::new();
                for (moment, change) in std::mem::take(&mut self.renaming) {
                    let synced = || node == Some(Node::Directory) && self.now(moment, change.directory()) == path;
                    if moment < begun && (all || synced()) {
                        change.apply(&mut self.durable);
                    } else {
                        kept.push((moment, change));
                    }
                }
                self.renaming = kept;
            }
            Event::Rename { from, to } => {
                if let Some(node) = self.live.get(from) {
                    if *node == Node::Directory {
                        self.moved.push((self.moment, from.clone(), to.clone()));
                    }
                    self.rename(NameChange::Move(from.clone(), to.clone()));
                }
            }
            Event::Link { from, to } => {
                if let Some(&node) = self.live.get(from) {
                    self.rename(NameChange::Set(to.clone(), node));
                }
            }
            Event::Remove { path } => self.rename(NameChange::Remove(path.clone())),
            Event::MakeDirectory { path } => self.rename(NameChange::Set(path.clone(), Node::Directory)),
            Event::Said(_) => {}
        }
    }

    /// A state that a power cut at this moment may leave.
    pub(crate) fn cut(&self, policy: Policy, random: &mut Random) -> Image {
        let mut tree = self.durable.clone();
        // How many of each directory's changes of names are kept.
        let mut left: HashMap<&Path, usize> = HashMap::new();
        for (_, change) in &self.renaming {
            *left.entry(change.directory()).or_default() += 1;
        }
        let mut directories: Vec<_> = left.iter_mut().collect();
        directories.sort();
        for (_, count) in directories {
            *count = match policy {
                Policy::DropAll => 0,
                Policy::KeepAll => *count,
                Policy::Prefix | Policy::Sectors => random.below(*count as u64 + 1) as usize,
            };
        }
        for (_, change) in &self.renaming {
            if let Some(count) = left.get_mut(change.directory())
                && *count > 0
            {
                *count -= 1;
                change.apply(&mut tree);
            }
        }
        let mut image = Image::new();
        for (path, node) in &tree {
            let parent = path.parent().expect("below the root");
            if path == &self.root || !(parent == self.root || matches!(tree.get(parent), Some(Node::Directory))) {
                continue;
            }
            let contents = match node {
                Node::Directory => None,
                Node::File(file) => Some(self.files[*file].cut(policy, random)),
            };
            image.insert(path.strip_prefix(&self.root).expect("below the root").to_owned(), contents);
        }
        image.retain_whole_paths();
        image
    }
}

trait WholePaths {
    fn retain_whole_paths(&mut self);
}

impl WholePaths for Image {
    /// Drops what is in directories that are not there.
    fn retain_whole_paths(&mut self) {
        let known: Vec<PathBuf> = self.iter().filter(|(_, c)| c.is_none()).map(|(path, _)| path.clone()).collect();
        self.retain(|path, _| {
            path.ancestors().skip(1).filter(|a| !a.as_os_str().is_empty()).all(|a| known.iter().any(|k| k == a))
        });
    }
}

impl FileState {
    fn cut(&self, policy: Policy, random: &mut Random) -> Vec<u8> {
        let mut contents = self.durable.clone();
        match policy {
            Policy::DropAll => {}
            Policy::KeepAll => self.pending.iter().for_each(|(_, change, _)| change.apply(&mut contents)),
            Policy::Prefix => {
                let kept = random.below(self.pending.len() as u64 + 1) as usize;
                self.pending[..kept].iter().for_each(|(_, change, _)| change.apply(&mut contents));
                if let Some((_, Change::Write { at, bytes }, _)) = self.pending.get(kept) {
                    // Up to a sector's end inside the write.
                    let sectors = (at + bytes.len()).div_ceil(SECTOR) - at / SECTOR;
                    let end = (at / SECTOR + random.below(sectors as u64 + 1) as usize) * SECTOR;
                    let part = bytes[..end.saturating_sub(*at).min(bytes.len())].to_vec();
                    if !part.is_empty() {
                        Change::Write { at: *at, bytes: part }.apply(&mut contents);
                    }
                }
            }
            Policy::Sectors => {
                if self.pending.is_empty() {
                    return contents;
                }
                let mut full = contents.clone();
                self.pending.iter().for_each(|(_, change, _)| change.apply(&mut full));
                let (shorter, longer) = (contents.len().min(full.len()), contents.len().max(full.len()));
                let len = match random.below(3) {
                    0 => contents.len(),
                    1 => full.len(),
                    _ => (shorter + random.below((longer - shorter) as u64 + 1) as usize)
                        .next_multiple_of(SECTOR)
                        .min(longer),
                };
                contents.resize(len, 0);
                for start in (0..len.min(full.len())).step_by(SECTOR) {
                    let end = (start + SECTOR).min(len).min(full.len());
                    if contents[start..end] != full[start..end] && random.below(2) == 0 {
                        contents[start..end].copy_from_slice(&full[start..end]);
                    }
                }
            }
        }
        contents
    }
}

/// Writes an image into an empty directory.
pub(crate) fn write_image(image: &Image, to: &Path) {
    for (path, contents) in image {
        let path = to.join(path);
        match contents {
            None => fs::create_dir_all(&path).expect("create"),
            Some(bytes) => fs::write(&path, bytes).expect("write"),
        }
    }
}

/// Reads a directory into an image.
pub(crate) fn read_image(from: &Path) -> Image {
    let mut image = Image::new();
    let mut open = vec![from.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("list") {
            let path = entry.expect("entry").path();
            let name = path.strip_prefix(from).expect("below it").to_owned();
            if path.is_dir() {
                image.insert(name, None);
                open.push(path);
            } else {
                image.insert(name, Some(fs::read(&path).expect("read")));
            }
        }
    }
    image
}
