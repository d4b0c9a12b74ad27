//! One command on nodes, with its output as it is and its exit code.

use std::io::{self, Write};

use anyhow::{Context, Result, bail};
use ka_proto::operator::{Channel, ToOperator};
use ka_transport::{JoinCode, ServerKey};

use crate::args::{Options, Target};
use crate::keys;

/// Exit code for our own failures, apart from any of the command's; as ssh(1) has it.
pub(crate) const OWN_FAILURE: u8 = 255;

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
                eprintln!("error: {error:#}");
                OWN_FAILURE
            }
            Err(_) => OWN_FAILURE,
        });
        ended.max()
    });
    Ok(codes.unwrap_or(OWN_FAILURE))
}

fn on_node(node: &Target, key: &ServerKey, code: &JoinCode, command: &str) -> Result<u8> {
    let mut connection = node.connect(key, code)?;
    connection.exec(command)?;
    loop {
        let message = connection
            .next_message(None)
            .with_context(|| format!("{}: whether the command ended is not known", node.shown))?;
        match message {
            // A closed pipe ends us as it ends any filter.
            Some(ToOperator::Output(Channel::Out, bytes)) => io::stdout().lock().write_all(&bytes.0)?,
            Some(ToOperator::Output(Channel::Err, bytes)) => io::stderr().lock().write_all(&bytes.0)?,
            Some(ToOperator::Exited(code)) => return Ok(code),
            Some(ToOperator::Line(_) | ToOperator::Online { .. }) => {}
            None => bail!(
                "{}: the node is gone; whether the command ended is not known",
                node.shown
            ),
        }
    }
}
