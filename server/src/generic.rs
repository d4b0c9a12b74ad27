//! The generic mode: any stream, any consumer, no disks (`-e`, `--input`).

use anyhow::{Context, Result};
use ka_proto::StreamName;

use crate::feed::{self, Sink};
use crate::run::Run;
use crate::settings::Input;

/// Sends the operator's stream and waits until every node's command has taken it.
///
/// # Errors
/// The command or file fails, no node is left, or the run is stopped. Unfinished, the stream is a failed one for
/// every node: none takes a broken stream for a whole one.
pub(crate) fn run(run: &mut Run<'_>, input: &Input) -> Result<()> {
    run.enter("receiving the stream")?;
    let name = format!("{}1", run.settings.session);
    let writer = run
        .server
        .open_stream(&StreamName::new(&name).context("naming the stream")?)?;
    let progress = run.monitor.stream_started(&name, &describe(input), size(input));
    let mut sink = Sink::new(writer, progress);
    let block_bytes = run.settings.block_bytes.unwrap_or_else(|| sink.block_len());
    let fed = feed::generic(input, block_bytes, &run.stop, &mut sink);
    run.told(fed)?;
    run.finish_stream(sink.into_writer(), None)?;
    run.collect_reports()?;
    run.release();
    Ok(())
}

/// What is sent, for a human.
pub(crate) fn describe(input: &Input) -> String {
    match input {
        Input::Command(command) => format!("sending the output of `{command}`"),
        Input::File(path) => format!("sending {}", path.display()),
    }
}

/// How much that is, where it is known: of a plain file.
pub(crate) fn size(input: &Input) -> Option<u64> {
    match input {
        Input::Command(_) => None,
        Input::File(path) => path
            .metadata()
            .ok()
            .filter(std::fs::Metadata::is_file)
            .map(|meta| meta.len()),
    }
}
