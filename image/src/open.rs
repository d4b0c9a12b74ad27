//! The store and the key that the options name.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use ka_store::{Directory, OperatorKey, Store};

use crate::args::Options;

/// Opens a store that must exist.
pub(crate) fn existing(options: &Options) -> anyhow::Result<Store> {
    let directory = Directory::open(&options.store)?;
    let key = match read_key(&options.key)? {
        Some(key) => key,
        // It only reads, and public images need no key for that.
        None if options.public => OperatorKey::random()?,
        None => bail!("{} is missing: it is the key of the store", options.key.display()),
    };
    Ok(if options.public {
        Store::public(Box::new(directory), key)
    } else {
        Store::open(Box::new(directory), key)?
    })
}

/// Opens the store in `directory` to save there; makes store and key where they are missing.
pub(crate) fn to_save(options: &Options, directory: &Path) -> anyhow::Result<Store> {
    let directory = Directory::create(directory)?;
    let key = match read_key(&options.key)? {
        Some(key) => key,
        None => make_key(&options.key)?,
    };
    Ok(if options.public {
        Store::public(Box::new(directory), key)
    } else {
        Store::create(Box::new(directory), key)?
    })
}

fn read_key(path: &Path) -> anyhow::Result<Option<OperatorKey>> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let key = OperatorKey::from_text(&text).with_context(|| format!("reading {}", path.display()))?;
            Ok(Some(key))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

fn make_key(path: &Path) -> anyhow::Result<OperatorKey> {
    let key = OperatorKey::random()?;
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(format!("{}\n", key.to_text()).as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))?;
    Ok(key)
}
