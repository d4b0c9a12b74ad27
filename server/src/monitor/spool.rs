//! Who lost its place in the chain, and goes on from what is kept.

use ka_status::run::RunEvent;
use ka_status::spool::Rejoined;
use ka_transport::ServerEvent;

use super::State;

impl State {
    pub(super) fn spool(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::NodeAway {
                node,
                reason,
                silence,
            } => {
                if let Some(node) = self.roster.find(node.id.0) {
                    let secs = silence.as_secs();
                    self.show(&RunEvent::NodeAway { node, reason, secs });
                }
            }
            ServerEvent::NodeRejoined { node, stream, offset } => {
                let rejoined = Rejoined {
                    stream,
                    offset_bytes: offset,
                };
                if let Some(node) = self.roster.rejoined(node.id.0, rejoined.clone()) {
                    self.show(&RunEvent::NodeRejoined { node, rejoined });
                }
            }
            ServerEvent::SpoolOff { reason } => self.show(&RunEvent::SpoolOff { reason }),
            // Of what else there is, nothing is about that.
            _ => {}
        }
    }
}
