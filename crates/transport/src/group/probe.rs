//! The two ends of a probe on their sockets: [`probe`] at the server, [`listen`] at each node.
//!
//! Both block their thread for about a second. Orders and answers come and go by channels and functions of the
//! caller, which has the control connections.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use ka_proto::group::probe::{
    Invitation, Listener, Outcome, ProbeAnswer, ProbeNews, ProbeOrder, Prober, ProberConfig,
};
use ka_proto::text::Reason;
use ka_proto::{NodeId, RunId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::receiver::{GroupReceiver, RECEIVE_BYTES};
use super::sender::GroupSender;
use crate::error::TransportError;

/// Longest sleep on a socket before the channel is looked at.
const CHANNEL_PAUSE: Duration = Duration::from_millis(2);

/// Probes the nodes through `sender`. Orders for nodes go to `order`, and their answers come from `answers`.
///
/// The probe ends at once when `answers` is closed.
///
/// # Errors
/// The crypto library refuses the key.
pub fn probe(
    sender: &GroupSender,
    config: ProberConfig,
    nodes: &[NodeId],
    answers: &Receiver<(NodeId, ProbeAnswer)>,
    mut order: impl FnMut(NodeId, ProbeOrder),
) -> Result<Outcome, TransportError> {
    let begin = Instant::now();
    let mut prober = Prober::new(config, nodes, Duration::ZERO).map_err(|_| TransportError::Random)?;
    loop {
        while let Some((node, one)) = prober.poll_order(begin.elapsed()) {
            order(node, one);
        }
        if let Some(outcome) = prober.outcome() {
            return Ok(outcome);
        }
        let is_blocked = send(sender, &mut prober, begin);
        let until = prober.poll_timeout().unwrap_or_default();
        let left = until.saturating_sub(begin.elapsed());
        if is_blocked {
            wait(sender, PollFlags::OUT, left.min(CHANNEL_PAUSE));
        } else {
            match answers.recv_timeout(left) {
                Ok((node, answer)) => prober.handle_answer(node, answer),
                Err(RecvTimeoutError::Timeout) => {}
                // Nobody waits for the outcome any more: nothing more is sent.
                Err(RecvTimeoutError::Disconnected) => {
                    prober.handle_failure(Reason::new("the round is over"));
                }
            }
        }
        for (node, answer) in answers.try_iter() {
            prober.handle_answer(node, answer);
        }
    }
}

/// Sends all that is due. Returns true if the socket takes no more.
fn send(sender: &GroupSender, prober: &mut Prober, begin: Instant) -> bool {
    loop {
        let datagram = prober.datagram();
        let Some(burst) = prober.next_burst(begin.elapsed()) else {
            return false;
        };
        match sender.send(burst, datagram) {
            Ok(taken) => prober.handle_sent(begin.elapsed(), taken),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                prober.handle_blocked();
                return true;
            }
            Err(error) => {
                prober.handle_failure(Reason::new(format!("sending to {}: {error}", sender.group())));
                return false;
            }
        }
    }
}

/// Listens to a probe at a node that has the address `local`, until the probe is over. Orders of the server come
/// from `orders`, the first one excepted, which is the invitation. Answers for the server go to `answer`.
///
/// Returns the socket, or `None` if the node cannot be a member. Keep it until the stream has a socket of its own:
/// switches forget a group that the last member of a port has left, and learn it again only after a moment.
pub fn listen(
    local: Ipv4Addr,
    run: RunId,
    invitation: Invitation,
    orders: &Receiver<ProbeOrder>,
    mut answer: impl FnMut(ProbeAnswer),
) -> Option<GroupReceiver> {
    let probe = invitation.probe;
    let why = match try_listen(local, run, invitation, orders, &mut answer) {
        Ok(socket) => return Some(socket),
        Err(error) => Reason::new(error.to_string()),
    };
    answer(ProbeAnswer {
        probe,
        news: ProbeNews::Unable { why },
    });
    None
}

fn try_listen(
    local: Ipv4Addr,
    run: RunId,
    invitation: Invitation,
    orders: &Receiver<ProbeOrder>,
    answer: &mut impl FnMut(ProbeAnswer),
) -> io::Result<GroupReceiver> {
    let begin = Instant::now();
    let socket = GroupReceiver::open(local, invitation.group)?;
    socket.only_from(invitation.from)?;
    let mut listener = Listener::new(run, invitation, Duration::ZERO).map_err(io::Error::other)?;
    let mut buffer = vec![0; RECEIVE_BYTES];
    while !listener.is_over(begin.elapsed()) {
        let left = listener.poll_timeout().saturating_sub(begin.elapsed());
        wait(&socket, PollFlags::IN, left.min(CHANNEL_PAUSE));
        while let Some(received) = socket.recv(&mut buffer)? {
            listener.handle_datagrams(begin.elapsed(), &buffer[..received.len], received.datagram);
            // A train may last: the news of the first datagram does not wait for its end.
            if let Some(news) = listener.poll_answer(begin.elapsed()) {
                answer(news);
            }
        }
        listener.handle_drops(socket.drops());
        for order in orders.try_iter() {
            listener.handle_order(begin.elapsed(), &order);
        }
        while let Some(news) = listener.poll_answer(begin.elapsed()) {
            answer(news);
        }
    }
    Ok(socket)
}

/// Sleeps until the socket is ready, at most `limit`.
fn wait(socket: impl AsFd, events: PollFlags, limit: Duration) {
    let mut fds = [PollFd::new(&socket, events)];
    let limit = Timespec::try_from(limit).ok();
    // An interruption is a short sleep.
    poll(&mut fds, limit.as_ref()).ok();
}
