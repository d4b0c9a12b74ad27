//! `getstage2`: the first stream of a run, tools and storage drivers for nodes that were booted from the network.

use anyhow::{Context, Result};
use ka_disk::spec::STAGE2_STREAM;
use ka_proto::StreamName;

use crate::feed::Sink;
use crate::run::Run;

/// Sends the image to every node, once, however many there are. It is compressed already.
///
/// # Errors
/// No node is left, or the run is stopped.
pub(crate) fn send(run: &mut Run<'_>, image: &[u8]) -> Result<()> {
    run.enter(&format!("receiving {STAGE2_STREAM}"))?;
    let name = StreamName::new(STAGE2_STREAM).context("naming the stream")?;
    let writer = run.server.open_stream(&name)?;
    let what = "sending tools and drivers";
    let progress = run
        .monitor
        .stream_started(STAGE2_STREAM, what, Some(image.len() as u64));
    let mut sink = Sink::new(writer, progress);
    let block_bytes = run.settings.block_bytes.unwrap_or_else(|| sink.block_len());
    let sent = image
        .chunks(block_bytes)
        .try_for_each(|block| sink.send(block.to_vec()));
    run.told(sent)?;
    run.finish_tools(sink.into_writer())
}
