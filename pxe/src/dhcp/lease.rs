//! Leases, offers and quarantined addresses. Pure; `store` keeps them over restarts.
//!
//! A machine is identified by its MAC, and its client identifier is ignored. The ROM, iPXE, the node and the
//! installed system of one machine each send another identifier, and would take four addresses. Kea has
//! `match-client-id: false` for the same reason.
//!
//! Every map is bounded. Leases, offers and quarantines are limited by the number of addresses to give, and
//! the configuration limits that number.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::time::Duration;

use ka_mac::MacAddr;
use serde::{Deserialize, Serialize};

use crate::dhcp::config::{KnownMachine, Pool};

/// Time for which an offered address waits for the client's REQUEST. ROMs answer within seconds, people at a
/// boot menu later.
const OFFER_HOLD: Duration = Duration::from_secs(60);
/// Time for which an address in use by a stranger is not given to any machine.
pub(crate) const QUARANTINE: Duration = Duration::from_secs(600);

/// Seconds since 1970. A lease outlives this process and the machine's uptime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct UnixTime(pub(crate) u64);

impl UnixTime {
    pub(crate) fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait.as_secs()))
    }
}

/// Content of the lease file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    pub(crate) leases: Vec<Lease>,
    pub(crate) quarantined: Vec<Quarantined>,
}

/// An address that was given. After `until` the lease is over, but the machine gets the address again if it
/// is still free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lease {
    pub(crate) mac: MacAddr,
    pub(crate) address: Ipv4Addr,
    pub(crate) until: UnixTime,
}

/// An address that a machine uses without a lease.
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
    /// True if no machine answered ARP for the address.
    checked: bool,
}

/// All leases, offers and quarantines.
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
    /// Creates the table from the lease file. `usable` is true for kept addresses that this server may still
    /// give.
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

    /// Returns the content for the lease file.
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

    /// The machine's fixed address, from the node list.
    pub(crate) fn fixed(&self, mac: MacAddr) -> Option<Ipv4Addr> {
        self.fixed.get(&mac).copied()
    }

    /// The address that the machine has now or had last.
    pub(crate) fn last_of(&self, mac: MacAddr) -> Option<Ipv4Addr> {
        self.by_mac.get(&mac).copied()
    }

    /// True if the machine may use the address now without a new ARP check.
    pub(crate) fn is_active(&self, mac: MacAddr, address: Ipv4Addr, now: UnixTime) -> bool {
        self.by_address
            .get(&address)
            .is_some_and(|lease| lease.mac == mac && lease.until > now)
            && !self.is_quarantined(address, now)
    }

    /// True if the address is not leased to, offered to or reserved for another machine, and not quarantined.
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

    /// Chooses the address to offer (RFC 2131 §4.3.1). The order is: the machine's fixed address, the one it
    /// has or had, the one it asks for, one that was never given, the one that has been free the longest.
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

    /// Reserves the address for the machine while it decides.
    pub(crate) fn offer(&mut self, mac: MacAddr, address: Ipv4Addr, now: UnixTime) {
        let checked = self.is_checked(mac, address, now);
        self.withdraw(mac);
        let offer = Offer {
            address,
            until: now.after(OFFER_HOLD),
            checked,
        };
        // The machine that was offered the address before did not accept it in time.
        if let Some(former) = self.offered.insert(address, mac) {
            self.offers.remove(&former);
        }
        self.offers.insert(mac, offer);
    }

    /// Records that no machine answers ARP for the address. Returns false if the address is no longer offered
    /// to the machine.
    pub(crate) fn set_checked(&mut self, mac: MacAddr, address: Ipv4Addr) -> bool {
        match self.offers.get_mut(&mac) {
            Some(offer) if offer.address == address => {
                offer.checked = true;
                true
            }
            _ => false,
        }
    }

    /// True if the address is offered to the machine and was found unused during that offer.
    pub(crate) fn is_checked(&self, mac: MacAddr, address: Ipv4Addr, now: UnixTime) -> bool {
        self.offers
            .get(&mac)
            .is_some_and(|offer| offer.checked && offer.address == address && offer.until > now)
    }

    /// The address offered to the machine.
    pub(crate) fn offered(&self, mac: MacAddr, now: UnixTime) -> Option<Ipv4Addr> {
        let offer = self.offers.get(&mac)?;
        (offer.until > now).then_some(offer.address)
    }

    /// Ends the offer to the machine.
    pub(crate) fn withdraw(&mut self, mac: MacAddr) {
        if let Some(offer) = self.offers.remove(&mac) {
            self.offered.remove(&offer.address);
        }
    }

    /// Leases the address to the machine until then. Frees the address that the machine had before.
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

    /// Ends the lease, because the machine gave its address back. The address is remembered for its next
    /// visit. Returns true if there was a lease to end.
    pub(crate) fn release(&mut self, mac: MacAddr, address: Ipv4Addr, now: UnixTime) -> bool {
        match self.by_address.get_mut(&address) {
            Some(lease) if lease.mac == mac && lease.until > now => {
                lease.until = now;
                true
            }
            _ => false,
        }
    }

    /// Quarantines an address that a machine uses without a lease: no machine gets it for a while.
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

    /// Counts the addresses of a pool that cannot be given: leased, and quarantined.
    pub(crate) fn taken(&self, pool: &Pool, now: UnixTime) -> (usize, usize) {
        let leased = self.by_address.range(pool.first..=pool.last);
        let leased = leased.filter(|(_, lease)| lease.until > now).count();
        let quarantined = self.quarantined.iter();
        let quarantined = quarantined.filter(|(address, until)| pool.contains(**address) && **until > now);
        (leased, quarantined.count())
    }
}
