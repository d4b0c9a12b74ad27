//! What a DHCP client does when (RFC 2131 §4.4): a machine without socket and clock.
//!
//! Time is counted from any moment of the driver's. After every call, drain [`Machine::poll_output`].

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::arp;
use crate::message::{Kind, Query, Reply, option};

/// First wait for an offer or an answer; it doubles with each try. RFC 2131 §4.1 has 4 s; a machine room's own server
/// answers in milliseconds, and a switch port that was just let through (STP) is found sooner.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// Longest wait between two questions.
const LONGEST_WAIT: Duration = Duration::from_secs(16);
/// So often is one offer asked for; then another one is looked for.
const REQUEST_TRIES: u32 = 3;
/// So often is the wire asked whether somebody has the address already, and so long is each answer waited for. RFC 5227
/// §1.1 has 3 s and more for all of it, for wires of any kind; a room's own answers in milliseconds, and every node waits.
const PROBES: u32 = 3;
const PROBE_WAIT: Duration = Duration::from_millis(300);
/// RFC 2131 §3.1.5: at least so long after an address was declined.
const DECLINED_PAUSE: Duration = Duration::from_secs(10);
/// Least time between two questions for an extension (RFC 2131 §4.4.5 has 60 s, too long for short leases).
const LEAST_EXTENSION_WAIT: Duration = Duration::from_secs(2);
/// An Ethernet frame, the least that every wire carries.
const MAX_MESSAGE_BYTES: u16 = 1472;
/// A lease that never ends (RFC 2131 §3.3).
const FOREVER: u32 = u32::MAX;
/// What is taken for a lease's length when the server names none.
const DEFAULT_LEASE_SECONDS: u32 = 3600;
/// Name servers worth keeping: resolv.conf(5) takes three.
const MAX_NAME_SERVERS: usize = 3;

/// Who asks.
#[derive(Debug, Clone)]
pub struct Config {
    /// Hardware address of the interface.
    pub mac: [u8; 6],
    /// Option 60, by which a server tells our node from a machine's firmware and from an installed system.
    pub vendor_class: String,
    /// Name to be known by, when there is one already.
    pub host_name: Option<String>,
    /// Anything that differs between machines and starts.
    pub seed: u64,
}

/// What a server gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub addr: Ipv4Addr,
    /// Length of the network's prefix.
    pub prefix: u8,
    /// The way out.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers.
    pub name_servers: Vec<Ipv4Addr>,
    /// The domain.
    pub domain: Option<String>,
    /// The name that the server has for this machine.
    pub host_name: Option<String>,
    /// Who gave it.
    pub server: Ipv4Addr,
    /// How long it lasts; `None` for ever.
    pub lasts: Option<Times>,
}

/// When something is due, counted from the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// T1: the server is asked for more.
    pub renew: Duration,
    /// T2: everybody is asked.
    pub rebind: Duration,
    /// The address must no longer be used.
    pub end: Duration,
}

/// What the driver must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this message.
    Send(Via, Vec<u8>),
    /// Send this ARP packet to everybody, and hand over every ARP packet that comes.
    Probe(Vec<u8>),
    /// Tell whoever is above.
    Event(Event),
}

/// How a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// To everybody, from no address: over the packet socket.
    Wire,
    /// From the leased address to the server that gave it.
    Server(Ipv4Addr),
    /// From the leased address to everybody.
    Everybody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Nobody has offered an address yet; asking for this many times now.
    Asking(u32),
    /// There is a lease.
    Bound(Lease),
    /// It was extended.
    Extended(Lease),
    /// The server took its offer or lease back.
    Refused(String),
    /// Somebody on the wire, with this hardware address, uses the address that was offered; the server was told.
    InUse {
        /// The address.
        addr: Ipv4Addr,
        /// Who uses it.
        owner: [u8; 6],
    },
    /// It has ended without being extended; a new one is looked for.
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

/// A DHCP client's decisions.
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
    /// Begins at `now`, after a short random while, so that a room that was switched on at once does not ask at once.
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

    /// The next thing to do, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called.
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

    /// Whether ARP packets are of interest now.
    #[must_use]
    pub const fn is_probing(&self) -> bool {
        matches!(self.phase, Phase::Probing { .. })
    }

    /// Lets time pass.
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

    /// A DHCP message that came. Whatever is not for us, not expected or not usable is passed over.
    pub fn handle_message(&mut self, now: Duration, bytes: &[u8]) {
        let Some(reply) = Reply::decode(bytes) else { return };
        if reply.xid != self.xid || reply.mac != self.config.mac {
            return;
        }
        match (&self.phase, reply.kind) {
            (Phase::Selecting { tries: 1.. }, Kind::Offer) => {
                if let Some(offer) = read_lease(&reply, None) {
                    self.phase = Phase::Requesting { offer, tries: 1 };
                    self.asked = now;
                    self.request(now, 1);
                }
            }
            (Phase::Requesting { offer, .. }, Kind::Ack) => {
                if let Some(lease) = read_lease(&reply, Some(offer.server)) {
                    self.phase = Phase::Probing { lease, sent: 1 };
                    self.probe(now);
                }
            }
            (Phase::Extending { lease, .. }, Kind::Ack) => {
                let same = read_lease(&reply, Some(lease.server)).filter(|given| given.addr == lease.addr);
                if let Some(lease) = same {
                    self.bind(lease, Event::Extended);
                }
            }
            (Phase::Requesting { offer: from, .. } | Phase::Extending { lease: from, .. }, Kind::Nak) => {
                let server = reply.address(option::SERVER_ID).unwrap_or(from.server);
                let said = reply.text(option::MESSAGE).unwrap_or_default();
                self.tell(Event::Refused(format!("{server} {said}").trim_end().to_owned()));
                self.select(now);
            }
            _ => {}
        }
    }

    /// An ARP packet that came.
    pub fn handle_arp(&mut self, now: Duration, packet: &[u8]) {
        let Phase::Probing { lease, .. } = &self.phase else {
            return;
        };
        let Some(owner) = arp::rival(packet, lease.addr, self.config.mac) else {
            return;
        };
        let (addr, server) = (lease.addr, lease.server);
        let declined = [
            (option::REQUESTED_ADDRESS, addr.octets().to_vec()),
            (option::SERVER_ID, server.octets().to_vec()),
        ];
        let query = self.query(now, Kind::Decline, Ipv4Addr::UNSPECIFIED, &declined);
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
        // One number for all tries: an offer that is late is still one.
        if tries == 1 {
            self.xid = self.next_random_u32();
        }
        let query = self.query(now, Kind::Discover, Ipv4Addr::UNSPECIFIED, &[]);
        self.outputs.push_back(Output::Send(Via::Wire, query));
        self.due = now + self.wait(tries);
    }

    fn request(&mut self, now: Duration, tries: u32) {
        let Phase::Requesting { offer, .. } = &self.phase else {
            return;
        };
        let chosen = [
            (option::REQUESTED_ADDRESS, offer.addr.octets().to_vec()),
            (option::SERVER_ID, offer.server.octets().to_vec()),
        ];
        let query = self.query(now, Kind::Request, Ipv4Addr::UNSPECIFIED, &chosen);
        self.outputs.push_back(Output::Send(Via::Wire, query));
        self.due = now + self.wait(tries);
    }

    fn bind(&mut self, lease: Lease, event: impl FnOnce(Lease) -> Event) {
        self.tell(event(lease.clone()));
        // Counted from the question: the server's clock started no earlier (RFC 2131 §4.4.1).
        let since = self.asked;
        self.due = lease.lasts.map_or(Duration::MAX, |times| since + times.renew);
        self.phase = Phase::Bound { lease, since };
    }

    /// Asks for more time: the server until T2, then everybody, until the end.
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
        let query = self.query(now, Kind::Request, lease.addr, &[]);
        self.outputs.push_back(Output::Send(via, query));
        let wait = ((until - now) / 2).max(LEAST_EXTENSION_WAIT);
        self.due = (now + wait).min(until);
    }

    fn query(&self, now: Duration, kind: Kind, own: Ipv4Addr, more: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let wanted = vec![
            option::SUBNET_MASK,
            option::ROUTER,
            option::NAME_SERVER,
            option::HOST_NAME,
            option::DOMAIN,
            option::LEASE_TIME,
            option::SERVER_ID,
            option::RENEWAL,
            option::REBINDING,
        ];
        let mut options = more.to_vec();
        options.push((option::MAX_SIZE, MAX_MESSAGE_BYTES.to_be_bytes().to_vec()));
        options.push((option::VENDOR_CLASS, self.config.vendor_class.as_bytes().to_vec()));
        if let Some(name) = &self.config.host_name {
            options.push((option::HOST_NAME, name.as_bytes().to_vec()));
        }
        options.push((option::PARAMETERS, wanted));
        let secs = now.saturating_sub(self.began).as_secs();
        Query {
            kind,
            xid: self.xid,
            secs: u16::try_from(secs).unwrap_or(u16::MAX),
            mac: self.config.mac,
            own,
            options: &options,
        }
        .encode()
    }

    fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// How long the try with this number is waited for: doubling, spread by an eighth.
    fn wait(&mut self, tries: u32) -> Duration {
        let doubled = FIRST_WAIT.saturating_mul(1 << tries.saturating_sub(1).min(16));
        let wait = doubled.min(LONGEST_WAIT);
        wait + self.jitter(wait / 8)
    }

    fn jitter(&mut self, below: Duration) -> Duration {
        below.mul_f64(f64::from(self.next_random_u32()) / f64::from(u32::MAX))
    }

    /// xorshift64* (Marsaglia, Vigna): no secret hangs on it.
    fn next_random_u32(&mut self) -> u32 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let mixed = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        u32::try_from(mixed).unwrap_or(u32::MAX)
    }
}

/// The lease in an offer or acknowledgement; `None` when it is of no use. `server` is who is meant when it does not say.
fn read_lease(reply: &Reply, server: Option<Ipv4Addr>) -> Option<Lease> {
    let addr = Some(reply.yours).filter(is_usable)?;
    let prefix = match reply.address(option::SUBNET_MASK) {
        Some(mask) => prefix_of(mask)?,
        None => class_prefix(addr),
    };
    let host_name = reply.text(option::HOST_NAME);
    Some(Lease {
        addr,
        prefix,
        gateway: reply.address(option::ROUTER).filter(is_usable),
        name_servers: reply
            .addresses(option::NAME_SERVER)
            .filter(is_usable)
            .take(MAX_NAME_SERVERS)
            .collect(),
        domain: reply.text(option::DOMAIN),
        host_name,
        server: reply.address(option::SERVER_ID).filter(is_usable).or(server)?,
        lasts: read_times(reply),
    })
}

fn read_times(reply: &Reply) -> Option<Times> {
    let end = match reply.seconds(option::LEASE_TIME) {
        Some(FOREVER) => return None,
        // Of a lease of no length nothing could be renewed in time.
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
    let renew = given(option::RENEWAL).filter(|at| !at.is_zero() && *at < end_time);
    let rebind = given(option::REBINDING).filter(|at| *at < end_time);
    let (renew, rebind) = match (renew, rebind) {
        (Some(renew), Some(rebind)) if renew < rebind => (renew, rebind),
        // RFC 2131 §4.4.5: a half, and seven eighths.
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

/// `None` for a mask with gaps, or of nothing.
fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let ones = mask.to_bits().leading_ones();
    let is_gapless = mask.to_bits().count_ones() == ones;
    u8::try_from(ones).ok().filter(|ones| is_gapless && *ones > 0)
}

/// What a network without a mask is (RFC 950 §2.1).
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
