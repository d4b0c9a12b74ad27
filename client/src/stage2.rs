//! The stream `getstage2`: tools and storage drivers for a node that was booted from the network and has
//! none.
//!
//! The stream comes before the plan, because everything from there on may need a tool. A node whose system is
//! in memory unpacks the tools there, once the end of the stream has arrived and its signature is good. A
//! node on an installed system has its own tools: it receives the stream, so that its successors get it, and
//! drops it.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use ka_cli::error_text;
use ka_host::system;
use ka_report::event::Step;
use ka_report::text::size;
use ka_transport::StreamReader;

use crate::ending::Setback;
use crate::failure::Failure;
use crate::incoming::IncomingStream;
use crate::init::{self, HeldArchive, Limits};
use crate::session::Session;
use crate::steps::run_step;

/// Memory that is needed beside the buffer, bytes: that of a clone (`clone::checks`), and of programs that
/// run from these tools.
const WORKING_MEMORY_BYTES: u64 = 64 << 20;
/// Most entries and bytes of an archive of tools: the largest seen has 3000 and 150 MiB.
const MAX_ENTRIES: u64 = 100_000;
const MAX_BYTES: u64 = 2 << 30;

/// The tools of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tools {
    /// An installed system has its own.
    Installed,
    /// A system in memory that gets them from the server.
    Awaited,
    /// A system in memory that has got them, in this attempt or an earlier one.
    Unpacked,
}

/// Receives the stream.
///
/// # Errors
/// The stream broke off, or it cannot be unpacked; no disk has been touched.
pub(crate) fn receive(session: &Session<'_>, tools: &mut Tools, reader: StreamReader) -> Result<(), Setback> {
    let mut stream = IncomingStream::new(reader);
    let ended = match tools {
        // Those of an earlier round are unpacked, and their drivers loaded.
        Tools::Installed | Tools::Unpacked => {
            let dropped = drop_tools(session, &mut stream);
            stream.finish(dropped)
        }
        Tools::Awaited => {
            let unpacked = run_step(Step::Stage2, session.journal, session.stop, || {
                unpack_tools(session, &mut stream)
            });
            let is_unpacked = unpacked.is_ok();
            let ended = stream.finish(unpacked);
            if is_unpacked {
                *tools = Tools::Unpacked;
                load_drivers(session);
            }
            ended
        }
    };
    ended.map_err(|failed| session.sit_out(failed, Failure::NothingDone))
}

fn drop_tools(session: &Session<'_>, stream: &mut IncomingStream) -> anyhow::Result<()> {
    while stream.recv().context("receiving the tools")?.is_some() {
        session.stop.check()?;
    }
    Ok(())
}

/// Not one byte of the tools is anywhere but in memory without a name before the stream's end is proved.
fn unpack_tools(session: &Session<'_>, stream: &mut IncomingStream) -> anyhow::Result<()> {
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
            Ok(stream.recv()?)
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

/// Loads the drivers. A failure shows as a missing disk when disks are chosen, with the disks that there are.
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
