//! Events for the user interface. The queue is limited, and no sender waits for it. If the reader is slow,
//! events about steps and progress are left out first and counted. Joins, failures, questions and outcomes
//! are kept until there is room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::Sender;
use ka_proto::run::RunEvent;

use super::types::ServerEvent;

/// Most events kept beside a full queue. More joins and refusals than this are a flood.
const MAX_BACKLOG: usize = 64 << 10;

/// The way to the user interface.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    events: Sender<ServerEvent>,
    waiting: Arc<Mutex<Backlog>>,
}

#[derive(Debug, Default)]
struct Backlog {
    backlog: VecDeque<ServerEvent>,
    left_out: u64,
}

impl Outbox {
    /// Events go to `events`, which is bounded.
    pub(crate) fn new(events: Sender<ServerEvent>) -> Self {
        Self {
            events,
            waiting: Arc::default(),
        }
    }

    /// Passes an event on, after the events that have waited before it.
    pub(crate) fn send(&self, event: ServerEvent) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.pass_on(&mut waiting);
        let capacity = self.events.capacity().unwrap_or(usize::MAX);
        let may_wait = match &event {
            ServerEvent::Run(
                RunEvent::Progress { .. } | RunEvent::NodeEvent { .. } | RunEvent::NodeWired { .. },
            ) => false,
            ServerEvent::ConnectionRefused { .. }
            | ServerEvent::Run(
                RunEvent::NodeRefused { .. } | RunEvent::NodeJoined { .. } | RunEvent::NodeLeft { .. },
            ) => waiting.backlog.len() < MAX_BACKLOG,
            _ => true,
        };
        // Half of the room is for what must not be lost.
        let has_room = waiting.backlog.is_empty() && (may_wait || self.events.len() < capacity.div_ceil(2));
        let refused = if has_room {
            self.events.try_send(event).err().map(|error| error.into_inner())
        } else {
            Some(event)
        };
        match refused {
            None => {}
            Some(event) if may_wait => waiting.backlog.push_back(event),
            Some(_) => waiting.left_out += 1,
        }
    }

    /// Tries again; called from time to time, so that the last events do not wait for a next one.
    pub(crate) fn flush(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.pass_on(&mut waiting);
    }

    fn pass_on(&self, waiting: &mut Backlog) {
        while let Some(event) = waiting.backlog.pop_front() {
            if let Err(error) = self.events.try_send(event) {
                return waiting.backlog.push_front(error.into_inner());
            }
        }
        let left_out = waiting.left_out;
        if left_out > 0
            && self
                .events
                .try_send(ServerEvent::LeftOut { events: left_out })
                .is_ok()
        {
            waiting.left_out = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use ka_proto::NodeId;
    use ka_proto::wire::Payload;

    use super::*;

    #[test]
    fn a_flood_of_one_nodes_news_takes_nothing_from_what_must_be_told() {
        let (events, read) = crossbeam_channel::bounded(8);
        let outbox = Outbox::new(events);
        let news = || {
            ServerEvent::Run(RunEvent::NodeEvent {
                node: NodeId(1),
                payload: Payload(vec![1]),
            })
        };
        let told = |from: u16| ServerEvent::ConnectionRefused {
            from: ([10, 0, 0, 1], from).into(),
            name: None,
            reason: "no".to_owned(),
        };
        (0..1000).for_each(|_| outbox.send(news()));
        (0..20).for_each(|from| outbox.send(told(from)));
        let mut seen = Vec::new();
        while let Ok(event) = read.try_recv() {
            seen.push(event);
            outbox.flush();
        }
        let turned = seen.iter().filter_map(|event| match event {
            ServerEvent::ConnectionRefused { from, .. } => Some(from.port()),
            _ => None,
        });
        assert_eq!(turned.collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
        // Told in pieces, as the queue has room.
        let left_out: u64 = seen
            .iter()
            .filter_map(|event| match event {
                ServerEvent::LeftOut { events } => Some(*events),
                _ => None,
            })
            .sum();
        let shown = seen
            .iter()
            .filter(|event| matches!(event, ServerEvent::Run(RunEvent::NodeEvent { .. })));
        assert_eq!(left_out, 1000 - shown.count() as u64);
    }
}
