//! The logs of nodes on one screen. Typed commands run on all of the nodes.

use std::io::{self, BufRead};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::Result;
use ka_cli::{exit, feed};
use ka_proto::operator::ToOperator;
use ka_transport::{JoinCode, OperatorConnection, ServerKey, TransportError};

use crate::args::{Options, Target};
use crate::keys;
use crate::lines::{Lines, named};

/// Reason of an end about which nobody says more.
const CLOSED: &str = "connection closed";

/// Interval of the checks for typed lines.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Shows the logs until every node is gone. Returns 0 if all were seen. A node that is gone is no error: every
/// node closes its connection when its clone is done.
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
    // The thread may wait for a line for ever. The process ends without it.
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
                    // A node that is gone has shown that already.
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

/// Shows one node. Returns true if the node was reached.
fn show(node: &Target, key: &ServerKey, code: &JoinCode, typed: &Receiver<String>) -> bool {
    match node.connect(key, code) {
        Ok(connection) => {
            say(node, &format!("{} online", connection.name()));
            match follow(node, connection, typed) {
                Ok(()) => say(node, &offline(CLOSED)),
                Err(error) if is_closed(&error) => say(node, &offline(CLOSED)),
                Err(error) => say(node, &offline(&error.to_string())),
            }
            true
        }
        Err(error) => {
            ka_cli::say(&format!("error: {}", ka_cli::error_text(&error)));
            false
        }
    }
}

/// Returns the last line about a node. Its clone may be done, or it may have been killed: the time tells the
/// operator which log to look at.
fn offline(reason: &str) -> String {
    format!(
        "offline since {} ({reason})",
        jiff::Zoned::now().strftime("%H:%M:%S")
    )
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

/// True if the node's end of the connection is gone, without a word about the reason.
fn is_closed(error: &TransportError) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error, TransportError::System { source, .. }
        if matches!(source.kind(), BrokenPipe | ConnectionReset | UnexpectedEof))
}

fn is_quiet(error: &TransportError) -> bool {
    matches!(error, TransportError::System { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
}

/// Shows a line of a node, and ends the program if the output's reader has gone.
fn say(node: &Target, line: &str) {
    match feed(io::stdout().lock(), named(node, line).as_bytes()) {
        Ok(true) => {}
        // The reader has read enough.
        Ok(false) => std::process::exit(exit::DONE.into()),
        Err(error) => {
            ka_cli::say(&format!("error: writing to standard output: {error}"));
            std::process::exit(exit::NOTHING_DONE.into());
        }
    }
}
