//! The DHCP configuration and its check. Each contradiction is one line that names the option to change.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ka_mac::MacAddr;

use crate::dhcp::iface::Subnet;
use crate::dhcp::{DhcpError, Interface};

/// Largest pool, in addresses: a /16. It is more than one server ever boots, and still few enough to scan for
/// each new machine.
const MAX_POOL: u32 = 65_536;
/// Shortest lease time. A client needs time to renew, with retries (RFC 2131 §4.4.5 waits in seconds).
const MIN_LEASE: Duration = Duration::from_secs(10);
/// Longest lease time: one year. A longer lease is a static address under another name.
const MAX_LEASE: Duration = Duration::from_secs(365 * 24 * 3600);
/// Default lease time. It covers a machine room from power-on to the clones' first boots; then other servers
/// take over.
const DEFAULT_LEASE: Duration = Duration::from_secs(12 * 3600);
/// Largest number of name servers: as many fit into a reply beside all other options.
const MAX_DNS: usize = 8;
/// Longest domain name and label, in bytes (RFC 1035 §2.3.4).
const MAX_DOMAIN: usize = 253;
const MAX_LABEL: usize = 63;

/// The DHCP service of one interface.
#[derive(Debug, Clone)]
pub struct DhcpConfig {
    /// The only interface that is served.
    pub iface: String,
    /// DHCP mode.
    pub mode: DhcpMode,
    /// Machines known by MAC. In `full` mode each gets its own address and name.
    pub known: Vec<KnownMachine>,
    /// Directory of the lease file (`leases-IFACE.json`). Created if it does not exist.
    pub state_dir: PathBuf,
}

/// Values of `--dhcp`: `full:FIRST-LAST`, `proxy` or `off`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DhcpMode {
    /// This server gives addresses and boot files, and there is no other DHCP server.
    Full(FullConfig),
    /// Another server gives addresses, and this one adds the boot file.
    Proxy,
    /// No DHCP service.
    Off,
}

/// Network settings that machines get in `full` mode, besides their boot file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullConfig {
    /// Addresses for machines on the server's own wire.
    pub pool: Pool,
    /// Addresses for machines behind relays.
    pub relayed: Vec<RelayedPool>,
    /// Time for which a machine may use its address.
    pub lease_time: Duration,
    /// Default router. A relayed pool without a router of its own gets the relay's address instead.
    pub router: Option<Ipv4Addr>,
    /// Name servers, at most eight.
    pub dns: Vec<Ipv4Addr>,
    /// Domain name.
    pub domain: Option<String>,
}

/// The addresses FIRST to LAST, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// First address.
    pub first: Ipv4Addr,
    /// Last address.
    pub last: Ipv4Addr,
}

/// A pool for another subnet, whose relay forwards requests to this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayedPool {
    /// Addresses of the pool.
    pub pool: Pool,
    /// Prefix length of the subnet, in bits.
    pub prefix: u8,
    /// Router of the subnet, if it is not the relay.
    pub router: Option<Ipv4Addr>,
}

/// A machine known by its MAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMachine {
    /// MAC address of its card.
    pub mac: MacAddr,
    /// Host name that the machine is told (option 12).
    pub name: Option<String>,
    /// Fixed address of the machine.
    pub address: Option<Ipv4Addr>,
}

impl Pool {
    /// True if the pool contains the address.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// Checks that the pool does not end before it begins. This needs no subnet.
    ///
    /// # Errors
    /// Fails if the pool ends before it begins.
    pub fn check_order(&self) -> Result<(), String> {
        let Self { first, last } = self;
        match first > last {
            true => Err(format!(
                "pool {self} ends before it begins: write it {last}-{first}"
            )),
            false => Ok(()),
        }
    }

    /// All addresses, in order.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        (u32::from(self.first)..=u32::from(self.last)).map(Ipv4Addr::from)
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl RelayedPool {
    pub(crate) fn subnet(&self) -> Subnet {
        Subnet {
            address: self.pool.first,
            prefix: self.prefix,
        }
    }
}

impl FullConfig {
    /// A configuration with this pool and the default lease time, without router, name server and domain.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self {
            pool,
            relayed: Vec::new(),
            lease_time: DEFAULT_LEASE,
            router: None,
            dns: Vec::new(),
            domain: None,
        }
    }
}

impl FromStr for DhcpMode {
    type Err = String;

    /// Parses `proxy`, `off`, or `full:FIRST-LAST[,FIRST-LAST/PREFIX…]`. The first pool is for the server's
    /// own wire; pools with a prefix are for subnets behind relays.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is none of full:FIRST-LAST, proxy, off");
        match text {
            "proxy" => return Ok(Self::Proxy),
            "off" => return Ok(Self::Off),
            _ => {}
        }
        let pools = text.strip_prefix("full:").ok_or_else(wrong)?;
        let mut pools = pools.split(',');
        let own = pools.next().and_then(parse_pool).ok_or_else(wrong)?;
        let mut full = FullConfig::new(own);
        for relayed in pools {
            let bad =
                || format!("`{relayed}` in `{text}` is no FIRST-LAST/PREFIX of a subnet behind a relay");
            let (pool, prefix) = relayed.split_once('/').ok_or_else(bad)?;
            full.relayed.push(RelayedPool {
                pool: parse_pool(pool).ok_or_else(bad)?,
                prefix: prefix.parse().map_err(|_| bad())?,
                router: None,
            });
        }
        Ok(Self::Full(full))
    }
}

fn parse_pool(text: &str) -> Option<Pool> {
    let (first, last) = text.split_once('-')?;
    Some(Pool {
        first: first.parse().ok()?,
        last: last.parse().ok()?,
    })
}

impl DhcpConfig {
    /// Checks all settings against the interface and against each other. Returns the first fault.
    pub(crate) fn check(&self, interface: &Interface) -> Result<(), DhcpError> {
        self.faults(interface).into_iter().next().map_or(Ok(()), Err)
    }

    /// Checks as [`Self::check`] does, and returns every fault.
    pub(crate) fn faults(&self, interface: &Interface) -> Vec<DhcpError> {
        let DhcpMode::Full(full) = &self.mode else {
            return Vec::new();
        };
        let subnet = interface.subnet;
        let place = format!("{} of {}", subnet, self.iface);
        let faults = full.faults(&self.known, &subnet, &place);
        faults.into_iter().map(DhcpError::Config).collect()
    }
}

impl FullConfig {
    /// Every fault, one line each. `place` is the operator's name for the subnet.
    pub(crate) fn faults(&self, known: &[KnownMachine], subnet: &Subnet, place: &str) -> Vec<String> {
        let pool = self.pool;
        let mut faults: Vec<String> = check_pool(&pool, subnet, place).err().into_iter().collect();
        let ours = subnet.address;
        if pool.contains(ours) {
            faults.push(format!(
                "pool {pool} contains our own address {ours}: choose FIRST and LAST beside it"
            ));
        }
        let others = self
            .dns
            .iter()
            .chain(&self.router)
            .filter(|other| **other != ours);
        let inside: BTreeSet<_> = others.filter(|other| pool.contains(**other)).collect();
        faults.extend(inside.into_iter().map(|other| {
            format!(
                "pool {pool} contains {other}, the router or a name server: choose FIRST and LAST beside it"
            )
        }));
        for relayed in &self.relayed {
            faults.extend(self.check_relayed(relayed, subnet).err());
        }
        if let Some(router) = self.router
            && !subnet.has_host(router)
        {
            faults.push(format!("router {router} is not in {place}"));
        }
        if !(MIN_LEASE..=MAX_LEASE).contains(&self.lease_time) {
            let (min, max) = (MIN_LEASE.as_secs(), MAX_LEASE.as_secs());
            let asked = self.lease_time.as_secs();
            faults.push(format!("lease time {asked} s is not between {min} s and {max} s"));
        }
        if self.dns.len() > MAX_DNS {
            faults.push(format!("{} name servers are more than {MAX_DNS}", self.dns.len()));
        }
        if let Some(domain) = self.domain.as_ref().filter(|domain| !is_domain(domain)) {
            faults.push(format!("`{domain}` is no domain name"));
        }
        faults.extend(known_faults(known, self, subnet, place));
        faults
    }

    fn check_relayed(&self, relayed: &RelayedPool, own: &Subnet) -> Result<(), String> {
        let pool = relayed.pool;
        if !(1..=30).contains(&relayed.prefix) {
            return Err(format!(
                "pool {pool}/{}: the prefix is not between 1 and 30",
                relayed.prefix
            ));
        }
        let subnet = relayed.subnet();
        check_pool(&pool, &subnet, &subnet.to_string())?;
        let others = self.relayed.iter().filter(|other| *other != relayed);
        let mut taken = others
            .map(RelayedPool::subnet)
            .chain([*own])
            .filter(|other| other.contains(subnet.address) || subnet.contains(other.address));
        if let Some(other) = taken.next() {
            return Err(format!(
                "pool {pool}/{} is in {other}, which has a pool already",
                relayed.prefix
            ));
        }
        match relayed.router {
            Some(router) if !subnet.has_host(router) => {
                Err(format!("router {router} of pool {pool} is not in {subnet}"))
            }
            _ => Ok(()),
        }
    }
}

fn check_pool(pool: &Pool, subnet: &Subnet, place: &str) -> Result<(), String> {
    let Pool { first, last } = *pool;
    pool.check_order()?;
    if u32::from(last) - u32::from(first) >= MAX_POOL {
        return Err(format!("pool {pool} has more than {MAX_POOL} addresses"));
    }
    let outside = [first, last]
        .into_iter()
        .find(|address| !subnet.contains(*address));
    if let Some(outside) = outside {
        return Err(format!("pool {pool}: {outside} is not in {place}"));
    }
    let special = [first, last]
        .into_iter()
        .find(|address| !subnet.has_host(*address));
    match special {
        Some(special) => Err(format!(
            "pool {pool}: {special} is the network's or the broadcast address of {place}"
        )),
        None => Ok(()),
    }
}

fn known_faults(known: &[KnownMachine], full: &FullConfig, subnet: &Subnet, place: &str) -> Vec<String> {
    let (mut macs, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    let mut faults = Vec::new();
    for machine in known {
        let mac = machine.mac;
        if !macs.insert(mac) {
            faults.push(format!("machine {mac} is listed twice"));
        }
        if let Some(name) = machine.name.as_ref().filter(|name| !is_domain(name)) {
            faults.push(format!("`{name}`, the name of {mac}, is no host name"));
        }
        let Some(address) = machine.address else {
            continue;
        };
        let relayed = full
            .relayed
            .iter()
            .any(|relayed| relayed.subnet().has_host(address));
        if !addresses.insert(address) {
            faults.push(format!(
                "address {address} of {mac} belongs to another machine of the list"
            ));
        } else if address == subnet.address {
            faults.push(format!("address {address} of {mac} is our own"));
        } else if !subnet.has_host(address) && !relayed {
            faults.push(format!("address {address} of {mac} is not in {place}"));
        }
    }
    faults
}

/// True if the name has labels of letters, digits and dashes (RFC 1123 §2.1), or underscores, which exist in
/// practice.
fn is_domain(name: &str) -> bool {
    let label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= MAX_DOMAIN && name.split('.').all(label)
}
