//! The logs of nodes on one screen, and what is typed run on all of them.

use std::io::{self, BufRead, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::Result;
use ka_proto::operator::ToOperator;
use ka_proto::text::marked_lines;
use ka_transport::{JoinCode, OperatorConnection, ServerKey, TransportError};

use crate::args::{Options, Target};
use crate::keys;

/// Between two looks at what was typed.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Shows the logs until every node is gone; 0 when all were seen.
pub(crate) fn run(options: &Options) -> Result<u8> {
    let (key, code) = keys::load(options)?;
    let mut typed_for = Vec::new();
    let mut threads = Vec::new();
    for node in &options.nodes {
        let (sender, typed) = channel();
        typed_for.push(sender);
        let (node, key, code) = (node.clone(), key.clone(), code.clone());
        threads.push(std::thread::spawn(move || show(&node, &key, &code, &typed)));
    }
    // It may wait for a line for ever; the process ends without it.
    std::thread::spawn(move || read_commands(&typed_for));
    let seen: Vec<_> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap_or(false))
        .collect();
    Ok(u8::from(seen.contains(&false)))
}

fn read_commands(nodes: &[Sender<String>]) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        match line.trim().strip_prefix("exec ") {
            Some(command) => {
                for node in nodes {
                    // A node that is gone has said so.
                    node.send(command.trim().to_owned()).ok();
                }
            }
            None if line.trim().is_empty() => {}
            None => {
                ka_cli::say("error: type exec COMMAND to run a command, Ctrl-C to end");
            }
        }
    }
}

/// Whether the node was reached.
fn show(node: &Target, key: &ServerKey, code: &JoinCode, typed: &Receiver<String>) -> bool {
    match node.connect(key, code) {
        Ok(connection) => {
            say(node, &format!("{} online", connection.name()));
            match follow(node, connection, typed) {
                Ok(()) => say(node, "offline"),
                Err(error) => say(node, &format!("offline: {error}")),
            }
            true
        }
        Err(error) => {
            ka_cli::say(&format!("error: {error}"));
            false
        }
    }
}

fn follow(
    node: &Target,
    mut connection: OperatorConnection,
    typed: &Receiver<String>,
) -> Result<(), TransportError> {
    let mut output = Lines::default();
    let mut running = 0_usize;
    loop {
        while let Ok(command) = typed.try_recv() {
            connection.exec(&command)?;
            running += 1;
        }
        match connection.next_message(Some(LOOK_INTERVAL)) {
            Ok(None) => return Ok(()),
            Ok(Some(ToOperator::Line(line))) => say(node, line.as_str()),
            Ok(Some(ToOperator::Output(..) | ToOperator::Exited(_))) if running == 0 => {
                return Err(TransportError::Misuse(
                    "it sends the output of a command that nobody gave",
                ));
            }
            Ok(Some(ToOperator::Output(_, bytes))) => output.push(&bytes.0, |line| say(node, line)),
            Ok(Some(ToOperator::Exited(code))) => {
                running -= 1;
                output.end(|line| say(node, line));
                if code != 0 {
                    say(node, &format!("(exit code {code})"));
                }
            }
            Ok(Some(ToOperator::Online { .. })) => {}
            Err(error) if is_quiet(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_quiet(error: &TransportError) -> bool {
    matches!(error, TransportError::System { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
}

/// A line of several nodes' must not be cut by another's: one write each.
fn say(node: &Target, line: &str) {
    let lines = marked_lines(line).into_iter();
    let text: String = lines.map(|line| format!("{}> {line}\n", node.shown)).collect();
    // A closed pipe: whoever reads has read enough.
    if io::stdout().lock().write_all(text.as_bytes()).is_err() {
        std::process::exit(0);
    }
}

/// Longest line of a command's output that is shown as one, bytes; a longer one goes on in the next line.
const MAX_LINE: usize = 8 << 10;

/// Output in pieces, as lines. Never holds more than one line.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn push(&mut self, bytes: &[u8], mut say: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for part in piece.chunks(MAX_LINE) {
                if self.0.len() + part.len() > MAX_LINE {
                    self.end(&mut say);
                }
                self.0.extend_from_slice(part);
            }
            if self.0.pop_if(|last| *last == b'\n').is_some() {
                say(&String::from_utf8_lossy(&std::mem::take(&mut self.0)));
            }
        }
    }

    fn end(&mut self, mut say: impl FnMut(&str)) {
        if !self.0.is_empty() {
            say(&String::from_utf8_lossy(&std::mem::take(&mut self.0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn pieces_become_whole_lines() {
        let (mut lines, mut said) = (Lines::default(), Vec::new());
        for piece in ["ab", "c\nd", "\n\nlast"] {
            lines.push(piece.as_bytes(), |line| said.push(line.to_owned()));
        }
        lines.end(|line| said.push(line.to_owned()));
        assert_eq!(said, ["abc", "d", "", "last"]);
    }

    #[test]
    fn output_without_a_line_end_is_shown_in_parts_and_not_kept() {
        let (mut lines, mut said) = (Lines::default(), 0);
        for _ in 0..1000 {
            lines.push(&[b'x'; 1000], |line| said += line.len());
            assert!(lines.0.len() <= super::MAX_LINE);
        }
        lines.end(|line| said += line.len());
        assert_eq!(said, 1_000_000);
    }
}
