//! The proxyDHCP server (PXE 2.1 §2.2): names the boot file beside another server, which gives the address. Pure.

use std::net::Ipv4Addr;

use dhcproto::v4::MessageType;

use crate::dhcp::BootFileFor;
use crate::dhcp::answer::{Action, Arrival, Destination, add_boot, event_of, pxe_port};
use crate::dhcp::codec::Outgoing;
use crate::dhcp::vendor::Client;

pub(crate) struct Proxy {
    server: Ipv4Addr,
    boot: BootFileFor,
}

impl Proxy {
    pub(crate) fn new(server: Ipv4Addr, boot: BootFileFor) -> Self {
        Self { server, boot }
    }

    pub(crate) fn handle(&self, arrival: &Arrival) -> Vec<Action> {
        let client = Client::of(&arrival.packet);
        let mut actions = Vec::new();
        if arrival.to_pxe_port {
            actions.extend(pxe_port(arrival, &client, self.server, &self.boot));
            return actions;
        }
        actions.extend(event_of(&client, &arrival.packet).map(Action::Event));
        actions.extend(self.offer(arrival, &client));
        actions
    }

    /// Only DISCOVER: a broadcast REQUEST is the machine's word to the server that gives it the address.
    fn offer(&self, arrival: &Arrival, client: &Client) -> Option<Action> {
        let request = &arrival.packet;
        let Client::Boot(machine) = client else {
            return None;
        };
        if request.kind() != MessageType::Discover {
            return None;
        }
        let file = (self.boot)(machine)?;
        let mut offer = Outgoing::answer(request, MessageType::Offer, self.server);
        add_boot(&mut offer, request, machine, &file, self.server);
        // No address is given, so there is none to send to.
        Some(Action::Send(offer, Destination::of_refusal(request)))
    }
}
