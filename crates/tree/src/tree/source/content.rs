//! Content of regular files: small ones whole in one record, others in extents, holes left out.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::{self, Advice, SeekFrom, Stat};
use rustix::io::Errno;

use super::attrs::{At, Attributes};
use super::dir::Dir;
use super::entry::{Entry, from_stat, same_content};
use super::look::kind_of;
use super::read::{pread_to, read_to};
use super::reader::Reader;
use super::shared::Shared;
use crate::hashing::{self, Domain, entry_hash, hash, piece_hash};
use crate::meta::Meta;
use crate::pipeline::{Output, Stopped};
use crate::problem::ProblemKind;
use crate::record::{Kind, LinkPrefix};

/// With more attributes than this a small file goes the way of the large ones.
const MAX_INLINE_XATTR_BYTES: usize = 64 * 1024;
/// A small file that changes while it is read is read again so often. A large one has gone out by then, in
/// parts.
const RETRIES: u32 = 3;
/// Content this long is worth telling the kernel that it will be read from front to back.
const SEQUENTIAL_BYTES: u64 = 1024 * 1024;
/// After so many unreadable places the rest of a file is given up: the disk is dying, and slow about it.
const MAX_READ_ERRORS: u32 = 16;
/// Extents begin at multiples of this where content is continuous: whole pages for the writer.
const PAGE_BYTES: usize = 4096;

/// A regular file under way.
struct Source<'f> {
    dir: &'f Arc<Dir>,
    name: &'f CStr,
    file: &'f OwnedFd,
    out: &'f Output,
}

impl Reader<'_> {
    /// Sends an open regular file.
    pub(super) fn content(
        &mut self,
        entry: Entry<'_>,
        file: &OwnedFd,
        stat: Stat,
        link: Option<LinkPrefix>,
    ) -> Result<(), Stopped> {
        let Entry { dir, name, out } = entry;
        self.read_attributes(dir, name.to_bytes(), At::Open(file.as_fd()));
        let source = Source { dir, name, file, out };
        if self.is_small(&stat) {
            self.small(&source, stat, link)
        } else {
            self.big(&source, &stat, link)
        }
    }

    /// Whole in one record: not sparse, and no longer than what a block aims for.
    fn is_small(&self, stat: &Stat) -> bool {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        size <= self.packer.target() as u64
            && !is_sparse(stat)
            && self.attributes.list().len() <= MAX_INLINE_XATTR_BYTES
    }

    fn small(&mut self, source: &Source<'_>, first: Stat, link: Option<LinkPrefix>) -> Result<(), Stopped> {
        let mut stat = first;
        let mut tries = 0;
        loop {
            let last_try = tries == RETRIES;
            let meta = meta_of(self.shared, &self.attributes, source, &stat);
            let size = usize::try_from(stat.st_size).unwrap_or(0);
            self.packer
                .room(source.out, source.dir, meta.encoded_len() + size)?;
            let before = self.packer.block().len();
            let body = self.packer.begin(Kind::File, link);
            meta.put(self.packer.block());
            let content = self.packer.block().len();
            let read = read_to(source.file, self.packer.block(), size);
            let after = fs::fstat(source.file);
            let error = match (read, after) {
                (Ok(len), Ok(after)) if len == size && same_content(&stat, &after) => None,
                (Err(errno), _) | (_, Err(errno)) => Some(kind_of(errno)),
                (_, Ok(after)) if !last_try && self.is_small(&after) => {
                    self.packer.rewind(before);
                    // The change may also be in an attribute.
                    self.read_attributes(source.dir, source.name.to_bytes(), At::Open(source.file.as_fd()));
                    stat = after;
                    tries += 1;
                    continue;
                }
                _ => Some(ProblemKind::Changed),
            };
            if let Some(kind) = error {
                mark_changed(self.packer.block(), body);
                self.shared.problem(source.dir, source.name.to_bytes(), kind);
            }
            let bytes = (self.packer.block().len() - content) as u64;
            let record = self.packer.finish(body, link.is_some());
            let (head, bytes_read) = self.packer.bytes(record).split_at(content - body);
            let entry = entry_hash(Kind::File, &source.dir.hash, head, bytes_read);
            self.tally.add_file(&entry, bytes);
            return Ok(());
        }
    }

    fn big(&mut self, source: &Source<'_>, stat: &Stat, link: Option<LinkPrefix>) -> Result<(), Stopped> {
        let id = self.begin_big(source, stat, link)?;
        let place = hashing::dir_hash(&source.dir.hash, source.name.to_bytes());
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if size > SEQUENTIAL_BYTES {
            let _ = fs::fadvise(source.file, 0, None, Advice::Sequential);
        }
        self.packer.new_content();
        let mut content = Extents {
            id,
            place,
            size,
            count: 0,
            errors: 0,
            end: size,
            problem: None,
        };
        self.extents(source, &mut content)?;
        self.packer.new_content();
        let after = fs::fstat(source.file);
        let problem = content.problem.take().or(match after {
            Ok(after) if same_content(stat, &after) => None,
            Ok(_) => Some(ProblemKind::Changed),
            Err(errno) => Some(kind_of(errno)),
        });
        let changed = problem.is_some();
        if let Some(kind) = problem {
            self.shared.problem(source.dir, source.name.to_bytes(), kind);
        }
        self.end_big(source, &content, changed)
    }

    fn begin_big(
        &mut self,
        source: &Source<'_>,
        stat: &Stat,
        link: Option<LinkPrefix>,
    ) -> Result<u64, Stopped> {
        let id = self.shared.next_big();
        let meta = meta_of(self.shared, &self.attributes, source, stat);
        self.packer
            .room(source.out, source.dir, 16 + meta.encoded_len())?;
        let body = self.packer.begin(Kind::Big, link);
        let block = self.packer.block();
        block.extend_from_slice(&id.to_le_bytes());
        block.extend_from_slice(&stat.st_size.to_le_bytes());
        let entry_at = block.len();
        meta.put(block);
        let record = self.packer.finish(body, link.is_some());
        let bytes = self.packer.bytes(entry_at..record.end);
        let entry = entry_hash(Kind::Big, &source.dir.hash, bytes, &[]);
        self.tally.add_file(&entry, 0);
        Ok(id)
    }

    fn end_big(&mut self, source: &Source<'_>, content: &Extents, changed: bool) -> Result<(), Stopped> {
        self.packer.room(source.out, source.dir, 25)?;
        let body = self.packer.begin(Kind::BigEnd, None);
        let block = self.packer.block();
        block.extend_from_slice(&content.id.to_le_bytes());
        let hashed = block.len();
        block.extend_from_slice(&content.end.to_le_bytes());
        block.extend_from_slice(&content.count.to_le_bytes());
        block.push(u8::from(changed));
        let record = self.packer.finish(body, false);
        self.tally.add_part(
            &hash(
                Domain::FileEnd,
                &content.place,
                &[self.packer.bytes(hashed..record.end)],
            ),
            0,
        );
        Ok(())
    }

    /// All data of a file, without its holes.
    fn extents(&mut self, source: &Source<'_>, content: &mut Extents) -> Result<(), Stopped> {
        let mut at = 0;
        while at < content.size {
            let data = match fs::seek(source.file, SeekFrom::Data(at)) {
                Ok(data) => data,
                // Nothing but a hole up to the end.
                Err(Errno::NXIO) => return Ok(()),
                // This file system cannot tell.
                Err(_) => return self.data(source, at, content.size, content),
            };
            let hole = fs::seek(source.file, SeekFrom::Hole(data))
                .unwrap_or(content.size)
                .min(content.size);
            if hole <= data {
                return Ok(());
            }
            self.data(source, data, hole, content)?;
            at = hole;
        }
        Ok(())
    }

    /// The data between two offsets, one extent a block.
    fn data(
        &mut self,
        source: &Source<'_>,
        from: u64,
        to: u64,
        content: &mut Extents,
    ) -> Result<(), Stopped> {
        let most = (self.packer.target() / PAGE_BYTES * PAGE_BYTES) as u64;
        let mut at = from;
        while at < to && content.end == content.size && content.errors < MAX_READ_ERRORS {
            let len = usize::try_from((to - at).min(most)).unwrap_or(PAGE_BYTES);
            self.packer.room(source.out, source.dir, 16 + len)?;
            let before = self.packer.block().len();
            let body = self.packer.begin(Kind::Extent, None);
            let block = self.packer.block();
            block.extend_from_slice(&content.id.to_le_bytes());
            block.extend_from_slice(&at.to_le_bytes());
            let data_at = block.len();
            match pread_to(source.file, block, at, len) {
                Ok(0) => {
                    self.packer.rewind(before);
                    content.shrunk_to(at);
                }
                Ok(read) => {
                    let record = self.packer.finish(body, false);
                    let data = self.packer.bytes(data_at..record.end);
                    let part = piece_hash(Domain::Extent, &content.place, at, data);
                    self.tally.add_part(&part, read as u64);
                    content.count += 1;
                    if read < len {
                        // The file ends here, or cannot be read from here on: the next read tells.
                        at += read as u64;
                        continue;
                    }
                }
                Err(errno) => {
                    self.packer.rewind(before);
                    content.unreadable(at, errno);
                }
            }
            self.tell_progress();
            at += len as u64;
        }
        Ok(())
    }
}

/// The progress through the content of a large file.
struct Extents {
    id: u64,
    place: [u8; 32],
    /// The size when it was begun, bytes.
    size: u64,
    /// Its size by now, bytes: less where it has shrunk.
    end: u64,
    count: u64,
    errors: u32,
    problem: Option<ProblemKind>,
}

impl Extents {
    fn shrunk_to(&mut self, size: u64) {
        self.end = size;
        self.problem = Some(ProblemKind::Changed);
    }

    fn unreadable(&mut self, at: u64, errno: Errno) {
        self.errors += 1;
        let reason = format!("at byte {at}: {}", std::io::Error::from(errno));
        self.problem.get_or_insert(ProblemKind::Unreadable(reason));
    }
}

fn meta_of<'m>(
    shared: &Shared<'_>,
    attributes: &'m Attributes,
    source: &Source<'m>,
    stat: &Stat,
) -> Meta<'m> {
    let flags = &shared.flags[source.dir.source];
    Meta {
        flags: flags.flags(source.file),
        project: flags.project(source.file),
        xattrs: attributes.list(),
        name: source.name.to_bytes(),
        ..from_stat(stat)
    }
}

/// Fewer 512-byte blocks than the size needs: there is a hole somewhere, or the file system packs.
fn is_sparse(stat: &Stat) -> bool {
    stat.st_blocks.saturating_mul(512) < stat.st_size
}

/// Sets the mark in the first byte of an entry, which tells its parts; see `Meta::put`.
fn mark_changed(block: &mut [u8], body: usize) {
    block[body] |= crate::meta::IS_CHANGED;
}
