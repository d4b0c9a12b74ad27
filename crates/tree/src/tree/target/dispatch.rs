//! Reads the stream in order: makes directories, gives everything else to the writers.

mod dirs;
mod files;

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::chunk::{Chunk, Item};
use super::dir::Dir;
use super::file::BigFile;
use super::links::Groups;
use super::root::Root;
use super::shared::{Halt, Shared};
use crate::block::OpenBlock;
use crate::digest::TreeDigest;
use crate::error::RestoreError;
use crate::fd_budget::Permit;
use crate::record::{self, Cursor, Kind, Malformed, Record};
use crate::sync::lock;
use crate::tree::{Tally, TreeTotals};

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
    /// The beginning of the consecutive entries of the innermost directory that no item covers yet.
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
            self.items.push(Item::Entries {
                dir: frame.dir.hold(),
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
