//! Joining a run: the search for the server, and what this node says meanwhile.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail};
use ka_host::run;
use ka_report::event::Step;
use ka_transport::{JoinEvent, Node, NodeConfig, TransportError};

use crate::journal::Journal;
use crate::stop::Stop;

/// Longest reason, in bytes, that the lines of several tries repeat.
const MAX_REPEATED: usize = 20;

/// The first of two messages that ends the search.
enum SearchEnd {
    Joined(Box<Result<Node, TransportError>>),
    Stopped(String),
}

/// Joins the server's run. Returns `None` if the server reports that this node is done.
///
/// # Errors
/// No server was found in `tries` tries, it refused this node, or a signal ended the search.
pub(crate) fn join(
    config: NodeConfig,
    journal: &Arc<Journal>,
    stop: &Stop,
    tries: u32,
) -> anyhow::Result<Option<Node>> {
    let began = Instant::now();
    journal.started(Step::FindServer);
    let session = config.session.clone();
    let node = match search(config, journal, stop, tries)? {
        Ok(node) => node,
        Err(error @ TransportError::DoneAlready { .. }) => {
            journal.news(
                Step::FindServer,
                format!(
                    "{error}: nothing is left to do, and nothing was written. If this is another machine with the same name \
                     and hardware address, give it a name of its own (--name)"
                ),
            );
            return Ok(None);
        }
        Err(error) => {
            // The program's last line says why.
            journal.failed_quietly(Step::FindServer, &error.to_string());
            return Err(error.into());
        }
    };
    // A tool or an operator's command may run for half an hour before the next order is asked for.
    node.when_aborted(|reason| run::end_work(&format!("the server ended the run: {reason}")));
    let events = node.event_sender();
    stop.when_requested({
        let sender = node.event_sender();
        move |cause| sender.leave(&format!("stopped by {cause}"))
    });
    let joined = node.joined();
    journal.connect(Box::new(move |event| {
        // An event that cannot be sent is the smaller half of the problem that follows: the server is lost.
        drop(events.event(event));
    }));
    journal.done(Step::FindServer, began.elapsed());
    journal.news(
        Step::FindServer,
        format!("joined session {session} at {} as {}", joined.server, joined.id),
    );
    Ok(Some(node))
}

/// Looks for the server in a thread of its own, so that a signal ends the search at once: no connection could
/// carry a farewell yet. The thread ends with the process, or leaves the run if it still joins one.
///
/// # Errors
/// A signal ended the search, or the thread cannot be started.
fn search(
    config: NodeConfig,
    journal: &Arc<Journal>,
    stop: &Stop,
    tries: u32,
) -> anyhow::Result<Result<Node, TransportError>> {
    let (sender, ended) = mpsc::channel();
    stop.when_requested({
        let sender = sender.clone();
        move |cause| drop(sender.send(SearchEnd::Stopped(cause.to_owned())))
    });
    let (journal, stop) = (Arc::clone(journal), stop.clone());
    let search = move || {
        let mut last_reason = String::new();
        let joined = Node::join(config, |event| {
            if !stop.is_requested() {
                tell(&journal, tries, event, &mut last_reason);
            }
        });
        drop(sender.send(SearchEnd::Joined(Box::new(joined))));
    };
    thread::Builder::new()
        .name("join".into())
        .spawn(search)
        .context("starting the thread that looks for the server")?;
    match ended.recv().context("looking for the server")? {
        SearchEnd::Joined(joined) => Ok(*joined),
        SearchEnd::Stopped(cause) => bail!("stopped by {cause}"),
    }
}

/// Says how a try goes. A reason that is the same as `last_reason` is not said again.
fn tell(journal: &Journal, tries: u32, event: &JoinEvent, last_reason: &mut String) {
    let text = match event {
        JoinEvent::Trying { attempt: 1, what } => what.clone(),
        JoinEvent::Trying { .. } => return,
        JoinEvent::Queued { round, reason } => format!("this node waits for round {round}: {reason}"),
        JoinEvent::Pending { code, limit } => format!(
            "the server's operator is asked to let this node in, within {} s; its code is {code}",
            limit.as_secs()
        ),
        JoinEvent::Failed {
            attempt,
            reason,
            pause,
        } => {
            let is_known = reason.len() > MAX_REPEATED && last_reason == reason;
            last_reason.clone_from(reason);
            let said = if is_known { "as before" } else { reason };
            format!("{said}, try {attempt} of {tries}; again in {} s", pause.as_secs())
        }
    };
    journal.news(Step::FindServer, text);
}
