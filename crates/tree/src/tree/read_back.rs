//! Reading a restored tree back and comparing it with the written data. The sender's own reader runs over the
//! clone, and its records are compared with the [`Ledger`]. Nothing is written. The caller ensures that
//! nothing comes from a cache.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::ledger::{self, Facts, Ledger, key};
use super::{SendOptions, TreeSource, source};
use crate::block::OpenBlock;
use crate::compress::Compress;
use crate::error::SendError;
use crate::hashing::{dir_hash, root_hash};
use crate::meta::Meta;
use crate::progress::Progress;
use crate::record::{self, Cursor, Kind, Malformed, Record};

/// Most differences that are named. A clone with more needs another disk, not a longer list.
pub const MAX_NAMED_DIFFERENCES: usize = 20;

/// The directory that a file system has in its root by itself (mke2fs).
const MADE_BY_MKFS: &[u8] = b"lost+found";

/// The result of reading back.
#[derive(Debug, Clone, Default)]
pub struct ReadBack {
    /// Entries that are no directories.
    pub files: u64,
    /// Bytes of content read.
    pub bytes: u64,
    /// The entries that are not as they were written.
    pub differences: Differences,
}

/// The entries that are not as they were written: the first ones by name, the others counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    named: Vec<(PathBuf, String)>,
    count: u64,
}

impl Differences {
    /// True if everything is as it was written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the number of entries that differ.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// One line for each of the first [`MAX_NAMED_DIFFERENCES`].
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.named
            .iter()
            .map(|(path, what)| format!("{}: {what}", path.display()))
    }

    fn add(&mut self, path: PathBuf, what: impl Into<String>) {
        self.count += 1;
        if self.named.len() < MAX_NAMED_DIFFERENCES {
            self.named.push((path, what.into()));
        }
    }

    /// Adds the reader's own problems: an entry that it could not read looks to the checker like another
    /// difference.
    fn explain(&mut self, path: PathBuf, what: String) {
        match self.named.iter_mut().find(|(named, _)| *named == path) {
            Some((_, said)) => *said = what,
            None => self.add(path, what),
        }
    }
}

impl fmt::Display for Differences {
    /// Writes all differences on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<_> = self.lines().collect();
        f.write_str(&named.join("; "))?;
        match self.count.saturating_sub(named.len() as u64) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// Reads the restored trees and compares every entry with `ledger`. Paths are reported as beneath `base`.
/// `made` are directories beneath it that the caller made itself, so they may exist although the stream had
/// none. An example is `/a/b` on the way to a file system mounted at `/a/b/c`, if `/a` travelled empty.
/// `look` is called often, with the differences so far; its error ends everything.
///
/// # Errors
/// [`SendError::Emit`] with the error of `look`; a root that cannot be opened. Entries that cannot be read
/// are differences.
pub fn read_back(
    trees: &[TreeSource],
    base: &Path,
    ledger: &Ledger,
    made: &[PathBuf],
    mut look: impl FnMut(&Differences) -> io::Result<()>,
    progress: &Progress,
) -> Result<ReadBack, SendError> {
    let options = SendOptions {
        compress: Compress::Never,
        ..SendOptions::default()
    };
    let inflater = zstd::bulk::Decompressor::new();
    let mut inflater = inflater.map_err(|error| SendError::Threads(format!("starting zstd: {error}")))?;
    let mut checker = Checker::new(trees, base, ledger, made);
    let emit = |block: Vec<u8>| {
        look(&checker.differences)?;
        let block = OpenBlock::open(block, &mut inflater).map_err(io::Error::other)?;
        checker.block(block.records()).map_err(io::Error::other)
    };
    let sent = source::send(trees, &options, emit, progress)?;
    let mut differences = checker.differences;
    for problem in sent.problems.kept() {
        let what = problem.to_string();
        let path = problem.path.display().to_string();
        let what = what.strip_prefix(&format!("{path}: ")).unwrap_or(&what);
        differences.explain(shown(base, &problem.path), what.to_owned());
    }
    Ok(ReadBack {
        files: sent.totals.files,
        bytes: sent.totals.bytes,
        differences,
    })
}

fn shown(base: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(base)
        .map_or_else(|_| path.to_owned(), |below| Path::new("/").join(below))
}

/// A directory that the records are in.
struct Frame {
    hash: [u8; 32],
    name: Vec<u8>,
    /// The entry as it should be; `None` in a directory that is not compared.
    expected: Option<Facts>,
    meta: u64,
    /// Entries that are there and should be.
    found: u64,
}

/// A file that comes in extents.
struct Big {
    name: Vec<u8>,
    group: Option<u64>,
    meta: u64,
    sum: u64,
}

/// Holds records against the ledger, in the order of the stream.
struct Checker<'a> {
    ledger: &'a Ledger,
    base: &'a Path,
    made: HashSet<&'a Path>,
    roots: HashMap<u32, &'a Path>,
    root: &'a Path,
    stack: Vec<Frame>,
    big: Option<Big>,
    /// Files with several names: what they are and how many names are still to come.
    groups: HashMap<u64, (Facts, u32)>,
    names: u32,
    differences: Differences,
}

impl<'a> Checker<'a> {
    fn new(trees: &'a [TreeSource], base: &'a Path, ledger: &'a Ledger, made: &'a [PathBuf]) -> Self {
        let roots = trees.iter().map(|tree| (tree.mount_id, tree.root.as_path()));
        Self {
            ledger,
            base,
            made: made.iter().map(PathBuf::as_path).collect(),
            roots: roots.collect(),
            root: base,
            stack: Vec::new(),
            big: None,
            groups: HashMap::new(),
            names: 0,
            differences: Differences::default(),
        }
    }

    fn block(&mut self, mut records: &[u8]) -> Result<(), Malformed> {
        while let Some(record) = record::take(&mut records)? {
            self.record(&record)?;
        }
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), Malformed> {
        let mut body = Cursor(record.body);
        match record.kind {
            Kind::Root => {
                let mount_id = body.u32()?;
                body.u64()?;
                self.root = self.roots.get(&mount_id).copied().unwrap_or(self.base);
                let meta = Meta::take_root(&mut body)?;
                self.enter(root_hash(mount_id), record.kind, &meta);
            }
            Kind::Dir => {
                body.u64()?;
                body.u64()?;
                let meta = Meta::take(&mut body)?;
                let hash = self.place_of(meta.name);
                self.enter(hash, record.kind, &meta);
            }
            Kind::DirEnd => self.leave(),
            Kind::File | Kind::Symlink | Kind::Special => {
                let meta = Meta::take(&mut body)?;
                let facts = Facts {
                    meta: self.ledger.rule.meta(record.kind, &meta),
                    content: ledger::whole(record.kind, body.0),
                };
                if let Some(link) = record.link {
                    self.groups
                        .insert(link.group, (facts, link.names.saturating_sub(1)));
                }
                self.entry(meta.name, facts);
            }
            Kind::Big => self.begin_big(record, body)?,
            Kind::Extent => {
                body.u64()?;
                let offset = body.u64()?;
                if let Some(big) = &mut self.big {
                    big.sum = big.sum.wrapping_add(ledger::content_sum(offset, body.0));
                }
            }
            Kind::BigEnd => {
                body.u64()?;
                let size = body.u64()?;
                self.end_big(size);
            }
            Kind::Link => {
                let group = body.u64()?;
                let name = body.name()?;
                self.link(group, name);
            }
            Kind::At | Kind::End | Kind::RawBegin | Kind::RawData | Kind::RawEnd => {}
        }
        Ok(())
    }

    fn place_of(&self, name: &[u8]) -> [u8; 32] {
        let parent = self.stack.last().map_or([0; 32], |frame| frame.hash);
        dir_hash(&parent, name)
    }

    fn enter(&mut self, hash: [u8; 32], kind: Kind, meta: &Meta<'_>) {
        let expected = if kind == Kind::Root {
            self.ledger.find(key(&hash))
        } else {
            self.expect(&hash, meta.name)
        };
        self.stack.push(Frame {
            hash,
            name: meta.name.to_vec(),
            expected,
            meta: self.ledger.rule.meta(kind, meta),
            found: 0,
        });
    }

    fn leave(&mut self) {
        let Some(frame) = self.stack.last() else { return };
        let told = frame.expected.and_then(|expected| {
            let (found, all) = (frame.found, expected.content);
            if found != all {
                return Some(format!("{found} of its {all} entries are there"));
            }
            (!expected.has_meta(frame.meta)).then(|| META_DIFFERS.to_owned())
        });
        if let Some(what) = told {
            let path = self.path(b"");
            self.differences.add(path, what);
        }
        self.stack.pop();
    }

    fn entry(&mut self, name: &[u8], facts: Facts) {
        let Some(expected) = self.expect(&self.place_of(name), name) else {
            return;
        };
        if facts.content != expected.content {
            let path = self.path(name);
            self.differences.add(path, "its content is not what was written");
        } else if !expected.has_meta(facts.meta) {
            let path = self.path(name);
            self.differences.add(path, META_DIFFERS);
        }
    }

    /// Returns the expected facts of the entry `name` of the innermost directory. An unexpected one is
    /// reported. Entries that mkfs has made, and those below an unexpected directory, are not compared.
    fn expect(&mut self, place: &[u8; 32], name: &[u8]) -> Option<Facts> {
        let in_root = self.stack.len() == 1;
        let frame = self.stack.last_mut()?;
        frame.expected?;
        let expected = self.ledger.find(key(place));
        if expected.is_some() {
            frame.found += 1;
        } else if !(in_root && name == MADE_BY_MKFS) {
            let path = self.path(name);
            if !self.made.contains(path.as_path()) {
                self.differences.add(path, "the golden node has no such file");
            }
        }
        expected
    }

    fn begin_big(&mut self, record: &Record<'_>, mut body: Cursor<'_>) -> Result<(), Malformed> {
        body.u64()?;
        body.u64()?;
        let meta = Meta::take(&mut body)?;
        self.names = record.link.map_or(0, |link| link.names);
        self.big = Some(Big {
            name: meta.name.to_vec(),
            group: record.link.map(|link| link.group),
            meta: self.ledger.rule.meta(record.kind, &meta),
            sum: 0,
        });
        Ok(())
    }

    fn end_big(&mut self, size: u64) {
        let Some(big) = self.big.take() else { return };
        let facts = Facts {
            meta: big.meta,
            content: ledger::content(Kind::Big, size, big.sum),
        };
        if let Some(group) = big.group {
            self.groups.insert(group, (facts, self.names.saturating_sub(1)));
        }
        self.entry(&big.name, facts);
    }

    fn link(&mut self, group: u64, name: &[u8]) {
        let Some((facts, left)) = self.groups.get_mut(&group) else {
            return;
        };
        let facts = *facts;
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.groups.remove(&group);
        }
        self.entry(name, facts);
    }

    fn path(&self, name: &[u8]) -> PathBuf {
        let mut path = self.root.to_path_buf();
        let names = self.stack.iter().skip(1).map(|frame| &*frame.name);
        path.extend(
            names
                .chain([name])
                .filter(|name| !name.is_empty())
                .map(OsStr::from_bytes),
        );
        shown(self.base, &path)
    }
}

const META_DIFFERS: &str = "its owner, mode, times, attributes or flags are not what was written";
