//! The stream `getstage2`: tools and storage drivers for a node that was booted from the network and has none.
//!
//! It comes before the plan, in front of everything that could need a tool. A node whose system is in memory
//! unpacks it there, once the end of the stream is here and signed; a node on a full system has its own tools: it takes
//! the stream, so that its successors get it, and drops it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context;
use ka_host::system;
use ka_status::event::Step;
use ka_status::text::{error_text, size};
use ka_transport::StreamReader;

use crate::init::{self, HeldArchive, Limits};
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

/// Not one byte of the tools is anywhere but in memory without a name before the stream's end is proved.
fn unpack_tools(session: &Session<'_>, reader: &mut StreamReader) -> anyhow::Result<()> {
    let limits = Limits {
        reserve_bytes: session.options.buffer.0 as u64 + WORKING_MEMORY_BYTES,
        available: &system::available_memory_bytes,
        archive: ka_cpio::Limits {
            entries: MAX_ENTRIES,
            bytes: MAX_BYTES,
        },
    };
    let archive = HeldArchive::collect(
        || {
            session.stop.check()?;
            reader.recv().map_err(|error| {
                session.note_broken_stream();
                error.into()
            })
        },
        &limits,
    )?;
    let unpacked = archive.unpack(Path::new("/"), &limits)?;
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
