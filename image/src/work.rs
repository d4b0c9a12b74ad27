//! `save` and `export`: a tree into the store, and out of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use ka_store::Totals;
use ka_tree::tree::{self, RestoreOptions, SendOptions, TreeSource, TreeTarget};
use ka_tree::{Compress, Progress};

use crate::args::{Options, Save};
use crate::{open, report};

/// The number of the only tree of an image.
const ROOT: u32 = 1;

/// An export that failed after it had begun to write; the text names its directory.
#[derive(Debug)]
pub(crate) struct Begun(String);

impl std::fmt::Display for Begun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is incomplete", self.0)
    }
}

/// Saves a tree as a new version.
pub(crate) fn save(options: &Options, save: &Save) -> anyhow::Result<String> {
    let root = fs::canonicalize(&save.root).with_context(|| format!("opening {}", save.root.display()))?;
    ensure!(root.is_dir(), "{} is no directory", root.display());
    let store = open::to_save(options, &options.store)?;
    let mut saver = store.save(&save.name, &root.to_string_lossy())?;
    // Neither the store nor the key may be in its own image.
    let own: io::Result<Vec<PathBuf>> = [&options.store, &options.key]
        .iter()
        .map(fs::canonicalize)
        .collect();
    let send = SendOptions {
        golden_root: root.clone(),
        excluded: save.excluded.clone(),
        skip: own.unwrap_or_default(),
        compress: Compress::Never,
        ..SendOptions::default()
    };
    let emit = |block: Vec<u8>| saver.block(&block).map_err(io::Error::other);
    let sent = tree::send(
        &[TreeSource { mount_id: ROOT, root }],
        &send,
        emit,
        &Progress::new(),
    )?;
    let totals = Totals {
        files: sent.totals.files,
        directories: sent.totals.directories,
        bytes: sent.totals.bytes,
        digest: sent.totals.digest.to_bytes(),
    };
    let version = saver.finish(totals)?;
    for problem in sent.problems.kept() {
        ka_cli::say(&format!("warning: {problem}"));
    }
    if options.json {
        return Ok(report::line(&report::json(&version)));
    }
    Ok(format!(
        "saved {}\n{}",
        report::name(&version),
        report::details(&version)
    ))
}

/// Makes the tree of a version again in an empty directory.
pub(crate) fn export(options: &Options, name: &str, dir: &Path) -> anyhow::Result<String> {
    let store = open::existing(options)?;
    let version = store.version(name)?;
    let mut reader = store.read(&version)?;
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let empty = fs::read_dir(dir)
        .with_context(|| format!("reading {}", dir.display()))?
        .next()
        .is_none();
    ensure!(
        empty,
        "{} is not empty: export needs an empty directory",
        dir.display()
    );
    let target = TreeTarget {
        mount_id: ROOT,
        root: dir.to_owned(),
    };
    let next = || reader.next_block().map_err(io::Error::other);
    let restored = tree::restore(&[target], &RestoreOptions::default(), next, &Progress::new())
        .with_context(|| Begun(dir.display().to_string()))?;
    for warning in &restored.warnings {
        ka_cli::say(&format!("warning: {warning}"));
    }
    ensure!(
        restored.totals.digest.to_bytes() == version.totals().digest,
        Begun(format!("{}: the tree digest differs; it", dir.display()))
    );
    if options.json {
        return Ok(report::line(&report::json(&version)));
    }
    Ok(format!(
        "exported {} to {}\n",
        report::name(&version),
        dir.display()
    ))
}
