//! The crossings of a chain: each hop from one switch to another one.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{Candidate, OrderRule, switch_names};

/// The kind of places that a chain crosses between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlaceKind {
    /// Switches, as nodes heard of them.
    #[default]
    Switch,
    /// Groups of the operator, because no node heard of a switch.
    Group,
}

/// A switch or a group, and the hops of the chain into it and out of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlaceCrossings {
    /// Its name.
    pub name: String,
    /// Number of nodes there, without the golden node.
    pub nodes: usize,
    /// Number of hops from another place into it.
    pub entered: usize,
    /// Number of hops from it to another place.
    pub left: usize,
}

/// The crossings of a chain. A hop from or to a node whose place is not known is not counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Crossings {
    /// The kind of the places.
    pub kind: PlaceKind,
    /// Every known place, in the order in which the chain comes to it first. The golden node's is the first.
    pub places: Vec<PlaceCrossings>,
    /// Number of hops from one place to another.
    pub hops: usize,
    /// Number of nodes whose place is not known.
    pub unknown: usize,
}

impl Crossings {
    /// True if the place of some node is known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.places.iter().any(|place| place.nodes > 0)
    }

    /// True if the chain goes into each place once at most, and out of it once at most.
    #[must_use]
    pub fn are_fewest(&self) -> bool {
        self.crossed_again().next().is_none()
    }

    fn crossed_again(&self) -> impl Iterator<Item = &PlaceCrossings> {
        self.places
            .iter()
            .filter(|place| place.entered.max(place.left) > 1)
    }

    fn hop(&mut self, from: usize, to: usize) {
        self.places[from].left += 1;
        self.places[to].entered += 1;
        self.hops += 1;
    }
}

impl fmt::Display for Crossings {
    /// Writes `2 switches, crossed once each way`. Writes nothing if no place is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_known() {
            return Ok(());
        }
        let (one, several) = match self.kind {
            PlaceKind::Switch => ("switch", "switches"),
            PlaceKind::Group => ("group", "groups"),
        };
        match &self.places[..] {
            [only] if self.unknown == 0 => write!(f, "all on {one} {}", only.name)?,
            [only] => write!(f, "1 {one}, {}", only.name)?,
            places if self.are_fewest() => {
                write!(f, "{} {several}, crossed once each way", places.len())?;
            }
            places => {
                let again: Vec<String> = self
                    .crossed_again()
                    .map(|place| format!("{} (in {}, out {})", place.name, place.entered, place.left))
                    .collect();
                write!(
                    f,
                    "{} {several}, crossed again: {}",
                    places.len(),
                    again.join(", ")
                )?;
            }
        }
        match self.unknown {
            0 => Ok(()),
            1 => write!(f, "; the {one} of 1 node is unknown"),
            more => write!(f, "; the {one} of {more} nodes is unknown"),
        }
    }
}

/// Counts the crossings of a chain, its nodes in order.
pub(super) fn count(rule: &OrderRule<'_>, chain: &[Candidate<'_>]) -> Crossings {
    let heard = chain.iter().any(|node| node.wiring.is_some());
    let kind = if heard {
        PlaceKind::Switch
    } else {
        PlaceKind::Group
    };
    let mut found = Crossings {
        kind,
        ..Crossings::default()
    };
    let golden = rule.golden.filter(|_| heard);
    let mut names = switch_names(chain);
    if let Some(golden) = golden {
        names.entry(&golden.chassis).or_insert_with(|| golden.switch());
    }
    let mut indices: BTreeMap<&str, usize> = BTreeMap::new();
    let mut index_of = |found: &mut Crossings, key, name: &str| {
        *indices.entry(key).or_insert_with(|| {
            found.places.push(PlaceCrossings {
                name: name.to_owned(),
                nodes: 0,
                entered: 0,
                left: 0,
            });
            found.places.len() - 1
        })
    };
    let mut before = golden.map(|golden| {
        let name = names.get(&golden.chassis).copied().unwrap_or_default();
        index_of(&mut found, golden.chassis.as_str(), name)
    });
    for node in chain {
        let place = match (kind, node.wiring) {
            (PlaceKind::Switch, Some(wiring)) => {
                let name = names.get(&wiring.chassis).copied().unwrap_or_default();
                Some((wiring.chassis.as_str(), name))
            }
            (PlaceKind::Switch, None) => None,
            (PlaceKind::Group, _) => rule.list.group(node).map(|group| (group, group)),
        };
        let here = place.map(|(key, name)| index_of(&mut found, key, name));
        match here {
            Some(here) => found.places[here].nodes += 1,
            None => found.unknown += 1,
        }
        if let (Some(from), Some(to)) = (before, here)
            && from != to
        {
            found.hop(from, to);
        }
        before = here;
    }
    found
}
