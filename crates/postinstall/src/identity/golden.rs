//! The golden node's own names, which no file of a clone should hold any more.

use std::collections::BTreeSet;

use super::{cards, keys};
use crate::error::PostError;
use crate::facts::Facts;
use crate::files::{Files, text_or_empty};

/// Files whose whole text is the DHCP identity.
const DUIDS: [&str; 2] = ["/etc/dhcpcd.duid", "/var/lib/dhcpcd/duid"];

/// Returns the golden node's MAC addresses, SSH host keys and DHCP identities, each with its class in the
/// field's word. Must be called before [`super::plan`] is carried out. With `--keep-identity` there are none.
///
/// # Errors
/// A file cannot be read.
pub fn known_by(files: &dyn Files, facts: &Facts) -> Result<Vec<(&'static str, String)>, PostError> {
    if facts.boot.keep_identity {
        return Ok(Vec::new());
    }
    let mut all = BTreeSet::new();
    let own = facts.mac.as_deref().map(cards::address::plain);
    let mut addresses: BTreeSet<String> = facts
        .boot
        .golden_cards
        .iter()
        .map(|card| cards::address::plain(card))
        .collect();
    if addresses.is_empty() {
        addresses = cards::named(files)?;
    }
    for address in addresses
        .into_iter()
        .filter(|address| own.as_ref() != Some(address))
    {
        for separator in [":", "-", ""] {
            all.insert(("MAC address", address.replace(':', separator)));
        }
    }
    all.extend(
        keys::public_keys(files)?
            .into_iter()
            .map(|key| ("SSH host key", key)),
    );
    for path in DUIDS {
        let duid = text_or_empty(files, path)?.trim().to_owned();
        if duid.contains(':') {
            all.insert(("DUID", duid));
        }
    }
    Ok(all.into_iter().collect())
}
