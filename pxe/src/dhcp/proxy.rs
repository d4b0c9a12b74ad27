//! The proxyDHCP server (PXE 2.1 §2.2). It names the boot file; another server gives the address. Pure.

use std::net::Ipv4Addr;

use ka_dhcp::{MessageType, Outgoing};

use crate::dhcp::BootFileFor;
use crate::dhcp::answer::{Action, Arrival, Destination, add_boot, event_of, pxe_port};
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

    /// Answers DISCOVER only. A broadcast REQUEST is meant for the server that gives the address.
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
        // The proxy gives no address, so it must broadcast the offer.
        Some(Action::Send(offer, Destination::of_refusal(request)))
    }
}
