//! Writing out while data comes in.
//!
//! The kernel leaves dirty pages alone until a tenth of the memory is full of them or they are 30 s old
//! (`Documentation/admin-guide/sysctl/vm.rst`: `dirty_background_ratio`, `dirty_expire_centisecs`). On a node
//! with much memory the disk would be idle while the line is busy, and the line idle while the disk is busy
//! at the end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::Scope;
use std::time::Duration;

use anyhow::Context;
use ka_tree::Progress;
use rustix::fs::syncfs;

/// Bytes of content after which they are written out: some seconds' work of a disk, little beside a node's
/// memory. Each time costs a commit of the journal.
const EVERY_BYTES: u64 = 128 << 20;
/// Time between two looks at the bytes.
const LOOK: Duration = Duration::from_millis(50);

/// A thread that calls syncfs(2) now and then, until this is dropped.
#[derive(Debug)]
pub(super) struct WriteOut {
    /// Never used to send: the thread ends when it is gone.
    _alive: Sender<()>,
}

impl WriteOut {
    /// For the file systems mounted at `roots`, while `progress` grows. `scope` waits for the thread, which
    /// may be inside a system call when this is dropped: what it writes had to be written anyway.
    ///
    /// # Errors
    /// A root cannot be opened, or the thread not be started.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        roots: impl Iterator<Item = &'scope Path>,
        progress: &'scope Progress,
    ) -> anyhow::Result<Self> {
        let roots = roots.map(open).collect::<anyhow::Result<Vec<_>>>()?;
        let (alive, over) = channel::<()>();
        let work = move || {
            let mut written = 0;
            while over.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                let restored = progress.bytes();
                if restored >= written + EVERY_BYTES {
                    written = restored;
                    roots.iter().for_each(write_out);
                }
            }
        };
        std::thread::Builder::new()
            .name("write-out".to_owned())
            .spawn_scoped(scope, work)
            .context("starting the thread that writes out")?;
        Ok(Self { _alive: alive })
    }
}

/// Opened anew: an error of writing is told once to each open file, and must still be told to the clone's own
/// watches.
fn open(root: &Path) -> anyhow::Result<(PathBuf, File)> {
    let file = File::open(root).with_context(|| format!("opening {}", root.display()))?;
    Ok((root.to_owned(), file))
}

fn write_out((root, file): &(PathBuf, File)) {
    if let Err(error) = syncfs(file) {
        // The clone's own syncfs hears of it as well, and fails the node.
        tracing::debug!(root = %root.display(), %error, "writing out");
    }
}
