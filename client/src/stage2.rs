//! The stream `getstage2`: tools and storage drivers for a node that was booted from the network and has none.
//!
//! It comes before the plan, in front of everything that could need a tool. A node on a full system has its own: it
//! takes the stream, so that its successors get it, and drops it.

use anyhow::Context;
use ka_transport::StreamReader;

use crate::session::Session;

/// Takes the stream.
///
/// # Errors
/// The stream broke off; nothing has been written.
pub(crate) fn receive(session: &Session<'_>, mut reader: StreamReader) -> anyhow::Result<()> {
    while reader.recv().context("receiving the tools")?.is_some() {
        session.stop.check()?;
    }
    reader.finish(Ok(())).context("ending the stream of tools")
}
