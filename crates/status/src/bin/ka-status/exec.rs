//! One command on nodes, with its output as it is and its exit code.

use std::io::{self, Write};

use anyhow::{Context, Result, bail};
use ka_proto::operator::{Channel, ToOperator};
use ka_transport::{JoinCode, ServerKey};

use crate::args::{Options, Target};
use crate::keys;

/// Exit code for our own failures, apart from any of the command's; as ssh(1) has it.
pub(crate) const OWN_FAILURE: u8 = 255;

/// Exit code where nobody reads the output any more, as a shell has it for any filter: 128 and SIGPIPE. The command ends then.
const CLOSED_PIPE: u8 = 141;

/// Runs `command` on each node at the same time; gives the highest exit code.
pub(crate) fn run(options: &Options, command: &str) -> Result<u8> {
    let (key, code) = keys::load(options)?;
    if let [node] = options.nodes.as_slice() {
        return on_node(node, &key, &code, command);
    }
    let codes = std::thread::scope(|scope| {
        let threads: Vec<_> = options
            .nodes
            .iter()
            .map(|node| scope.spawn(|| on_node(node, &key, &code, command)))
            .collect();
        let ended = threads.into_iter().map(|thread| match thread.join() {
            Ok(Ok(code)) => code,
            Ok(Err(error)) => {
                ka_cli::say(&format!("error: {error:#}"));
                OWN_FAILURE
            }
            Err(_) => OWN_FAILURE,
        });
        ended.max()
    });
    Ok(codes.unwrap_or(OWN_FAILURE))
}

/// Writes to an output, and returns false when nobody reads there any more.
fn is_taken(mut output: impl Write, bytes: &[u8]) -> bool {
    output.write_all(bytes).and_then(|()| output.flush()).is_ok()
}

fn on_node(node: &Target, key: &ServerKey, code: &JoinCode, command: &str) -> Result<u8> {
    let mut connection = node.connect(key, code)?;
    connection.exec(command)?;
    loop {
        let message = connection
            .next_message(None)
            .with_context(|| format!("{}: whether the command ended is not known", node.shown))?;
        match message {
            Some(ToOperator::Output(Channel::Out, bytes)) if !is_taken(io::stdout().lock(), &bytes.0) => {
                return Ok(CLOSED_PIPE);
            }
            Some(ToOperator::Output(Channel::Err, bytes)) if !is_taken(io::stderr().lock(), &bytes.0) => {
                return Ok(CLOSED_PIPE);
            }
            Some(ToOperator::Output(..)) => {}
            Some(ToOperator::Exited(code)) => return Ok(code),
            Some(ToOperator::Line(_) | ToOperator::Online { .. }) => {}
            None => bail!(
                "{}: the node is gone; whether the command ended is not known",
                node.shown
            ),
        }
    }
}
