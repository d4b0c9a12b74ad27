//! Reads the stream in order: makes directories, gives everything else to the writers.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Sender;
use rustix::fd::OwnedFd;
use rustix::fs::{self, FileType, Mode};

use super::chunk::{Chunk, Item};
use super::dir::{Dir, NewDir};
use super::file::{BigEnd, BigFile};
use super::links::{Group, Groups};
use super::root::{DIR_FLAGS, Place, Root};
use super::{Halt, Shared, lock};
use crate::block::OpenBlock;
use crate::digest::TreeDigest;
use crate::error::RestoreError;
use crate::fd_budget::{CountedFd, Permit};
use crate::hashing::root_hash;
use crate::meta::Meta;
use crate::record::{self, Cursor, Kind, Malformed, Record};
use crate::tree::{MAX_DEPTH, Tally, TreeTotals};

/// Entries of directories under way, kept for their end: far beyond honest trees, bearable for a small node.
const MAX_KEPT_BYTES: usize = 64 * 1024 * 1024;

struct Frame {
    dir: Arc<Dir>,
    /// Device and inode, noted when the directory is closed for a while.
    identity: Option<(u64, u64)>,
}

/// The thread that reads the stream.
pub(super) struct Dispatcher<'a, B> {
    shared: &'a Shared<'a>,
    roots: HashMap<u32, Arc<Root>>,
    chunks: Sender<Chunk<B>>,
    inflater: zstd::bulk::Decompressor<'static>,
    stack: Vec<Frame>,
    big: Option<OpenBig>,
    groups: Groups,
    tally: Tally,
    end: Option<TreeTotals>,
    block: Option<Arc<OpenBlock<B>>>,
    items: Vec<Item>,
    /// Where consecutive entries of the innermost directory begin that no item covers yet.
    entries_from: Option<usize>,
}

struct OpenBig {
    file: Arc<BigFile>,
    extents: u64,
    reached: u64,
}

impl<'a, B: AsRef<[u8]> + Send + Sync> Dispatcher<'a, B> {
    pub(super) fn new(
        shared: &'a Shared<'a>,
        roots: HashMap<u32, Arc<Root>>,
        chunks: Sender<Chunk<B>>,
    ) -> Result<Self, RestoreError> {
        let inflater = zstd::bulk::Decompressor::new();
        let inflater = inflater.map_err(|error| RestoreError::Threads(format!("starting zstd: {error}")))?;
        Ok(Self {
            shared,
            roots,
            chunks,
            inflater,
            stack: Vec::new(),
            big: None,
            groups: Groups::default(),
            tally: Tally::default(),
            end: None,
            block: None,
            items: Vec::new(),
            entries_from: None,
        })
    }

    /// Everything until the end of the stream; returns what its end record says. Writers end after this.
    pub(super) fn run(
        mut self,
        next: &mut impl FnMut() -> io::Result<Option<B>>,
    ) -> Result<TreeTotals, Halt> {
        let read = self.read(next);
        lock(&self.shared.tally).merge(&self.tally);
        read?;
        // Without an end it is truncated, unless a writer knows better.
        self.end.ok_or(Halt)
    }

    fn read(&mut self, next: &mut impl FnMut() -> io::Result<Option<B>>) -> Result<(), Halt> {
        while let Some(block) = next().map_err(|error| self.shared.fail(RestoreError::Next(error)))? {
            if self.shared.is_stopped() {
                return Err(Halt);
            }
            let opened = OpenBlock::open(block, &mut self.inflater);
            let block = Arc::new(opened.map_err(|reason| self.shared.fail(RestoreError::Stream(reason)))?);
            self.block = Some(Arc::clone(&block));
            self.records(block.records())?;
            self.hand_out(block.records().len())?;
            self.block = None;
        }
        Ok(())
    }

    fn records(&mut self, records: &[u8]) -> Result<(), Halt> {
        let mut rest = records;
        loop {
            let from = records.len() - rest.len();
            let Some(record) = self.checked(record::take(&mut rest))? else {
                return Ok(());
            };
            let at = from..records.len() - rest.len();
            if self.end.is_some() {
                return Err(self.refuse("something follows its end"));
            }
            let is_plain_entry =
                record.link.is_none() && matches!(record.kind, Kind::File | Kind::Symlink | Kind::Special);
            if is_plain_entry && self.big.is_none() && !self.stack.is_empty() {
                self.entries_from.get_or_insert(at.start);
                continue;
            }
            self.close_entries(at.start);
            self.record(&record, at)?;
        }
    }

    fn record(&mut self, record: &Record<'_>, at: Range<usize>) -> Result<(), Halt> {
        let mut body = Cursor(record.body);
        let in_big = matches!(record.kind, Kind::Extent | Kind::BigEnd | Kind::At);
        if self.big.is_some() && !in_big {
            return Err(self.refuse("a large file is not ended"));
        }
        match record.kind {
            Kind::Root => self.enter_root(body),
            Kind::Dir => self.enter(body),
            Kind::DirEnd => {
                let id = self.checked(body.u64())?;
                self.checked(body.end())?;
                self.leave(id)
            }
            Kind::At => {
                let id = self.checked(body.u64())?;
                self.checked(body.end())?;
                if self.top()?.id == id {
                    Ok(())
                } else {
                    Err(self.refuse("it jumps between directories"))
                }
            }
            Kind::File | Kind::Symlink | Kind::Special => self.first_name(record, at),
            Kind::Link => {
                let group = self.checked(body.u64())?;
                self.link(group, body, at)
            }
            Kind::Big => self.begin_big(record),
            Kind::Extent => self.extent(body, at),
            Kind::BigEnd => self.end_big(body),
            Kind::End => self.end_of_stream(body),
            Kind::RawBegin | Kind::RawData | Kind::RawEnd => {
                Err(self.refuse("it holds a partition, not a tree"))
            }
        }
    }

    fn enter_root(&mut self, mut body: Cursor<'_>) -> Result<(), Halt> {
        if !self.stack.is_empty() {
            return Err(self.refuse("a root lies within another one"));
        }
        let mount_id = self.checked(body.u32())?;
        let id = self.checked(body.u64())?;
        let entry = body.0;
        let meta = self.checked(Meta::take_root(&mut body))?;
        self.checked(body.end())?;
        let Some(root) = self.roots.get(&mount_id).cloned() else {
            return Err(self.shared.fail(RestoreError::UnknownMount(mount_id)));
        };
        self.check_directory(&meta, entry.len())?;
        let permit = self.permit()?;
        let new = NewDir { id, entry, meta };
        let dir = Dir::root(self.shared, Place::root(root), root_hash(mount_id), &new, permit)?;
        self.stack.push(Frame { dir, identity: None });
        Ok(())
    }

    fn enter(&mut self, mut body: Cursor<'_>) -> Result<(), Halt> {
        let id = self.checked(body.u64())?;
        let parent_id = self.checked(body.u64())?;
        let entry = body.0;
        let meta = self.checked(Meta::take(&mut body))?;
        self.checked(body.end())?;
        let parent = self.top()?;
        if parent.id != parent_id || self.stack.len() >= MAX_DEPTH {
            return Err(self.refuse("a directory lies where none can be"));
        }
        self.check_directory(&meta, entry.len())?;
        let permit = self.permit()?;
        let dir = Dir::make(self.shared, &parent, &NewDir { id, entry, meta }, permit)?;
        self.close_idle();
        self.stack.push(Frame { dir, identity: None });
        Ok(())
    }

    fn check_directory(&self, meta: &Meta<'_>, entry_len: usize) -> Result<(), Halt> {
        if FileType::from_raw_mode(meta.mode) != FileType::Directory {
            return Err(self.refuse("a directory whose mode says another type"));
        }
        if self.shared.kept_bytes.fetch_add(entry_len, Ordering::Relaxed) > MAX_KEPT_BYTES {
            return Err(self.refuse("its directories have more attributes than can be kept"));
        }
        Ok(())
    }

    fn leave(&mut self, id: u64) -> Result<(), Halt> {
        let Some(frame) = self.stack.pop_if(|frame| frame.dir.id == id) else {
            return Err(self.refuse("a directory ends that is not the innermost one"));
        };
        self.reopen_top(&frame.dir)?;
        frame.dir.release(self.shared, &mut self.tally)
    }

    /// Opens the directory that is innermost now, if it was closed: up from its child, or down from the root.
    fn reopen_top(&mut self, child: &Dir) -> Result<(), Halt> {
        let Some(identity) = self.stack.last_mut().and_then(|frame| frame.identity.take()) else {
            return Ok(());
        };
        let permit = self.permit()?;
        let dir = self.top()?;
        let is_it = |fd: &OwnedFd| identity_of(fd) == Some(identity);
        let up = child
            .fd()
            .and_then(|child| fs::openat(&*child, c"..", DIR_FLAGS, Mode::empty()).ok());
        let fd = match up.filter(is_it) {
            Some(fd) => fd,
            None => dir
                .place
                .open()
                .map_err(|error| self.shared.write_failed("opening", &dir.place.path(), error))?,
        };
        dir.reopened(CountedFd::new(fd, permit));
        Ok(())
    }

    /// Keeps the descriptors of a deep tree bounded.
    fn close_idle(&mut self) {
        let Some(index) = self.stack.len().checked_sub(self.shared.fds.max_idle()) else {
            return;
        };
        let frame = &mut self.stack[index];
        if let Some(fd) = frame.dir.fd()
            && let Some(identity) = identity_of(&*fd)
        {
            frame.identity = Some(identity);
            frame.dir.close();
        }
    }

    fn first_name(&mut self, record: &Record<'_>, at: Range<usize>) -> Result<(), Halt> {
        let dir = self.top()?;
        let Some(link) = record.link else {
            return Err(self.refuse("an entry lies in no directory"));
        };
        let meta = self.checked(Meta::take(&mut Cursor(record.body)))?;
        let group = Group::new(&dir, meta.name);
        self.groups
            .begin(link, Arc::clone(&group))
            .map_err(|reason| self.refuse(reason))?;
        dir.hold();
        self.items.push(Item::First { dir, at, group });
        Ok(())
    }

    fn link(&mut self, group: u64, mut body: Cursor<'_>, at: Range<usize>) -> Result<(), Halt> {
        let name = self.checked(body.name())?;
        self.checked(body.end())?;
        let dir = self.top()?;
        let group = self.groups.again(group).map_err(|reason| self.refuse(reason))?;
        dir.hold();
        self.items.push(Item::Link {
            dir,
            at: at.end - name.len()..at.end,
            group,
        });
        Ok(())
    }

    fn begin_big(&mut self, record: &Record<'_>) -> Result<(), Halt> {
        let mut body = Cursor(record.body);
        let id = self.checked(body.u64())?;
        let size = self.checked(body.u64())?;
        let entry = body.0;
        let meta = self.checked(Meta::take(&mut body))?;
        self.checked(body.end())?;
        let is_file = FileType::from_raw_mode(meta.mode) == FileType::RegularFile;
        if !is_file || i64::try_from(size).is_err() {
            return Err(self.refuse("a large file of impossible type or size"));
        }
        let dir = self.top()?;
        let group = record.link.map(|_| Group::new(&dir, meta.name));
        if let (Some(link), Some(group)) = (record.link, &group) {
            self.groups
                .begin(link, Arc::clone(group))
                .map_err(|reason| self.refuse(reason))?;
        }
        let permit = self.permit()?;
        let file = BigFile::begin(self.shared, &dir, id, size, entry, group, permit)?;
        let reached = if file.has_size() { size } else { 0 };
        self.big = Some(OpenBig {
            file,
            extents: 0,
            reached,
        });
        Ok(())
    }

    fn extent(&mut self, mut body: Cursor<'_>, at: Range<usize>) -> Result<(), Halt> {
        let id = self.checked(body.u64())?;
        let offset = self.checked(body.u64())?;
        let end = offset
            .checked_add(body.0.len() as u64)
            .filter(|end| i64::try_from(*end).is_ok());
        let (Some(big), Some(end)) = (self.big.as_mut().filter(|big| big.file.id == id), end) else {
            return Err(self.refuse("content of no file"));
        };
        big.extents += 1;
        big.reached = big.reached.max(end);
        big.file.hold();
        let file = Arc::clone(&big.file);
        // The offset and the content.
        let from = at.end - body.0.len() - 8;
        self.items.push(Item::Extent {
            file,
            at: from..at.end,
        });
        Ok(())
    }

    fn end_big(&mut self, mut body: Cursor<'_>) -> Result<(), Halt> {
        let id = self.checked(body.u64())?;
        let hashed = body.0;
        let size = self.checked(body.u64())?;
        let extents = self.checked(body.u64())?;
        let _changed = self.checked(body.u8())?;
        self.checked(body.end())?;
        let Some(OpenBig {
            file,
            extents: seen,
            reached,
        }) = self.big.take().filter(|big| big.file.id == id)
        else {
            return Err(self.refuse("a large file ends that was not begun"));
        };
        if seen != extents || i64::try_from(size).is_err() {
            return Err(self.refuse("content of a large file is missing"));
        }
        file.end(BigEnd { size, reached }, hashed, &mut self.tally);
        file.release(self.shared, &mut self.tally)
    }

    fn end_of_stream(&mut self, mut body: Cursor<'_>) -> Result<(), Halt> {
        if !self.stack.is_empty() {
            return Err(self.refuse("it ends within a directory"));
        }
        let files = self.checked(body.u64())?;
        let directories = self.checked(body.u64())?;
        let bytes = self.checked(body.u64())?;
        let digest = TreeDigest::from_bytes(self.checked(body.digest())?);
        self.checked(body.end())?;
        self.end = Some(TreeTotals {
            files,
            directories,
            bytes,
            digest,
        });
        Ok(())
    }

    /// Makes an item of the consecutive entries that end at `to`.
    fn close_entries(&mut self, to: usize) {
        if let Some(from) = self.entries_from.take()
            && let Some(frame) = self.stack.last()
        {
            frame.dir.hold();
            self.items.push(Item::Entries {
                dir: Arc::clone(&frame.dir),
                at: from..to,
            });
        }
    }

    /// Gives the writers what is collected of this block.
    fn hand_out(&mut self, to: usize) -> Result<(), Halt> {
        self.close_entries(to);
        let Some(block) = self.block.clone().filter(|_| !self.items.is_empty()) else {
            return Ok(());
        };
        let items = std::mem::take(&mut self.items);
        self.chunks.send(Chunk { block, items }).map_err(|_| Halt)
    }

    fn permit(&mut self) -> Result<Permit, Halt> {
        if let Some(permit) = self.shared.fds.try_take() {
            return Ok(permit);
        }
        // Writers give descriptors back only when they get what is collected here.
        debug_assert!(
            self.entries_from.is_none(),
            "entries are closed before a record is looked at"
        );
        self.hand_out(0)?;
        self.shared.fds.take(&self.shared.stop).ok_or(Halt)
    }

    fn top(&self) -> Result<Arc<Dir>, Halt> {
        match self.stack.last() {
            Some(frame) => Ok(Arc::clone(&frame.dir)),
            None => Err(self.refuse("an entry lies in no directory")),
        }
    }

    fn refuse(&self, reason: &'static str) -> Halt {
        self.shared.damaged(Malformed(reason))
    }

    fn checked<T>(&self, parsed: Result<T, Malformed>) -> Result<T, Halt> {
        parsed.map_err(|malformed| self.shared.damaged(malformed))
    }
}

fn identity_of(dir: impl rustix::fd::AsFd) -> Option<(u64, u64)> {
    fs::fstat(dir).ok().map(|stat| (stat.st_dev, stat.st_ino))
}
