//! The stages of the generic mode: any stream, any consumer, no disks (`-e`, `--input`).

use anyhow::Result;

use crate::feed;
use crate::run::Run;
use crate::settings::Input;

/// Sends the operator's stream and waits until every node's command has taken it.
///
/// # Errors
/// The command or file fails, no node is left, or the run is stopped. An unfinished stream fails on every
/// node, so no node takes a broken stream for a whole one.
pub(crate) fn run(run: &mut Run<'_>, input: &Input) -> Result<()> {
    run.enter("receiving the stream")?;
    let name = format!("{}1", run.settings().session);
    let mut sink = run.open_stream(&name, &input.describe(), input.size())?;
    let block_bytes = run.settings().block_bytes(sink.block_len());
    let fed = feed::generic(input, block_bytes, run.stop(), &mut sink);
    run.told(fed)?;
    run.finish_stream(sink, None)?;
    run.collect_reports()?;
    run.release();
    Ok(())
}
