//! The table of what is served, and nothing else is: files by name, menus made for whoever asks.
//!
//! TFTP and HTTP look up here. A name is a key, never a path: what is not in the table does not exist.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use crate::config::{Served, Source};
use crate::error::PxeError;
use crate::menu::maker::MenuMaker;
use crate::menu::{Origin, grub, names};

/// Who asks, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// The address that asks.
    pub(crate) peer: Ipv4Addr,
    /// Our address that was asked.
    pub(crate) local: Ipv4Addr,
}

/// The table.
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

/// Something to be sent.
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

    /// Puts a file into the table, in place of one of the same name.
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

    /// Looks a name up, as it came from the wire. `None`: there is no such thing.
    ///
    /// Blocks: a menu may take a place in the list of the armed, on disk.
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
    /// Something in memory.
    pub(crate) fn of_bytes(bytes: Bytes) -> Self {
        Self {
            len: bytes.len() as u64,
            source: Opened::Bytes(bytes),
        }
    }

    /// Its length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Reads up to `max` bytes at an offset; fewer at the end only. Blocks when they are in a file.
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

    /// Whether reading never waits for a disk.
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
