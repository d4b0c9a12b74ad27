//! The keys of one stream's links at one node, as the server handed them out: one for the predecessor, one
//! for the successor that may come. Another member of the run has neither, and is a stranger to both.

use ka_proto::NodeId;
use ka_proto::link::LinkKey;
use tokio::sync::watch;

/// A neighbour, and the key of the link to it.
type Neighbour = Option<(NodeId, LinkKey)>;

/// The keys of a node's links in one stream; clones are the same keys.
#[derive(Debug, Clone)]
pub(crate) struct LinkKeys {
    predecessor: watch::Sender<Neighbour>,
    successor: watch::Sender<Neighbour>,
}

impl LinkKeys {
    pub(crate) fn new(predecessor: Neighbour, successor: Neighbour) -> Self {
        Self {
            predecessor: watch::Sender::new(predecessor),
            successor: watch::Sender::new(successor),
        }
    }

    /// From here on this one is connected to.
    pub(crate) fn name_predecessor(&self, node: NodeId, key: LinkKey) {
        self.predecessor.send_replace(Some((node, key)));
    }

    /// Sets the only successor that is let in from here on, or none.
    pub(crate) fn name_successor(&self, successor: Neighbour) {
        self.successor.send_replace(successor);
    }

    /// Returns the key of the link to this predecessor, if it was named last.
    pub(super) fn of_predecessor(&self, node: NodeId) -> Option<LinkKey> {
        let named = *self.predecessor.borrow();
        named.filter(|(named, _)| *named == node).map(|(_, key)| key)
    }

    /// Returns the key of the link from this successor. It may have heard before us that it is to come here:
    /// waits until it is named.
    pub(super) async fn of_successor(&self, node: NodeId) -> Option<LinkKey> {
        let mut successor = self.successor.subscribe();
        let is_named = |named: &Neighbour| named.is_some_and(|(named, _)| named == node);
        let named = successor.wait_for(is_named).await.ok().and_then(|named| *named);
        named.map(|(_, key)| key)
    }
}
