//! The generic mode (`-e COMMAND`, `--output FILE`): any stream, any consumer, no disks.
//!
//! Only verified blocks reach the consumer. A stream that breaks must not look complete: the command is
//! killed before its input ends, and a file of ours gets its name only when it is whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use ka_host::run::{Shell, ShellChild};
use ka_report::event::Step;
use ka_report::report::{NodeReport, StreamReport};
use ka_transport::{Order, StreamReader};

use crate::ending::{Ending, Setback};
use crate::failure::Failure;
use crate::incoming::{IncomingStream, StreamFailure};
use crate::session::Session;
use crate::settings::Consumer;
use crate::steps::run_step;

/// Pipe to the command, bytes: a whole block fits, so that writer and command are not woken for every 64 KiB.
const PIPE_BYTES: usize = 1 << 20;

/// Feeds streams to `consumer` until the server releases this node.
///
/// # Errors
/// [`Failure::Began`] once the consumer got a byte, else [`Failure::NothingDone`]; and what this node does
/// next.
pub(crate) fn run(session: &Session<'_>, consumer: &Consumer) -> Result<Ending, Setback> {
    let mut streams = Vec::new();
    let mut reported = false;
    loop {
        let began = !streams.is_empty();
        let order = match session.next_order() {
            Ok(order) => order,
            Err(error) if reported => {
                session
                    .journal
                    .warning(Step::Report, format!("{error}; the stream is complete"));
                return Ok(Ending::Stay);
            }
            Err(error) => return Err(Setback::of_connection(Failure::after(began, error))),
        };
        match order {
            Order::Stream(reader) => {
                let fed = feed(session, consumer, reader);
                streams.push(fed.map_err(|failed| session.sit_out(failed, Failure::Began))?);
            }
            Order::Finish => {
                let report = NodeReport {
                    streams: std::mem::take(&mut streams),
                    peak_memory_bytes: ka_host::system::peak_memory_bytes(),
                    steps: session.journal.record().steps,
                    ..NodeReport::default()
                };
                let told = session.report(&report);
                told.map_err(|error| Setback::of_connection(Failure::Began(error)))?;
                reported = true;
            }
            Order::Release => return Ok(Ending::Stay),
            Order::Aborted { reason, again } => {
                let error = anyhow!("the server ended the run: {reason}");
                return Err(Setback::ordered(Failure::after(began || reported, error), again));
            }
            Order::Prepare(_) | Order::Go | Order::Commit => {
                let reason = "the server clones disks; start this node without -e and --output";
                session.give_up("prepare", reason);
                return Err(Setback::own(Failure::NothingDone(anyhow!(reason))));
            }
        }
    }
}

/// Checks that the output can be written at all, before the server waits for this node. Nothing is opened or
/// made.
///
/// # Errors
/// `--output` names a directory, or a file in a directory that does not exist.
pub(crate) fn check(consumer: &Consumer) -> anyhow::Result<()> {
    let Consumer::File(path) = consumer else {
        return Ok(());
    };
    if path.is_dir() {
        bail!("--output {}: is a directory; name a file in it", path.display());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match parent {
        Some(parent) if !parent.is_dir() => bail!(
            "--output {}: there is no directory {}: make it first",
            path.display(),
            parent.display()
        ),
        _ => Ok(()),
    }
}

fn feed(
    session: &Session<'_>,
    consumer: &Consumer,
    reader: StreamReader,
) -> Result<StreamReport, StreamFailure> {
    let mut stream = IncomingStream::new(reader);
    let name = stream.name().to_owned();
    let fed = run_step(Step::Command, session.journal, session.stop, || match consumer {
        Consumer::Command(command) => feed_command(&mut stream, command),
        Consumer::File(path) => write_file(&mut stream, path),
    });
    let bytes = stream.finish(fed)?;
    Ok(StreamReport {
        name,
        files: 0,
        bytes,
        digest: None,
        problems: Vec::new(),
        problem_count: 0,
    })
}

/// Passes every block to `write`. Returns the bytes of the whole stream.
fn pump(
    stream: &mut IncomingStream,
    mut write: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let mut bytes = 0;
    while let Some(block) = stream.recv()? {
        write(block.as_ref())?;
        bytes += block.as_ref().len() as u64;
    }
    Ok(bytes)
}

fn feed_command(stream: &mut IncomingStream, command: &str) -> anyhow::Result<u64> {
    // Dropping the child on any early return kills it before its input ends.
    let mut child = Shell::new(command).spawn_consumer()?;
    let mut stdin = child.take_stdin().context("connecting to the command")?;
    // A smaller pipe (unprivileged limit in /proc/sys/fs/pipe-max-size) only costs speed.
    let _ = rustix::pipe::fcntl_setpipe_size(&stdin, PIPE_BYTES);
    let fed = pump(stream, |block| match stdin.write_all(block) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(input_closed(&mut child)),
        other => other.context("writing to the command"),
    })?;
    drop(stdin);
    child.wait(None)?;
    Ok(fed)
}

/// Returns the reason for which the command no longer reads: its own failure says more than a broken pipe.
fn input_closed(child: &mut ShellChild) -> anyhow::Error {
    match child.wait(None) {
        Err(error) => error.into(),
        Ok(()) => anyhow!("the command ended before it had read the whole stream"),
    }
}

fn write_file(stream: &mut IncomingStream, path: &Path) -> anyhow::Result<u64> {
    let mut target = Target::open(path)?;
    let bytes = pump(stream, |block| {
        target
            .file
            .write_all(block)
            .with_context(|| format!("writing to {}", path.display()))
    })?;
    target.complete()?;
    Ok(bytes)
}

/// An output file. A regular one is written beside its name and renamed when it is whole.
struct Target {
    file: File,
    path: PathBuf,
    staged: Option<PathBuf>,
}

impl Target {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let kind = path.metadata().ok().map(|meta| meta.file_type());
        let (file, staged) = match kind {
            Some(kind) if kind.is_dir() => bail!("--output {}: is a directory", path.display()),
            Some(kind) if kind.is_block_device() => (ka_host::block::open_exclusive(path)?, None),
            Some(kind) if !kind.is_file() => (
                OpenOptions::new()
                    .write(true)
                    .open(path)
                    .with_context(|| format!("opening {}", path.display()))?,
                None,
            ),
            _ => {
                let mut name = path.as_os_str().to_owned();
                name.push(format!(".part{}", std::process::id()));
                let staged = PathBuf::from(name);
                let file = OpenOptions::new().write(true).create_new(true).open(&staged);
                (
                    file.with_context(|| format!("making {}", staged.display()))?,
                    Some(staged),
                )
            }
        };
        Ok(Self {
            file,
            path: path.to_owned(),
            staged,
        })
    }

    fn complete(&mut self) -> anyhow::Result<()> {
        match self.file.sync_all() {
            // Pipes and /dev/null have nothing to sync (fsync(2): EINVAL).
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => {
                return Err(error).with_context(|| format!("syncing {}", self.path.display()));
            }
            _ => {}
        }
        if let Some(staged) = &self.staged {
            std::fs::rename(staged, &self.path)
                .with_context(|| format!("renaming to {}", self.path.display()))?;
            self.staged = None;
        }
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(staged) = &self.staged
            && let Err(error) = std::fs::remove_file(staged)
        {
            tracing::warn!(%error, file = %staged.display(), "removing an incomplete file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_file_never_gets_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let mut target = Target::open(&path).unwrap();
        target.file.write_all(b"half").unwrap();
        drop(target);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

        let mut target = Target::open(&path).unwrap();
        target.file.write_all(b"whole").unwrap();
        target.complete().unwrap();
        drop(target);
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn dev_null_is_an_output_and_a_directory_is_not() {
        let mut target = Target::open(Path::new("/dev/null")).unwrap();
        target.file.write_all(b"gone").unwrap();
        target.complete().unwrap();
        assert!(Target::open(Path::new("/")).is_err());
        let check = |path: &str| check(&Consumer::File(path.into()));
        assert!(check("/dev/null").is_ok() && check("image").is_ok());
        assert!(check("/").unwrap_err().to_string().contains("is a directory"));
        assert!(
            check("/nosuch/image")
                .unwrap_err()
                .to_string()
                .contains("no directory /nosuch")
        );
    }
}
