//! The network of a case: its switches, the bursts of its lines, and the losses at its receivers.

use anyhow::{Context as _, Result};
use ka_tests::multicast;
use ka_tests::netns::Network;

use crate::bench::cases::{Case, Kind, between_segments};

/// Builds the network of a case with one file.
pub(crate) fn network(case: &Case) -> Result<Network> {
    let network = match (case.kind, case.rate) {
        (Kind::Segments, Some(rate)) => Network::with_two_switches(case.nodes, rate, between_segments(rate))?,
        (_, rate) => Network::new(case.nodes, rate)?,
    };
    if case.burst.is_some() {
        let rate = case.rate.context("a burst needs the rate of its line")?;
        network.reshape_golden(rate, case.burst)?;
        for number in 1..=case.nodes {
            network.reshape(number, rate, case.burst)?;
        }
    }
    for number in 1..=case.nodes {
        multicast::lose(network.node(number), case.lost_of_10_000)?;
    }
    if case.kind.uses_groups() {
        multicast::settle(&network)?;
    }
    Ok(network)
}
