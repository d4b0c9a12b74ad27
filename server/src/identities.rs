//! Identities that no two clones may share. Each node reports its clone's identity. Clones that share a part
//! of it are not good, whichever came first. Pure.

use std::collections::BTreeMap;

use ka_report::report::NodeIdentity;

/// Most shared values that are named for one node. The first is enough to look for the cause.
const MAX_NAMED: usize = 3;

/// The parts of an identity that are compared. If the operator asked for equal parts, they are no mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compared {
    /// True to compare host names, machine-ids and SSH host keys. False with `--keep-identity`.
    pub(crate) names: bool,
    /// True to compare UUIDs of file systems and partitions. False with `--keep-uuids`.
    pub(crate) uuids: bool,
}

impl Default for Compared {
    fn default() -> Self {
        Self {
            names: true,
            uuids: true,
        }
    }
}

/// The clones of a run so far, with their identities.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    compared: Compared,
    nodes: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    id: u32,
    /// Name for messages.
    name: String,
    /// Name under which the node joined. No other node can have it at the same time.
    joined: String,
    identity: NodeIdentity,
}

impl Identities {
    /// Sets the parts that are compared from now on.
    pub(crate) const fn compare(&mut self, compared: Compared) {
        self.compared = compared;
    }

    /// Adds a clone with its name for messages, the name under which it joined, and its report. A node that
    /// is cloned again replaces its earlier entry.
    pub(crate) fn add(&mut self, id: u32, (name, joined): (String, &str), identity: NodeIdentity) {
        self.nodes.retain(|known| known.id != id);
        self.nodes.push(Known {
            id,
            name,
            joined: joined.to_owned(),
            identity,
        });
    }

    /// Forgets a clone that was turned down. No machine boots from it.
    pub(crate) fn forget(&mut self, id: u32) {
        self.nodes.retain(|known| known.id != id);
    }

    /// Returns the nodes that share something with another node, each with a text that names the value and
    /// the other nodes.
    pub(crate) fn twins(&self) -> Vec<(u32, String)> {
        let mut owners: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            for fact in self.facts(&node.identity) {
                let owners = owners.entry(fact).or_default();
                if owners.last() != Some(&index) {
                    owners.push(index);
                }
            }
        }
        let mut shared: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for ((what, value), owners) in owners.iter().filter(|(_, owners)| owners.len() > 1) {
            for owner in owners {
                if *what == "host name" && self.is_its_own(*owner, value, owners) {
                    continue;
                }
                let others = owners.iter().filter(|other| *other != owner);
                let others: Vec<_> = others.filter_map(|other| self.nodes.get(*other)).collect();
                let line = format!("it has the same {what} as {}: {value}", names(&others));
                shared.entry(*owner).or_default().push(line);
            }
        }
        let told = |(index, lines): (usize, Vec<String>)| Some((self.nodes.get(index)?.id, reason(&lines)));
        shared.into_iter().filter_map(told).collect()
    }

    /// True if this node alone, of those that report this host name, has joined with it. Reports of other
    /// nodes cannot take the name away.
    fn is_its_own(&self, node: usize, host_name: &str, owners: &[usize]) -> bool {
        let has_joined = |node: &usize| self.nodes.get(*node).is_some_and(|node| node.joined == host_name);
        has_joined(&node) && owners.iter().filter(|owner| has_joined(owner)).count() == 1
    }

    /// Returns the compared parts of one clone, by kind. Parts that it does not have are left out.
    fn facts<'a>(&self, identity: &'a NodeIdentity) -> Vec<(&'static str, &'a str)> {
        let mut facts: Vec<(&str, &str)> = Vec::new();
        if self.compared.names {
            facts.extend(identity.host_name.iter().map(|name| ("host name", name.as_str())));
            facts.extend(identity.machine_id.iter().map(|id| ("machine-id", id.as_str())));
            let keys = identity.ssh_host_keys.iter();
            facts.extend(keys.map(|key| ("SSH host key", key.as_str())));
        }
        if self.compared.uuids {
            let uuids = identity.filesystem_uuids.iter();
            facts.extend(uuids.map(|uuid| ("file system UUID", uuid.as_str())));
            let uuids = identity.partition_uuids.iter();
            facts.extend(uuids.map(|uuid| ("partition UUID", uuid.as_str())));
        }
        facts.retain(|(_, value)| !value.is_empty());
        facts
    }
}

/// Returns the first two names and the number of the others. Two hundred nodes may share one mistake.
fn names(others: &[&Known]) -> String {
    let first: Vec<_> = others.iter().take(2).map(|other| other.name.as_str()).collect();
    match others.len().saturating_sub(first.len()) {
        0 => first.join(" and "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

fn reason(lines: &[String]) -> String {
    let named = lines
        .iter()
        .take(MAX_NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join("; ");
    match lines.len().saturating_sub(MAX_NAMED) {
        0 => named,
        more => format!("{named}; and {more} more things"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(name: &str) -> NodeIdentity {
        NodeIdentity {
            host_name: Some(name.into()),
            machine_id: Some(format!("id-{name}")),
            filesystem_uuids: vec![format!("fs-{name}"), format!("swap-{name}")],
            partition_uuids: vec![format!("part-{name}")],
            ssh_host_keys: vec![format!("SHA256:{name}")],
        }
    }

    fn twins(compared: Compared, nodes: Vec<NodeIdentity>) -> Vec<(u32, String)> {
        let mut all = Identities::default();
        all.compare(compared);
        for (id, identity) in (1..).zip(nodes) {
            all.add(id, (format!("n{id}"), format!("joined-{id}").as_str()), identity);
        }
        all.twins()
    }

    #[test]
    fn two_that_share_anything_are_both_named_with_it() {
        type Change = fn(&mut NodeIdentity);
        let changes: [(&str, Change); 5] = [
            ("host name", |node| node.host_name = Some("a".into())),
            ("machine-id", |node| node.machine_id = Some("id-a".into())),
            ("SSH host key", |node| node.ssh_host_keys.push("SHA256:a".into())),
            ("file system UUID", |node| {
                node.filesystem_uuids.push("swap-a".into())
            }),
            ("partition UUID", |node| {
                node.partition_uuids = vec!["part-a".into()]
            }),
        ];
        for (what, change) in changes {
            let mut other = identity("c");
            change(&mut other);
            let twins = twins(Compared::default(), vec![identity("a"), identity("b"), other]);
            let ids: Vec<_> = twins.iter().map(|(id, _)| *id).collect();
            assert_eq!(ids, [1, 3], "{what}");
            assert!(
                twins[0].1.starts_with(&format!("it has the same {what} as n3: ")),
                "{twins:?}"
            );
            assert!(twins[1].1.contains("as n1: "), "{twins:?}");
        }
    }

    #[test]
    fn systems_without_names_and_keys_have_nothing_in_common() {
        let nothing = NodeIdentity {
            machine_id: Some(String::new()),
            ..NodeIdentity::default()
        };
        assert_eq!(twins(Compared::default(), vec![nothing.clone(), nothing]), []);
    }

    #[test]
    fn what_was_asked_to_be_kept_is_not_compared() {
        let both = || vec![identity("a"), identity("a")];
        let told = twins(
            Compared {
                names: false,
                uuids: true,
            },
            both(),
        );
        assert!(
            told[0].1.contains("UUID") && !told[0].1.contains("host name"),
            "{told:?}"
        );
        let told = twins(
            Compared {
                names: true,
                uuids: false,
            },
            both(),
        );
        assert!(
            told[0].1.contains("machine-id") && !told[0].1.contains("UUID"),
            "{told:?}"
        );
        assert_eq!(
            twins(
                Compared {
                    names: false,
                    uuids: false
                },
                both()
            ),
            []
        );
    }

    #[test]
    fn a_crowd_of_twins_makes_no_line_that_nobody_reads() {
        let told = twins(Compared::default(), vec![identity("a"); 200]);
        assert_eq!(told.len(), 200);
        assert!(told[0].1.contains("n2, n3 and 197 more"), "{}", told[0].1);
        assert!(told[0].1.ends_with("and 3 more things"), "{}", told[0].1);
    }

    #[test]
    fn a_node_that_is_cloned_again_is_no_twin_of_itself() {
        let mut all = Identities::default();
        all.add(1, ("n1".into(), "n1"), identity("a"));
        all.add(1, ("n1".into(), "n1"), identity("a"));
        assert_eq!(all.twins(), []);
    }

    /// A report cannot fail the node whose name it claims.
    #[test]
    fn who_reports_the_name_that_another_one_joined_with_is_the_only_one_that_fails() {
        let mut all = Identities::default();
        let claimed = NodeIdentity {
            host_name: Some("n1".into()),
            ..identity("liar")
        };
        all.add(1, ("n1".into(), "n1"), identity("n1"));
        all.add(2, ("n2".into(), "n2"), claimed.clone());
        all.add(3, ("n3".into(), "n3"), claimed.clone());
        let named: Vec<u32> = all.twins().into_iter().map(|(id, _)| id).collect();
        assert_eq!(named, [2, 3]);
        // Two nodes that joined with one name: the owner of the name is unknown.
        all.add(3, ("n3".into(), "n1"), claimed);
        let named: Vec<u32> = all.twins().into_iter().map(|(id, _)| id).collect();
        assert_eq!(named, [1, 2, 3]);
    }
}
