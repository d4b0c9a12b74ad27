//! Where the bytes of a stream come from: the golden tree, a partition, the operator's command or file. Each feed
//! gives blocks to one sink and knows nothing of the chain behind it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, anyhow};
use crossbeam_channel::{Receiver, Sender, bounded, select};
use ka_host::run::Shell;
use ka_transport::{StreamWriter, TransportError};

use crate::monitor::FeedProgress;
use crate::settings::Input;
use crate::stop::Stop;

/// Blocks read ahead of the chain. The chain's own window does the rest.
const READ_AHEAD_BLOCKS: usize = 4;

/// A stream that is being sent, counted.
pub(crate) struct Sink {
    writer: StreamWriter,
    progress: Arc<FeedProgress>,
}

impl Sink {
    /// Sends into `writer` and counts in `progress`.
    pub(crate) fn new(writer: StreamWriter, progress: Arc<FeedProgress>) -> Self {
        Self { writer, progress }
    }

    /// Sends one block; waits while the chain is full.
    ///
    /// # Errors
    /// No node is left, or the run was ended.
    pub(crate) fn send(&mut self, block: Vec<u8>) -> Result<(), TransportError> {
        let len = block.len() as u64;
        self.writer.send(block)?;
        self.progress.sent.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }

    /// [`Sink::send`] for the image crate, which knows only I/O errors.
    ///
    /// # Errors
    /// As [`Sink::send`].
    pub(crate) fn emit(&mut self, block: Vec<u8>) -> io::Result<()> {
        self.send(block).map_err(io::Error::other)
    }

    /// The counters.
    pub(crate) fn progress(&self) -> Arc<FeedProgress> {
        Arc::clone(&self.progress)
    }

    /// The stream's end, to be finished; dropping it instead ends the stream as failed for every node.
    pub(crate) fn into_writer(self) -> StreamWriter {
        self.writer
    }
}

/// Sends everything that `input` gives.
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
    // This thread stays until the child has ended: the kernel kills the child with the thread that started it.
    let mut child = Shell::new(command).spawn_producer()?;
    let stdout = child.take_stdout().context("connecting to the command")?;
    read_ahead(stdout, "the command's output", block_bytes, stop, sink)?;
    child.wait(None)?;
    Ok(())
}

fn from_file(path: &Path, block_bytes: usize, stop: &Stop, sink: &mut Sink) -> Result<()> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    // Only advice; a pipe has no read-ahead (ESPIPE).
    nix::fcntl::posix_fadvise(&file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL).ok();
    read_ahead(file, &path.display().to_string(), block_bytes, stop, sink)
}

/// Reads on a thread of its own, so that a source that says nothing does not keep the run from being stopped.
/// That thread is left behind then: it ends with its source, or with the process.
fn read_ahead<R: Read + Send + 'static>(
    source: R,
    what: &str,
    block_bytes: usize,
    stop: &Stop,
    sink: &mut Sink,
) -> Result<()> {
    let (filled, blocks) = bounded(READ_AHEAD_BLOCKS);
    let read = move || read_blocks(source, block_bytes, &filled);
    std::thread::Builder::new()
        .name("reader".into())
        .spawn(read)
        .context("starting the reader")?;
    while let Some(block) = next_block(&blocks, stop)? {
        sink.send(block.with_context(|| format!("reading {what}"))?)?;
    }
    Ok(())
}

fn next_block(blocks: &Receiver<io::Result<Vec<u8>>>, stop: &Stop) -> Result<Option<io::Result<Vec<u8>>>> {
    select! {
        recv(blocks) -> block => Ok(block.ok()),
        recv(stop.stopped()) -> _ => Err(stop.check().err().unwrap_or_else(|| anyhow!("stopped"))),
    }
}

/// Full blocks, whatever pieces the source comes in. Ends at its end, its first error, or when nobody listens.
fn read_blocks(mut source: impl Read, block_bytes: usize, filled: &Sender<io::Result<Vec<u8>>>) {
    loop {
        let mut block = Vec::with_capacity(block_bytes);
        let read = source.by_ref().take(block_bytes as u64).read_to_end(&mut block);
        let is_last = block.len() < block_bytes || read.is_err();
        if !block.is_empty() && filled.send(Ok(block)).is_err() {
            return;
        }
        if let Err(error) = read {
            // Nobody listens any more: then nobody needs to know.
            filled.send(Err(error)).ok();
        }
        if is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};

    use crossbeam_channel::bounded;

    use super::read_blocks;

    /// Gives its bytes in pieces of three and then, maybe, an error.
    struct Dripping(Vec<u8>, Option<io::ErrorKind>);

    impl Read for Dripping {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = self.0.len().min(3).min(buffer.len());
            if len == 0
                && let Some(kind) = self.1.take()
            {
                return Err(kind.into());
            }
            buffer[..len].copy_from_slice(&self.0[..len]);
            self.0.drain(..len);
            Ok(len)
        }
    }

    fn blocks(bytes: usize, fails: Option<io::ErrorKind>) -> Vec<io::Result<usize>> {
        let (filled, blocks) = bounded(100);
        read_blocks(Dripping(vec![7; bytes], fails), 10, &filled);
        drop(filled);
        blocks
            .iter()
            .map(|block| block.map(|block| block.len()))
            .collect()
    }

    #[test]
    fn blocks_are_full_whatever_pieces_the_command_writes() {
        let lens: Vec<_> = blocks(25, None).into_iter().map(Result::unwrap).collect();
        assert_eq!(lens, [10, 10, 5]);
        let lens: Vec<_> = blocks(20, None).into_iter().map(Result::unwrap).collect();
        assert_eq!(lens, [10, 10]);
        assert!(blocks(0, None).is_empty());
    }

    #[test]
    fn an_error_comes_after_what_was_read_before_it() {
        let blocks = blocks(15, Some(io::ErrorKind::ConnectionReset));
        assert_eq!(blocks.len(), 3);
        assert!(blocks[2].is_err());
    }
}
