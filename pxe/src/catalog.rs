//! The table of served files and menus. A file has a name; a menu is made for the machine that asks.
//!
//! TFTP and HTTP look up names here. A name is a key, never a path: a name that is not in the table does not
//! exist.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use crate::error::PxeError;
use crate::menu::{Origin, grub, names};
use crate::menus::MenuMaker;
use crate::served::{Served, Source};

/// Both ends of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// The address that sent the request.
    pub(crate) peer: Ipv4Addr,
    /// The server's own address that received it.
    pub(crate) local: Ipv4Addr,
}

/// The table of served files, and the maker of menus.
#[derive(Debug)]
pub(crate) struct Catalog {
    files: RwLock<BTreeMap<String, Stored>>,
    menus: MenuMaker,
    http_port: u16,
}

#[derive(Debug, Clone)]
enum Stored {
    Path(PathBuf),
    Bytes(Bytes),
}

/// Content to be sent: an open file, or bytes in memory.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    source: Opened,
    len: u64,
}

#[derive(Debug, Clone)]
enum Opened {
    File(Arc<File>),
    Bytes(Bytes),
}

impl Catalog {
    pub(crate) fn new(menus: MenuMaker, http_port: u16) -> Self {
        let text = Bytes::from_static(grub::HTTP_PROBE_TEXT.as_bytes());
        let probe = (grub::HTTP_PROBE.to_owned(), Stored::Bytes(text));
        Self {
            files: RwLock::new(BTreeMap::from([probe])),
            menus,
            http_port,
        }
    }

    pub(crate) fn menus(&self) -> &MenuMaker {
        &self.menus
    }

    pub(crate) fn origin(&self, addr: Ipv4Addr) -> Origin {
        Origin {
            addr,
            http_port: self.http_port,
        }
    }

    /// Adds a file to the table. Replaces a file of the same name.
    pub(crate) fn add(&self, served: Served) -> Result<(), PxeError> {
        let name = crate::names::plain(served.name.as_bytes()).ok_or_else(|| PxeError::Setting {
            option: "a file's name",
            text: format!("`{}` cannot be asked for by any boot program", served.name),
        })?;
        let stored = match served.source {
            Source::Bytes(bytes) => Stored::Bytes(bytes.into()),
            Source::Path(path) => {
                open(&path).map_err(|source| PxeError::File {
                    doing: "opening",
                    path: path.clone(),
                    source,
                })?;
                Stored::Path(path)
            }
        };
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        files.insert(name, stored);
        Ok(())
    }

    /// Looks up a name as it came from the wire. Returns `None` if the table does not have it.
    ///
    /// Blocks: making a menu may write the state of the machine to disk.
    pub(crate) fn find(&self, raw: &[u8], request: Request) -> io::Result<Option<Content>> {
        let Some(name) = crate::names::plain(raw) else {
            return Ok(None);
        };
        let stored = {
            let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
            files.get(&name).cloned()
        };
        match stored {
            Some(Stored::Bytes(bytes)) => Ok(Some(Content::of_bytes(bytes))),
            Some(Stored::Path(path)) => open(&path).map(Some),
            None => Ok(names::asked(&name, request.peer)
                .and_then(|asked| self.menus.answer(asked, request.peer, self.origin(request.local)))
                .map(|text| Content::of_bytes(text.into()))),
        }
    }
}

impl Content {
    /// Content that is in memory.
    pub(crate) fn of_bytes(bytes: Bytes) -> Self {
        Self {
            len: bytes.len() as u64,
            source: Opened::Bytes(bytes),
        }
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Reads up to `max` bytes at an offset. Returns fewer bytes only at the end. Blocks if the content is a
    /// file.
    pub(crate) fn read_at(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        let left = self.len.saturating_sub(offset);
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(max);
        match &self.source {
            Opened::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(start..start + want))
            }
            Opened::File(file) => {
                let mut buffer = vec![0; want];
                file.read_exact_at(&mut buffer, offset)?;
                Ok(buffer.into())
            }
        }
    }

    /// True if reading never waits for a disk.
    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self.source, Opened::Bytes(_))
    }
}

fn open(path: &std::path::Path) -> io::Result<Content> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(Content {
        len: meta.len(),
        source: Opened::File(Arc::new(file)),
    })
}
