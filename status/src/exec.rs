//! One command on nodes, with its output and its exit code.

use std::io;

use anyhow::{Context, Result, bail};
use ka_cli::feed;
use ka_proto::operator::{Channel, ToOperator};
use ka_transport::{JoinCode, ServerKey};

use crate::args::{Options, Target};
use crate::keys;
use crate::lines::{Lines, named};

/// Exit code for our own failures, as in ssh(1). It tells them from the command's.
pub(crate) const OWN_FAILURE: u8 = 255;

/// Exit code after the reader of the output has gone, as a shell reports it for any filter: 128 and SIGPIPE.
/// The command ends then.
const CLOSED_PIPE: u8 = 141;

/// Runs `command` on each node at the same time. Returns the highest exit code. The output of one node is
/// shown as it is; lines of several nodes have the node in front.
pub(crate) fn run(options: &Options, command: &str) -> Result<u8> {
    let (key, code) = keys::load(options)?;
    if let [node] = options.nodes.as_slice() {
        return on_node(node, &key, &code, command, Shape::Raw);
    }
    let codes = std::thread::scope(|scope| {
        let threads: Vec<_> = options
            .nodes
            .iter()
            .map(|node| scope.spawn(|| on_node(node, &key, &code, command, Shape::Named)))
            .collect();
        let ended = threads.into_iter().map(|thread| match thread.join() {
            Ok(Ok(code)) => code,
            Ok(Err(error)) => {
                ka_cli::say(&format!("error: {}", ka_cli::error_text(error.as_ref())));
                OWN_FAILURE
            }
            Err(_) => OWN_FAILURE,
        });
        ended.max()
    });
    Ok(codes.unwrap_or(OWN_FAILURE))
}

fn on_node(node: &Target, key: &ServerKey, code: &JoinCode, command: &str, shape: Shape) -> Result<u8> {
    let mut connection = node.connect(key, code)?;
    connection.exec(command)?;
    let mut outputs = Outputs::new(node, shape);
    loop {
        let message = connection
            .next_message(None)
            .with_context(|| format!("{}: whether the command ended is not known", node.shown))?;
        let is_read = match message {
            Some(ToOperator::Output(channel, bytes)) => outputs.take(channel, &bytes.0)?,
            Some(ToOperator::Exited(code)) => return Ok(if outputs.end()? { code } else { CLOSED_PIPE }),
            Some(ToOperator::Line(_) | ToOperator::Online { .. }) => true,
            None => bail!(
                "{}: the node is gone; whether the command ended is not known",
                node.shown
            ),
        };
        if !is_read {
            return Ok(CLOSED_PIPE);
        }
    }
}

/// The form of a command's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Byte for byte.
    Raw,
    /// Whole lines with the node in front, among those of other nodes.
    Named,
}

/// The two outputs of a command on a node.
struct Outputs<'a> {
    node: &'a Target,
    shape: Shape,
    out: Lines,
    err: Lines,
}

impl<'a> Outputs<'a> {
    fn new(node: &'a Target, shape: Shape) -> Self {
        let (out, err) = Default::default();
        Self {
            node,
            shape,
            out,
            err,
        }
    }

    /// Shows a piece of output. Returns false if its reader has gone.
    fn take(&mut self, channel: Channel, bytes: &[u8]) -> Result<bool> {
        if self.shape == Shape::Raw {
            return self.show(channel, bytes);
        }
        let mut text = String::new();
        let node = self.node;
        self.lines(channel).push(bytes, |line| text += &named(node, line));
        self.show(channel, text.as_bytes())
    }

    /// Shows the rest of a last line without its end.
    fn end(&mut self) -> Result<bool> {
        let node = self.node;
        let mut is_read = true;
        for channel in [Channel::Out, Channel::Err] {
            let mut text = String::new();
            self.lines(channel).end(|line| text += &named(node, line));
            is_read &= self.show(channel, text.as_bytes())?;
        }
        Ok(is_read)
    }

    fn lines(&mut self, channel: Channel) -> &mut Lines {
        match channel {
            Channel::Out => &mut self.out,
            Channel::Err => &mut self.err,
        }
    }

    fn show(&self, channel: Channel, bytes: &[u8]) -> Result<bool> {
        let (written, output) = match channel {
            Channel::Out => (feed(io::stdout().lock(), bytes), "standard output"),
            Channel::Err => (feed(io::stderr().lock(), bytes), "standard error"),
        };
        written.with_context(|| format!("{}: writing the command's output to {output}", self.node.shown))
    }
}
