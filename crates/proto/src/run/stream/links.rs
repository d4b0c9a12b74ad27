//! Links that broke between two nodes that live: the number of repairs of each, and the nodes that cost
//! others their place.

use std::collections::BTreeMap;

use super::super::{NodeId, StreamOffset};

/// Most times that a broken link between two living nodes is made again without progress in between. Then one
/// of them has to go. A loaded network gives a false alarm or two, and this is one more.
const LINK_RETRIES: u8 = 3;

/// Most times that a link is made again in one stream, even if it works in between. A line that breaks this
/// often holds up all nodes: at a silence of 2 s, for the better part of a minute.
const LINK_REJOINS: u32 = 20;

/// Counts of how often one link was made again in a stream.
#[derive(Debug, Clone, Copy, Default)]
struct Remade {
    /// Its upper end.
    above: NodeId,
    /// Repairs without progress in between, after the lower end lost the link.
    retries: u8,
    /// All repairs, with progress or without.
    rejoins: u32,
    /// Losses by the upper end while nothing was produced.
    lost: u8,
    /// Bytes that the head had produced at the last such count.
    lost_at: StreamOffset,
}

/// The counts of all links of a stream.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Repairs of each link, by its lower end.
    remade: BTreeMap<NodeId, Remade>,
    /// Number of successors that had to go because they could not be linked to this node.
    strikes: BTreeMap<NodeId, u32>,
}

impl Links {
    /// Returns the counts of the link between this node and the present node above it. The counts of an
    /// earlier link are dropped, because its breaks were perhaps the other end's fault, or its word.
    fn between(&mut self, above: NodeId, node: NodeId) -> &mut Remade {
        let remade = self.remade.entry(node).or_default();
        if remade.above != above {
            *remade = Remade {
                above,
                ..Remade::default()
            };
        }
        remade
    }

    /// Records that the consumer of this node took some data.
    pub(super) fn note_moved(&mut self, node: NodeId) {
        self.remade.entry(node).and_modify(|remade| remade.retries = 0);
    }

    /// Counts that the lower end lost the link. Returns true if the link may be made again.
    pub(super) fn may_be_remade(&mut self, above: NodeId, node: NodeId) -> bool {
        let remade = self.between(above, node);
        let may = remade.retries < LINK_RETRIES && remade.rejoins < LINK_REJOINS;
        if may {
            remade.retries += 1;
            remade.rejoins += 1;
        }
        may
    }

    /// Counts that the upper end lost the link. Returns true if that was too often while the head produced
    /// nothing. The lower end's word about its progress does not count.
    pub(super) fn is_lost_too_often(&mut self, above: NodeId, node: NodeId, produced: StreamOffset) -> bool {
        let remade = self.between(above, node);
        if remade.lost_at != produced {
            (remade.lost, remade.lost_at) = (0, produced);
        }
        remade.lost = remade.lost.saturating_add(1);
        remade.lost > LINK_RETRIES
    }

    /// Returns the number of successors that this node has cost. `adds` counts one more.
    pub(super) fn strikes(&mut self, above: NodeId, adds: bool) -> u32 {
        let strikes = self.strikes.entry(above).or_insert(0);
        *strikes += u32::from(adds);
        *strikes
    }
}
