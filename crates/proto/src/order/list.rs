//! The operator's list of nodes in the order of the chain, with the groups in which they stand.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ka_mac::MacAddr;

use super::Candidate;
use crate::text::{NodeName, PlaceName};

/// A handle by which a list names a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Handle {
    Addr(IpAddr),
    Mac(MacAddr),
    /// Host name in lower case.
    Name(String),
}

impl Handle {
    fn parse(word: &str) -> Result<Self, String> {
        if let Ok(addr) = word.parse::<IpAddr>() {
            return Ok(Self::Addr(addr.to_canonical()));
        }
        if let Ok(mac) = word.parse::<MacAddr>() {
            return Ok(Self::Mac(mac));
        }
        let name = NodeName::new(word).map_err(|error| error.to_string())?;
        Ok(Self::name(name.as_str()))
    }

    fn name(name: &str) -> Self {
        Self::Name(name.to_lowercase())
    }
}

/// A node's place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    rank: usize,
    /// Index of its group.
    group: Option<usize>,
}

/// A fault of a list: the line, counted from 1, and what is wrong there.
pub type ListFault = (usize, String);

/// The operator's list of nodes in the order of the chain (`--order`, groups of the node list).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderList {
    places: BTreeMap<Handle, Place>,
    groups: Vec<PlaceName>,
    next_rank: usize,
}

impl OrderList {
    /// Parses a list: one name, address or MAC address in each line, in the order of the chain. A line `[NAME]`
    /// begins a group. Blank lines and text behind a `#` are skipped.
    ///
    /// # Errors
    /// All faults, each with its line.
    pub fn parse(text: &str) -> Result<Self, Vec<ListFault>> {
        let mut list = Self::default();
        let mut faults = Vec::new();
        let mut lines_of: BTreeMap<String, usize> = BTreeMap::new();
        let mut group = None;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let taken = match group_line(line) {
                Some(named) => named.map(|name| {
                    let key = format!("[{name}]");
                    group = Some(list.add_group(name));
                    key
                }),
                None => list.add_line(line, group),
            };
            let fault = match taken {
                Ok(key) => lines_of
                    .insert(key, number)
                    .map(|first| format!("`{line}` is already on line {first}")),
                Err(text) => Some(text),
            };
            faults.extend(fault.map(|text| (number, text)));
        }
        if faults.is_empty() { Ok(list) } else { Err(faults) }
    }

    /// Adds the nodes of a node list that are in a group, behind those that are in the list already. The nodes
    /// of one group have one rank, and groups are in the order of their first nodes.
    #[must_use]
    pub fn with_groups<'a>(
        mut self,
        nodes: impl IntoIterator<Item = (MacAddr, &'a str, Option<&'a PlaceName>)>,
    ) -> Self {
        let mut ranks: BTreeMap<usize, usize> = BTreeMap::new();
        for (mac, name, group) in nodes {
            let Some(group) = group else { continue };
            let group = self.add_group(group.clone());
            let rank = *ranks.entry(group).or_insert(self.next_rank);
            self.next_rank = self.next_rank.max(rank + 1);
            let place = Place {
                rank,
                group: Some(group),
            };
            for handle in [Handle::Mac(mac), Handle::name(name)] {
                self.places.entry(handle).or_insert(place);
            }
        }
        self
    }

    /// True if the list names no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns the handles of the list in its order, as the operator would write them.
    #[must_use]
    pub fn handles(&self) -> Vec<String> {
        let mut all: Vec<_> = self.places.iter().collect();
        all.sort_by_key(|(_, place)| place.rank);
        let text = |handle: &Handle| match handle {
            Handle::Addr(addr) => addr.to_string(),
            Handle::Mac(mac) => mac.to_string(),
            Handle::Name(name) => name.clone(),
        };
        all.into_iter().map(|(handle, _)| text(handle)).collect()
    }

    /// Returns the rank of a node: low ones come first, and nodes that are not listed come last.
    pub(super) fn rank(&self, node: &Candidate<'_>) -> usize {
        self.place(node).map_or(usize::MAX, |place| place.rank)
    }

    /// Returns the group of a node.
    #[must_use]
    pub fn group(&self, node: &Candidate<'_>) -> Option<&str> {
        let group = self.place(node)?.group?;
        self.groups.get(group).map(PlaceName::as_str)
    }

    /// Returns the first place that a handle of the node has.
    fn place(&self, node: &Candidate<'_>) -> Option<Place> {
        if self.is_empty() {
            return None;
        }
        let addr = node.addr.map(|addr| Handle::Addr(addr.ip().to_canonical()));
        let mac = node.mac.map(Handle::Mac);
        let name = Some(Handle::name(node.name));
        let handles = [addr, mac, name].into_iter().flatten();
        handles
            .filter_map(|handle| self.places.get(&handle).copied())
            .min_by_key(|place| place.rank)
    }

    /// Adds a group, unless it is there. Returns its index.
    fn add_group(&mut self, name: PlaceName) -> usize {
        let known = self.groups.iter().position(|known| *known == name);
        known.unwrap_or_else(|| {
            self.groups.push(name);
            self.groups.len() - 1
        })
    }

    /// Adds the node of a line. Returns its handle as a text that is the same for all spellings.
    fn add_line(&mut self, line: &str, group: Option<usize>) -> Result<String, String> {
        let mut words = line.split_whitespace();
        let word = words.next().unwrap_or_default();
        if words.next().is_some() {
            return Err(format!(
                "`{line}` is more than one word: write one name, address or hardware address in each line, or [GROUP]"
            ));
        }
        let handle = Handle::parse(word)?;
        let key = format!("{handle:?}");
        let rank = self.next_rank;
        self.next_rank += 1;
        self.places.entry(handle).or_insert(Place { rank, group });
        Ok(key)
    }
}

/// Returns the name of the group that a line `[NAME]` begins. `None` for any other line.
///
/// # Errors
/// The line begins with a bracket, and is not `[NAME]`.
#[must_use]
pub fn group_line(line: &str) -> Option<Result<PlaceName, String>> {
    let rest = line.strip_prefix('[')?;
    let Some(name) = rest.strip_suffix(']') else {
        return Some(Err(format!("`{line}` has no closing bracket: write [GROUP]")));
    };
    Some(PlaceName::new(name.trim()).map_err(|error| format!("`{line}`: {error}; write [GROUP]")))
}
