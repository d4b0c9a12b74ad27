//! The stream `getstage2`: tools and storage drivers for a node that was booted from the network and has none.
//!
//! It comes before the plan, in front of everything that could need a tool. A node whose system is in memory unpacks it
//! there; a node on a full system has its own tools: it takes the stream, so that its successors get it, and drops it.

use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context;
use ka_host::system;
use ka_status::event::Step;
use ka_status::text::{error_text, size};
use ka_transport::{Block, StreamReader};

use crate::init::{self, Limits};
use crate::session::{Session, System};
use crate::steps::run_step;

/// Beside the buffer: what a clone works with (`clone::checks`), and programs that run from these tools.
const WORKING_MEMORY_BYTES: u64 = 64 << 20;
/// Most entries and bytes of an archive of tools: the largest seen has 3000 and 150 MiB.
const MAX_ENTRIES: u64 = 100_000;
const MAX_BYTES: u64 = 2 << 30;
/// Whether this machine has its tools.
static UNPACKED: AtomicBool = AtomicBool::new(false);

/// Takes the stream.
///
/// # Errors
/// The stream broke off, or it cannot be unpacked; no disk has been touched.
pub(crate) fn receive(session: &Session<'_>, mut reader: StreamReader) -> anyhow::Result<()> {
    match session.system {
        // Those of the round before are unpacked, and their drivers loaded.
        System::Memory if UNPACKED.load(Ordering::Relaxed) => {
            drop_tools(session, &mut reader)?;
            return reader.finish(Ok(())).context("ending the stream of tools");
        }
        System::Full => drop_tools(session, &mut reader)?,
        System::Memory => {
            let unpacked = run_step(Step::Stage2, session.journal, session.stop, || {
                unpack_tools(session, &mut reader)
            });
            if let Err(error) = unpacked {
                session.note_failed_consumer();
                drop(reader.finish(Err(error.to_string())));
                session.linger();
                return Err(error.into());
            }
            UNPACKED.store(true, Ordering::Relaxed);
        }
    }
    reader.finish(Ok(())).context("ending the stream of tools")?;
    if session.system == System::Memory {
        load_drivers(session);
    }
    Ok(())
}

fn drop_tools(session: &Session<'_>, reader: &mut StreamReader) -> anyhow::Result<()> {
    while reader.recv().context("receiving the tools")?.is_some() {
        session.stop.check()?;
    }
    Ok(())
}

fn unpack_tools(session: &Session<'_>, reader: &mut StreamReader) -> anyhow::Result<()> {
    let blocks = Blocks {
        reader,
        session,
        block: None,
        at: 0,
    };
    let limits = Limits {
        reserve_bytes: session.options.buffer.0 as u64 + WORKING_MEMORY_BYTES,
        available: &system::available_memory_bytes,
        archive: ka_cpio::Limits {
            entries: MAX_ENTRIES,
            bytes: MAX_BYTES,
        },
    };
    let unpacked = init::unpack_compressed(blocks, Path::new("/"), &limits)?;
    session.journal.news(
        Step::Stage2,
        format!("{} files, {}", unpacked.files, size(unpacked.bytes)),
    );
    Ok(())
}

/// What fails here shows as a missing disk when disks are chosen, with the disks that there are.
fn load_drivers(session: &Session<'_>) {
    let journal = session.journal;
    let began = Instant::now();
    journal.started(Step::Drivers);
    match init::prepare_disks() {
        Ok((loaded, problems)) => {
            journal.news(Step::Drivers, loaded);
            for problem in problems {
                journal.warning(Step::Drivers, problem);
            }
        }
        Err(error) => journal.warning(Step::Drivers, error_text(error.as_ref())),
    }
    journal.done(Step::Drivers, began.elapsed());
}

/// A stream's blocks as one run of bytes.
struct Blocks<'a> {
    reader: &'a mut StreamReader,
    session: &'a Session<'a>,
    block: Option<Block>,
    at: usize,
}

impl Read for Blocks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(block) = &self.block {
                let rest = block.as_ref().get(self.at..).unwrap_or_default();
                if !rest.is_empty() {
                    let count = rest.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&rest[..count]);
                    self.at += count;
                    return Ok(count);
                }
            }
            self.session.stop.check().map_err(io::Error::other)?;
            self.block = self.reader.recv().map_err(|error| {
                self.session.note_broken_stream();
                io::Error::other(error)
            })?;
            self.at = 0;
            if self.block.is_none() {
                return Ok(0);
            }
        }
    }
}
