//! Files that need more than one record or more than one name.

use std::ops::Range;
use std::sync::Arc;

use rustix::fs::FileType;

use super::{Dispatcher, OpenBig};
use crate::meta::Meta;
use crate::record::{Cursor, Record};
use crate::tree::target::chunk::Item;
use crate::tree::target::file::{BigEnd, BigFile, NewBigFile};
use crate::tree::target::links::Group;
use crate::tree::target::shared::Halt;

impl<B: AsRef<[u8]> + Send + Sync> Dispatcher<'_, B> {
    pub(super) fn first_name(&mut self, record: &Record<'_>, at: Range<usize>) -> Result<(), Halt> {
        let dir = self.top()?;
        let Some(link) = record.link else {
            return Err(self.refuse("an entry lies in no directory"));
        };
        let meta = self.checked(Meta::take(&mut Cursor(record.body)))?;
        let group = Group::new(&dir, meta.name);
        self.groups
            .begin(link, Arc::clone(&group))
            .map_err(|reason| self.refuse(reason))?;
        let dir = dir.hold();
        self.items.push(Item::First { dir, at, group });
        Ok(())
    }

    pub(super) fn link(&mut self, group: u64, mut body: Cursor<'_>, at: Range<usize>) -> Result<(), Halt> {
        let name = self.checked(body.name())?;
        self.checked(body.end())?;
        let dir = self.top()?;
        let group = self.groups.again(group).map_err(|reason| self.refuse(reason))?;
        self.items.push(Item::Link {
            dir: dir.hold(),
            at: at.end - name.len()..at.end,
            group,
        });
        Ok(())
    }

    pub(super) fn begin_big(&mut self, record: &Record<'_>) -> Result<(), Halt> {
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
        let new = NewBigFile {
            id,
            size,
            entry,
            group,
        };
        let file = BigFile::begin(self.shared, &dir, new, permit)?;
        let reached = if file.has_size() { size } else { 0 };
        self.big = Some(OpenBig {
            file,
            extents: 0,
            reached,
        });
        Ok(())
    }

    pub(super) fn extent(&mut self, mut body: Cursor<'_>, at: Range<usize>) -> Result<(), Halt> {
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

    pub(super) fn end_big(&mut self, mut body: Cursor<'_>) -> Result<(), Halt> {
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
}
