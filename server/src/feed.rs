//! Sources of a stream's bytes: the golden tree, a partition, the operator's command or file. Each feed gives
//! blocks to one sink and knows nothing of the chain behind it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use ka_host::run::Shell;
use ka_transport::{StreamWriter, TransportError};
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Advice, OFlags, fadvise, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::fcntl_setpipe_size;

use crate::monitor::FeedProgress;
use crate::settings::Input;
use crate::stop::Stop;

/// Size of the pipe from the command, in bytes. It holds several blocks, so that neither side is woken for
/// every 64 KiB.
const PIPE_BYTES: usize = 1 << 20;

/// Time that a command has to exit after it has closed its output. The nodes wait meanwhile.
const COMMAND_END_LIMIT: Duration = Duration::from_secs(60);

/// A stream that is being sent, with counters.
pub(crate) struct Sink {
    writer: StreamWriter,
    progress: Arc<FeedProgress>,
}

impl Sink {
    /// Returns a sink that sends into `writer` and counts in `progress`.
    pub(crate) fn new(writer: StreamWriter, progress: Arc<FeedProgress>) -> Self {
        Self { writer, progress }
    }

    /// Sends one block. Waits while the chain is full.
    ///
    /// # Errors
    /// No node is left, or the run was ended.
    pub(crate) fn send(&mut self, block: Vec<u8>) -> Result<(), TransportError> {
        let len = block.len() as u64;
        self.writer.send(block)?;
        self.progress.sent.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }

    /// Sends as [`Sink::send`] does, but returns the I/O errors that `ka_tree` expects.
    ///
    /// # Errors
    /// As [`Sink::send`].
    pub(crate) fn emit(&mut self, block: Vec<u8>) -> io::Result<()> {
        self.send(block).map_err(io::Error::other)
    }

    /// Returns the block size that suits the chain, in bytes.
    pub(crate) fn block_len(&self) -> usize {
        self.writer.block_len()
    }

    /// Returns an empty vector for the next block. It reuses the memory of an earlier block, if there is
    /// some.
    fn buffer(&self, capacity: usize) -> Vec<u8> {
        self.writer.buffer(capacity)
    }

    /// Returns the counters.
    pub(crate) fn progress(&self) -> Arc<FeedProgress> {
        Arc::clone(&self.progress)
    }

    /// Returns the writer, to be finished. If it is dropped instead, the stream fails on every node.
    pub(crate) fn into_writer(self) -> StreamWriter {
        self.writer
    }
}

/// Sends everything that `input` supplies.
///
/// # Errors
/// The command fails, the file cannot be read, no node is left, or the run is stopped.
pub(crate) fn generic(input: &Input, block_bytes: usize, stop: &Stop, sink: &mut Sink) -> Result<()> {
    match input {
        Input::Command(command) => from_command(command, block_bytes, stop, sink),
        Input::File(path) => from_file(path, block_bytes, stop, sink),
    }
}

fn from_command(command: &str, block_bytes: usize, stop: &Stop, sink: &mut Sink) -> Result<()> {
    // The child is dropped on any early return, which kills it. This thread outlives it, as the kernel's
    // death signal requires.
    let mut child = Shell::new(command).spawn_producer()?;
    let stdout = child.take_stdout().context("connecting to the command")?;
    // A smaller pipe (the unprivileged limit of /proc/sys/fs/pipe-max-size) only costs speed.
    fcntl_setpipe_size(&stdout, PIPE_BYTES).ok();
    fcntl_setfl(&stdout, OFlags::NONBLOCK).context("preparing the command's output")?;
    send_all(&stdout, "the command's output", block_bytes, stop, sink)?;
    Ok(child.wait(Some(COMMAND_END_LIMIT))?)
}

fn from_file(path: &Path, block_bytes: usize, stop: &Stop, sink: &mut Sink) -> Result<()> {
    let file = open_input(path, stop)?;
    send_all(&file, &path.display().to_string(), block_bytes, stop, sink)
}

/// Opens without waiting. A named pipe without a writer must not keep the run from being stopped.
fn open_input(path: &Path, stop: &Stop) -> Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.with_context(|| format!("opening {}", path.display()))?;
    if file.metadata().is_ok_and(|what| what.file_type().is_fifo()) {
        // A pipe that had no writer yet reads as one at its end (pipe(7)). poll knows the difference.
        wait(file.as_fd(), stop)?;
    }
    // The advice is optional; a pipe does not take it.
    fadvise(&file, 0, None, Advice::Sequential).ok();
    Ok(file)
}

fn send_all(source: impl AsFd, what: &str, block_bytes: usize, stop: &Stop, sink: &mut Sink) -> Result<()> {
    loop {
        let mut block = sink.buffer(block_bytes);
        let more =
            fill(source.as_fd(), &mut block, block_bytes, stop).with_context(|| format!("reading {what}"))?;
        if !block.is_empty() {
            sink.send(block)?;
        }
        if !more {
            return Ok(());
        }
    }
}

/// Fills `block` up to `block_bytes`, in whatever pieces the source delivers. Returns false at the source's
/// end.
fn fill(source: BorrowedFd<'_>, block: &mut Vec<u8>, block_bytes: usize, stop: &Stop) -> Result<bool> {
    block.clear();
    block.reserve_exact(block_bytes);
    while block.len() < block_bytes {
        match rustix::io::read(source, spare_capacity(block)) {
            Ok(0) => return Ok(false),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(source, stop)?,
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
    }
    Ok(true)
}

/// Waits until the source has data, or has ended.
fn wait(source: BorrowedFd<'_>, stop: &Stop) -> Result<()> {
    let mut fds = [
        PollFd::from_borrowed_fd(source, PollFlags::IN),
        PollFd::from_borrowed_fd(stop.fd(), PollFlags::IN),
    ];
    match poll(&mut fds, None) {
        Ok(_) | Err(Errno::INTR) => stop.check(),
        Err(errno) => Err(io::Error::from(errno).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Write};
    use std::os::fd::AsFd;

    use rustix::fs::{CWD, Mode, OFlags, fcntl_setfl, mkfifoat};

    use super::{fill, open_input};
    use crate::stop::Stop;

    fn dripping(pieces: &'static [usize]) -> PipeReader {
        let (reader, mut writer) = std::io::pipe().unwrap();
        fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
        std::thread::spawn(move || {
            for len in pieces {
                writer.write_all(&vec![7; *len]).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        });
        reader
    }

    fn lens(pieces: &'static [usize]) -> Vec<usize> {
        let (source, stop) = (dripping(pieces), Stop::new().unwrap());
        let mut lens = Vec::new();
        loop {
            // A used buffer comes back like this: full of other data, and of another capacity.
            let mut block = vec![9; 3];
            let more = fill(source.as_fd(), &mut block, 10, &stop).unwrap();
            assert!(block.iter().all(|byte| *byte == 7));
            lens.push(block.len());
            if !more {
                return lens;
            }
        }
    }

    #[test]
    fn blocks_are_full_whatever_pieces_the_command_writes() {
        assert_eq!(lens(&[3, 3, 19]), [10, 10, 5]);
        assert_eq!(lens(&[20]), [10, 10, 0]);
        assert_eq!(lens(&[]), [0]);
    }

    #[test]
    fn a_named_pipe_is_waited_for_until_somebody_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        let stop = Stop::new().unwrap();
        std::thread::scope(|scope| {
            let source = scope.spawn(|| open_input(&path, &stop));
            std::thread::sleep(std::time::Duration::from_millis(20));
            std::fs::write(&path, b"late").unwrap();
            let mut block = Vec::new();
            fill(source.join().unwrap().unwrap().as_fd(), &mut block, 10, &stop).unwrap();
            assert_eq!(block, b"late");
        });
    }

    #[test]
    fn a_source_that_says_nothing_does_not_keep_the_run_from_being_stopped() {
        let (reader, _silent) = std::io::pipe().unwrap();
        fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
        let stop = Stop::new().unwrap();
        let other = stop.clone();
        let stopper = std::thread::spawn(move || other.stop("SIGINT"));
        let error = fill(reader.as_fd(), &mut Vec::new(), 10, &stop).unwrap_err();
        assert_eq!(error.to_string(), "stopped by SIGINT");
        assert!(stopper.join().unwrap());
    }
}
