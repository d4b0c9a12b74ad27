//! Capture of stray output: text that programs write to standard error, and the message of a panic, go into
//! the log too.

use std::io::{BufRead, BufReader, PipeReader, Read};
use std::sync::Arc;

use anyhow::Context;

use crate::log_ring::LogRing;

/// A longer line becomes several: a program gone wild must not take the memory.
const MAX_LINE_BYTES: u64 = 8 << 10;

/// From now on, everything written to standard output and standard error of this process and its children,
/// and every panic, is a line of the log.
///
/// # Errors
/// No pipe or thread can be had.
pub(super) fn stray_output(log: &Arc<LogRing>) -> anyhow::Result<()> {
    let (reader, writer) = std::io::pipe().context("making a pipe for stray output")?;
    let into = Arc::clone(log);
    std::thread::Builder::new()
        .name("stray-output".into())
        .spawn(move || copy_lines(reader, &into))
        .context("starting a thread")?;
    rustix::stdio::dup2_stdout(&writer).context("redirecting standard output")?;
    rustix::stdio::dup2_stderr(&writer).context("redirecting standard error")?;
    let into = Arc::clone(log);
    std::panic::set_hook(Box::new(move |panic| into.push(&format!("error: {panic}"))));
    Ok(())
}

/// Ends when every writer is gone, which is never before this process is.
fn copy_lines(reader: PipeReader, log: &LogRing) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    let mut next = |line: &mut Vec<u8>| reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', line);
    while next(&mut line).is_ok_and(|count| count > 0) {
        log.push(&ka_proto::text::printable(
            String::from_utf8_lossy(&line).trim_end(),
        ));
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_of_a_pipe_become_lines_of_the_log_without_escape_sequences() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"one\x1b[2J\r\n\xff two").unwrap();
        drop(writer);
        let log = Arc::new(LogRing::default());
        copy_lines(reader, &log);
        let lines = log.read(&mut 0, 9, Duration::ZERO).lines;
        assert_eq!(lines, ["one?[2J", "\u{fffd} two"]);
    }
}
