//! Decisions of a DHCP client (RFC 2131 §4.4): a state machine without socket and clock.
//!
//! The driver chooses the moment from which time is counted. After every call, drain
//! [`Machine::poll_output`].

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use ka_dhcp::arp::{self, Arp};
use ka_dhcp::{DhcpOption, MessageType, OptionCode, Outgoing, Packet};
use ka_mac::MacAddr;

/// First wait for an offer or an answer. It doubles with each try. RFC 2131 §4.1 has 4 s, but a machine
/// room's own server answers in milliseconds, and a short wait notices sooner when a switch port begins to
/// forward (STP).
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// Longest wait between two questions.
const LONGEST_WAIT: Duration = Duration::from_secs(16);
/// Number of requests for one offer. After that the client looks for another offer.
const REQUEST_TRIES: u32 = 3;
/// Number of probes for an address, and the wait after each. RFC 5227 §1.1 has 3 s and more for all of it,
/// for wires of any kind. Machines in one room answer in milliseconds, and every node has to wait.
const PROBES: u32 = 3;
const PROBE_WAIT: Duration = Duration::from_millis(300);
/// Shortest pause after an address was declined (RFC 2131 §3.1.5).
const DECLINED_PAUSE: Duration = Duration::from_secs(10);
/// Shortest time between two requests for an extension. RFC 2131 §4.4.5 has 60 s, which is too long for short
/// leases.
const LEAST_EXTENSION_WAIT: Duration = Duration::from_secs(2);
/// Longest message accepted (option 57), in bytes. It fits an Ethernet frame.
const MAX_MESSAGE_BYTES: u16 = 1472;
/// Lease time of a lease that never ends, in seconds (RFC 2131 §3.3).
const FOREVER: u32 = u32::MAX;
/// Lease time, in seconds, if the server names none.
const DEFAULT_LEASE_SECONDS: u32 = 3600;
/// Largest number of name servers kept: resolv.conf(5) accepts three.
const MAX_NAME_SERVERS: usize = 3;

/// Options that every message asks for (option 55).
const WANTED: [OptionCode; 9] = [
    OptionCode::SubnetMask,
    OptionCode::Router,
    OptionCode::DomainNameServer,
    OptionCode::Hostname,
    OptionCode::DomainName,
    OptionCode::AddressLeaseTime,
    OptionCode::ServerIdentifier,
    OptionCode::Renewal,
    OptionCode::Rebinding,
];

/// Identity of the client.
#[derive(Debug, Clone)]
pub struct Config {
    /// Hardware address of the interface.
    pub mac: MacAddr,
    /// Vendor class (option 60). By it a server tells a node from a machine's firmware and from an installed
    /// system.
    pub vendor_class: String,
    /// Host name to send, if there is one already.
    pub host_name: Option<String>,
    /// Seed of the random numbers. It must differ between machines and between starts.
    pub seed: u64,
}

/// A lease as the server gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// IPv4 address.
    pub addr: Ipv4Addr,
    /// Prefix length of the network, in bits.
    pub prefix: u8,
    /// Default router.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers, at most three.
    pub name_servers: Vec<Ipv4Addr>,
    /// Domain name.
    pub domain: Option<String>,
    /// Name that the server has for this machine.
    pub host_name: Option<String>,
    /// Address of the server.
    pub server: Ipv4Addr,
    /// Times of the lease. `None` if it never ends.
    pub lasts: Option<Times>,
}

/// Times of a lease, counted from the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// T1: the client asks its server for more time.
    pub renew: Duration,
    /// T2: the client asks all servers.
    pub rebind: Duration,
    /// End of the lease: the address must no longer be used.
    pub end: Duration,
}

/// A task for the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this message.
    Send(Via, Vec<u8>),
    /// Broadcast this ARP packet, and pass every received ARP packet to [`Machine::handle_arp`].
    Probe(Vec<u8>),
    /// Report this event to the caller.
    Event(Event),
}

/// Way of a message to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Broadcast without a source address, over the packet socket.
    Wire,
    /// Unicast from the leased address to the server that gave it.
    Server(Ipv4Addr),
    /// Broadcast from the leased address.
    Everybody,
}

/// An event of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// No server has offered an address yet. The number is that of the current try.
    Asking(u32),
    /// The client has a lease.
    Bound(Lease),
    /// The server extended the lease.
    Extended(Lease),
    /// The server withdrew its offer or lease. The text is its address and its message.
    Refused(String),
    /// A machine with this hardware address uses the offered address. The server was told.
    InUse {
        /// The offered address.
        addr: Ipv4Addr,
        /// MAC address of the machine that uses it.
        owner: MacAddr,
    },
    /// The lease ended without being extended. The client asks for a new one.
    Expired(Lease),
}

#[derive(Debug)]
enum Phase {
    Selecting { tries: u32 },
    Requesting { offer: Lease, tries: u32 },
    Probing { lease: Lease, sent: u32 },
    Bound { lease: Lease, since: Duration },
    Extending { lease: Lease, since: Duration },
}

/// State machine of a DHCP client.
#[derive(Debug)]
pub struct Machine {
    config: Config,
    phase: Phase,
    began: Duration,
    asked: Duration,
    due: Duration,
    xid: u32,
    random: u64,
    outputs: VecDeque<Output>,
}

impl Machine {
    /// Creates a client that begins at `now`, after a short random delay, so that machines switched on
    /// together do not all ask at once.
    #[must_use]
    pub fn new(config: Config, now: Duration) -> Self {
        let mut machine = Self {
            random: config.seed | 1,
            config,
            phase: Phase::Selecting { tries: 0 },
            began: now,
            asked: now,
            due: now,
            xid: 0,
            outputs: VecDeque::new(),
        };
        machine.due = now + machine.jitter(Duration::from_millis(400));
        machine
    }

    /// Returns the next task, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Time at which [`Self::handle_timeout`] must be called.
    #[must_use]
    pub const fn poll_timeout(&self) -> Duration {
        self.due
    }

    /// The lease that is in force.
    #[must_use]
    pub const fn lease(&self) -> Option<&Lease> {
        match &self.phase {
            Phase::Bound { lease, .. } | Phase::Extending { lease, .. } => Some(lease),
            Phase::Selecting { .. } | Phase::Requesting { .. } | Phase::Probing { .. } => None,
        }
    }

    /// True if the client needs ARP packets now.
    #[must_use]
    pub const fn is_probing(&self) -> bool {
        matches!(self.phase, Phase::Probing { .. })
    }

    /// Handles the passing of time.
    pub fn handle_timeout(&mut self, now: Duration) {
        if now < self.due {
            return;
        }
        match &mut self.phase {
            Phase::Selecting { tries } => {
                *tries += 1;
                let tries = *tries;
                if tries > 1 {
                    self.tell(Event::Asking(tries));
                }
                self.discover(now, tries);
            }
            Phase::Requesting { tries, .. } if *tries >= REQUEST_TRIES => self.select(now),
            Phase::Requesting { tries, .. } => {
                *tries += 1;
                let tries = *tries;
                self.request(now, tries);
            }
            Phase::Probing { lease, sent } if *sent >= PROBES => {
                let lease = lease.clone();
                self.bind(lease, Event::Bound);
            }
            Phase::Probing { sent, .. } => {
                *sent += 1;
                self.probe(now);
            }
            Phase::Bound { lease, since } => {
                self.phase = Phase::Extending {
                    lease: lease.clone(),
                    since: *since,
                };
                self.xid = self.next_random_u32();
                self.asked = now;
                self.extend(now);
            }
            Phase::Extending { .. } => self.extend(now),
        }
    }

    /// Handles a received DHCP message. Ignores messages for other machines, unexpected ones and unusable
    /// ones.
    pub fn handle_message(&mut self, now: Duration, bytes: &[u8]) {
        let Ok(reply) = Packet::reply(bytes) else { return };
        if reply.xid() != self.xid || reply.mac() != self.config.mac {
            return;
        }
        match (&self.phase, reply.kind()) {
            (Phase::Selecting { tries: 1.. }, MessageType::Offer) => {
                if let Some(offer) = read_lease(&reply, None) {
                    self.phase = Phase::Requesting { offer, tries: 1 };
                    self.asked = now;
                    self.request(now, 1);
                }
            }
            (Phase::Requesting { offer, .. }, MessageType::Ack) => {
                if let Some(lease) = read_lease(&reply, Some(offer.server)) {
                    self.phase = Phase::Probing { lease, sent: 1 };
                    self.probe(now);
                }
            }
            (Phase::Extending { lease, .. }, MessageType::Ack) => {
                let same = read_lease(&reply, Some(lease.server)).filter(|given| given.addr == lease.addr);
                if let Some(lease) = same {
                    self.bind(lease, Event::Extended);
                }
            }
            (
                Phase::Requesting { offer: from, .. } | Phase::Extending { lease: from, .. },
                MessageType::Nak,
            ) => {
                let server = reply.server_id().unwrap_or(from.server);
                let said = reply.text(OptionCode::Message).unwrap_or_default();
                self.tell(Event::Refused(format!("{server} {said}").trim_end().to_owned()));
                self.select(now);
            }
            _ => {}
        }
    }

    /// Handles a received ARP packet.
    pub fn handle_arp(&mut self, now: Duration, packet: &[u8]) {
        let Phase::Probing { lease, .. } = &self.phase else {
            return;
        };
        let rival = Arp::read(packet).and_then(|arp| arp.rival(lease.addr, self.config.mac));
        let Some(owner) = rival else {
            return;
        };
        let (addr, server) = (lease.addr, lease.server);
        let query = self.query(now, MessageType::Decline, None, &meaning(addr, server));
        self.outputs.push_back(Output::Send(Via::Wire, query));
        self.tell(Event::InUse { addr, owner });
        self.select(now);
        self.due = now + DECLINED_PAUSE;
    }

    fn probe(&mut self, now: Duration) {
        if let Phase::Probing { lease, .. } = &self.phase {
            let packet = arp::probe(self.config.mac, lease.addr);
            self.outputs.push_back(Output::Probe(packet));
            self.due = now + PROBE_WAIT;
        }
    }

    fn select(&mut self, now: Duration) {
        self.phase = Phase::Selecting { tries: 0 };
        self.began = now;
        self.due = now + self.jitter(Duration::from_secs(1));
    }

    fn discover(&mut self, now: Duration, tries: u32) {
        // All tries share one transaction number, so that a late offer still counts.
        if tries == 1 {
            self.xid = self.next_random_u32();
        }
        let query = self.query(now, MessageType::Discover, None, &[]);
        self.outputs.push_back(Output::Send(Via::Wire, query));
        self.due = now + self.wait(tries);
    }

    fn request(&mut self, now: Duration, tries: u32) {
        let Phase::Requesting { offer, .. } = &self.phase else {
            return;
        };
        let chosen = meaning(offer.addr, offer.server);
        let query = self.query(now, MessageType::Request, None, &chosen);
        self.outputs.push_back(Output::Send(Via::Wire, query));
        self.due = now + self.wait(tries);
    }

    fn bind(&mut self, lease: Lease, event: impl FnOnce(Lease) -> Event) {
        self.tell(event(lease.clone()));
        // Counted from the request, because the server's clock did not start earlier (RFC 2131 §4.4.1).
        let since = self.asked;
        self.due = lease.lasts.map_or(Duration::MAX, |times| since + times.renew);
        self.phase = Phase::Bound { lease, since };
    }

    /// Asks for more time: its own server until T2, then all servers until the end.
    fn extend(&mut self, now: Duration) {
        let Phase::Extending { lease, since } = &self.phase else {
            return;
        };
        let (lease, since) = (lease.clone(), *since);
        let Some(times) = lease.lasts else {
            self.due = Duration::MAX;
            return;
        };
        if now >= since + times.end {
            self.tell(Event::Expired(lease));
            self.select(now);
            return;
        }
        let (via, until) = if now < since + times.rebind {
            (Via::Server(lease.server), since + times.rebind)
        } else {
            (Via::Everybody, since + times.end)
        };
        let query = self.query(now, MessageType::Request, Some(lease.addr), &[]);
        self.outputs.push_back(Output::Send(via, query));
        let wait = ((until - now) / 2).max(LEAST_EXTENSION_WAIT);
        self.due = (now + wait).min(until);
    }

    /// Encodes a message of this client. `own` is the address that this machine has and uses.
    fn query(&self, now: Duration, kind: MessageType, own: Option<Ipv4Addr>, more: &[DhcpOption]) -> Vec<u8> {
        let mut query = Outgoing::question(kind, self.config.mac, self.xid);
        if let Some(own) = own {
            query.set_own(own);
        }
        let secs = now.saturating_sub(self.began).as_secs();
        query.set_secs(u16::try_from(secs).unwrap_or(u16::MAX));
        query.push_client_id(self.config.mac);
        more.iter().for_each(|option| query.push(option));
        query.push(&DhcpOption::MaxMessageSize(MAX_MESSAGE_BYTES));
        let class = self.config.vendor_class.as_bytes().to_vec();
        query.push(&DhcpOption::ClassIdentifier(class));
        if let Some(name) = &self.config.host_name {
            query.push_host_name(name);
        }
        query.push(&DhcpOption::ParameterRequestList(WANTED.to_vec()));
        query.encode()
    }

    fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Wait after the try with this number: doubled each time, plus up to an eighth at random.
    fn wait(&mut self, tries: u32) -> Duration {
        let doubled = FIRST_WAIT.saturating_mul(1 << tries.saturating_sub(1).min(16));
        let wait = doubled.min(LONGEST_WAIT);
        wait + self.jitter(wait / 8)
    }

    fn jitter(&mut self, below: Duration) -> Duration {
        below.mul_f64(f64::from(self.next_random_u32()) / f64::from(u32::MAX))
    }

    /// xorshift64* (Marsaglia, Vigna). No secret depends on it.
    fn next_random_u32(&mut self) -> u32 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let mixed = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        u32::try_from(mixed).unwrap_or(u32::MAX)
    }
}

/// The options that name an address and the server that offered it.
fn meaning(addr: Ipv4Addr, server: Ipv4Addr) -> [DhcpOption; 2] {
    [
        DhcpOption::RequestedIpAddress(addr),
        DhcpOption::ServerIdentifier(server),
    ]
}

/// The lease in an offer or acknowledgement. `None` if it is unusable. `server` is used if the message names
/// no server.
fn read_lease(reply: &Packet, server: Option<Ipv4Addr>) -> Option<Lease> {
    let addr = reply.yiaddr().filter(is_usable)?;
    let prefix = match reply.address(OptionCode::SubnetMask) {
        Some(mask) => prefix_of(mask)?,
        None => class_prefix(addr),
    };
    let host_name = reply.text(OptionCode::Hostname);
    Some(Lease {
        addr,
        prefix,
        gateway: reply.address(OptionCode::Router).filter(is_usable),
        name_servers: reply
            .addresses(OptionCode::DomainNameServer)
            .filter(is_usable)
            .take(MAX_NAME_SERVERS)
            .collect(),
        domain: reply.text(OptionCode::DomainName),
        host_name,
        server: reply.server_id().filter(is_usable).or(server)?,
        lasts: read_times(reply),
    })
}

fn read_times(reply: &Packet) -> Option<Times> {
    let end = match reply.seconds(OptionCode::AddressLeaseTime) {
        Some(FOREVER) => return None,
        // A shorter lease could not be renewed in time.
        Some(seconds) => seconds.max(4),
        None => DEFAULT_LEASE_SECONDS,
    };
    let share = |of_eight: u32| Duration::from_secs(u64::from(end) * u64::from(of_eight) / 8);
    let end_time = Duration::from_secs(end.into());
    let given = |code| {
        reply
            .seconds(code)
            .map(|seconds| Duration::from_secs(seconds.into()))
    };
    let renew = given(OptionCode::Renewal).filter(|at| !at.is_zero() && *at < end_time);
    let rebind = given(OptionCode::Rebinding).filter(|at| *at < end_time);
    let (renew, rebind) = match (renew, rebind) {
        (Some(renew), Some(rebind)) if renew < rebind => (renew, rebind),
        // Defaults of RFC 2131 §4.4.5: one half, and seven eighths.
        _ => (share(4), share(7)),
    };
    Some(Times {
        renew,
        rebind,
        end: end_time,
    })
}

fn is_usable(addr: &Ipv4Addr) -> bool {
    !(addr.is_unspecified() || addr.is_broadcast() || addr.is_multicast() || addr.is_loopback())
}

/// Prefix length of a mask. `None` for an empty mask or one with gaps.
fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let ones = mask.to_bits().leading_ones();
    let is_gapless = mask.to_bits().count_ones() == ones;
    u8::try_from(ones).ok().filter(|ones| is_gapless && *ones > 0)
}

/// Prefix length of a network without a mask, by its class (RFC 950 §2.1).
fn class_prefix(addr: Ipv4Addr) -> u8 {
    match addr.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        _ => 24,
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
