//! Who has which address until when: leases, offers, quarantined addresses. Pure; `store` keeps it over restarts.
//!
//! A machine is its MAC, whatever client identifier it sends: the ROM, iPXE, our node and the installed system of one
//! machine each send another one, and would take four addresses (Kea's `match-client-id: false` is there for the same
//! reason).
//!
//! Every map is bounded: leases, offers and quarantines by the number of addresses there are to give, which the
//! configuration bounds.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::dhcp::config::{KnownMachine, Pool};
use crate::machine::MacAddr;

/// How long an offered address waits for the client's REQUEST. ROMs answer within seconds, people at a boot menu later.
const OFFER_HOLD: Duration = Duration::from_secs(60);
/// How long an address that somebody else uses is left alone.
pub(crate) const QUARANTINE: Duration = Duration::from_secs(600);

/// Seconds since 1970: leases outlive this process, and the machine's uptime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct UnixTime(pub(crate) u64);

impl UnixTime {
    pub(crate) fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait.as_secs()))
    }
}

/// What is written to disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    pub(crate) leases: Vec<Lease>,
    pub(crate) quarantined: Vec<Quarantined>,
}

/// An address that was given. After `until` it is history: the machine gets it again if it is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lease {
    pub(crate) mac: MacAddr,
    pub(crate) address: Ipv4Addr,
    pub(crate) until: UnixTime,
}

/// An address that somebody uses without asking us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Quarantined {
    pub(crate) address: Ipv4Addr,
    pub(crate) until: UnixTime,
}

#[derive(Debug, Clone, Copy)]
struct Offer {
    address: Ipv4Addr,
    until: UnixTime,
    /// Nobody answered for the address when it was asked for.
    checked: bool,
}

/// All addresses.
#[derive(Debug)]
pub(crate) struct Leases {
    fixed: HashMap<MacAddr, Ipv4Addr>,
    fixed_addresses: HashMap<Ipv4Addr, MacAddr>,
    by_address: BTreeMap<Ipv4Addr, Lease>,
    by_mac: HashMap<MacAddr, Ipv4Addr>,
    offers: HashMap<MacAddr, Offer>,
    offered: HashMap<Ipv4Addr, MacAddr>,
    quarantined: HashMap<Ipv4Addr, UnixTime>,
}

impl Leases {
    /// `usable` says which kept addresses are still ours to give.
    pub(crate) fn new(known: &[KnownMachine], kept: &Kept, usable: impl Fn(Ipv4Addr) -> bool) -> Self {
        let fixed: HashMap<_, _> = known
            .iter()
            .filter_map(|machine| Some((machine.mac, machine.address?)))
            .collect();
        let mut leases = Self {
            fixed_addresses: fixed.iter().map(|(mac, address)| (*address, *mac)).collect(),
            fixed,
            by_address: BTreeMap::new(),
            by_mac: HashMap::new(),
            offers: HashMap::new(),
            offered: HashMap::new(),
            quarantined: HashMap::new(),
        };
        for lease in kept.leases.iter().filter(|lease| usable(lease.address)) {
            leases.insert(*lease);
        }
        for one in kept.quarantined.iter().filter(|one| usable(one.address)) {
            leases.quarantined.insert(one.address, one.until);
        }
        leases
    }

    /// What must outlive us.
    pub(crate) fn kept(&self, now: UnixTime) -> Kept {
        let mut quarantined: Vec<_> = self
            .quarantined
            .iter()
            .filter(|(_, until)| **until > now)
            .map(|(&address, &until)| Quarantined { address, until })
            .collect();
        quarantined.sort_by_key(|one| one.address);
        Kept {
            leases: self.by_address.values().copied().collect(),
            quarantined,
        }
    }

    /// The address that is always this machine's own.
    pub(crate) fn fixed(&self, mac: MacAddr) -> Option<Ipv4Addr> {
        self.fixed.get(&mac).copied()
    }

    /// The address that this machine has or had last.
    pub(crate) fn last_of(&self, mac: MacAddr) -> Option<Ipv4Addr> {
        self.by_mac.get(&mac).copied()
    }

    /// Whether the machine may use the address now without a new look at the wire.
    pub(crate) fn is_active(&self, mac: MacAddr, address: Ipv4Addr, now: UnixTime) -> bool {
        self.by_address
            .get(&address)
            .is_some_and(|lease| lease.mac == mac && lease.until > now)
            && !self.is_quarantined(address, now)
    }

    /// Whether nobody else has, is offered or owns the address, as far as we know.
    pub(crate) fn is_free_for(&self, mac: MacAddr, address: Ipv4Addr, now: UnixTime) -> bool {
        let leased = self
            .by_address
            .get(&address)
            .is_some_and(|lease| lease.mac != mac && lease.until > now);
        let owned = self
            .fixed_addresses
            .get(&address)
            .is_some_and(|owner| *owner != mac);
        let offered = self.offered.get(&address).is_some_and(|other| {
            *other != mac
                && self
                    .offers
                    .get(other)
                    .is_some_and(|offer| offer.until > now && offer.address == address)
        });
        !(leased || owned || offered || self.is_quarantined(address, now))
    }

    fn is_quarantined(&self, address: Ipv4Addr, now: UnixTime) -> bool {
        self.quarantined.get(&address).is_some_and(|until| *until > now)
    }

    /// The address to offer (RFC 2131 §4.3.1): the machine's own, the one it has or had, the one it asks for, one that
    /// nobody ever had, the one that has been free the longest.
    pub(crate) fn choose(
        &self,
        mac: MacAddr,
        pool: &Pool,
        own: impl Fn(Ipv4Addr) -> bool,
        asked: Option<Ipv4Addr>,
        now: UnixTime,
    ) -> Option<Ipv4Addr> {
        let free = |address: &Ipv4Addr| self.is_free_for(mac, *address, now);
        let fixed = self.fixed(mac).filter(|address| own(*address));
        let offered = self.offers.get(&mac).map(|offer| offer.address);
        let first = fixed.filter(free).or_else(|| {
            [offered, self.last_of(mac), asked]
                .into_iter()
                .flatten()
                .filter(|address| pool.contains(*address))
                .find(free)
        });
        first
            .or_else(|| {
                pool.addresses()
                    .find(|address| !self.by_address.contains_key(address) && free(address))
            })
            .or_else(|| {
                self.by_address
                    .range(pool.first..=pool.last)
                    .filter(|(address, _)| free(address))
                    .min_by_key(|(_, lease)| lease.until)
                    .map(|(address, _)| *address)
            })
    }

    /// Sets the address aside for the machine.
    pub(crate) fn offer(&mut self, mac: MacAddr, address: Ipv4Addr, now: UnixTime) {
        let checked = self.is_checked(mac, address, now);
        self.withdraw(mac);
        let offer = Offer {
            address,
            until: now.after(OFFER_HOLD),
            checked,
        };
        // Who was offered it before did not take it in time.
        if let Some(former) = self.offered.insert(address, mac) {
            self.offers.remove(&former);
        }
        self.offers.insert(mac, offer);
    }

    /// Nobody answers for the address. `false`: it is no longer set aside for the machine.
    pub(crate) fn set_checked(&mut self, mac: MacAddr, address: Ipv4Addr) -> bool {
        match self.offers.get_mut(&mac) {
            Some(offer) if offer.address == address => {
                offer.checked = true;
                true
            }
            _ => false,
        }
    }

    /// Whether the address is set aside for the machine, and was found unused while that offer stood.
    pub(crate) fn is_checked(&self, mac: MacAddr, address: Ipv4Addr, now: UnixTime) -> bool {
        self.offers
            .get(&mac)
            .is_some_and(|offer| offer.checked && offer.address == address && offer.until > now)
    }

    /// The address set aside for the machine.
    pub(crate) fn offered(&self, mac: MacAddr, now: UnixTime) -> Option<Ipv4Addr> {
        let offer = self.offers.get(&mac)?;
        (offer.until > now).then_some(offer.address)
    }

    /// The offer stands no longer.
    pub(crate) fn withdraw(&mut self, mac: MacAddr) {
        if let Some(offer) = self.offers.remove(&mac) {
            self.offered.remove(&offer.address);
        }
    }

    /// The address is the machine's until then; one it had before is nobody's.
    pub(crate) fn commit(&mut self, mac: MacAddr, address: Ipv4Addr, until: UnixTime) {
        self.withdraw(mac);
        self.insert(Lease { mac, address, until });
    }

    fn insert(&mut self, lease: Lease) {
        if let Some(former) = self.by_mac.insert(lease.mac, lease.address)
            && former != lease.address
        {
            self.by_address.remove(&former);
        }
        if let Some(former) = self.by_address.insert(lease.address, lease)
            && former.mac != lease.mac
        {
            self.by_mac.remove(&former.mac);
        }
    }

    /// The machine gives its address back; it is remembered, for the next time it comes.
    pub(crate) fn release(&mut self, mac: MacAddr, address: Ipv4Addr, now: UnixTime) -> bool {
        match self.by_address.get_mut(&address) {
            Some(lease) if lease.mac == mac && lease.until > now => {
                lease.until = now;
                true
            }
            _ => false,
        }
    }

    /// Somebody uses the address without asking us: nobody gets it for a while.
    pub(crate) fn quarantine(&mut self, address: Ipv4Addr, now: UnixTime) {
        self.quarantined.retain(|_, until| *until > now);
        self.quarantined.insert(address, now.after(QUARANTINE));
        if let Some(lease) = self.by_address.remove(&address) {
            self.by_mac.remove(&lease.mac);
        }
        if let Some(mac) = self.offered.get(&address).copied() {
            self.withdraw(mac);
        }
    }

    /// How many addresses of a pool are out of reach: leased, and quarantined.
    pub(crate) fn taken(&self, pool: &Pool, now: UnixTime) -> (usize, usize) {
        let leased = self.by_address.range(pool.first..=pool.last);
        let leased = leased.filter(|(_, lease)| lease.until > now).count();
        let quarantined = self.quarantined.iter();
        let quarantined = quarantined.filter(|(address, until)| pool.contains(**address) && **until > now);
        (leased, quarantined.count())
    }
}
