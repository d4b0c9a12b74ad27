//! The name and addresses by which this node is known in a run.

use ka_proto::NodeName;

/// The identity of this node in one run, as the clone's configuration needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalNode {
    /// The name under which it has joined.
    pub(crate) name: String,
    /// The operator gave that name (`--name`); otherwise it was found.
    pub(crate) is_name_given: bool,
    /// MAC address, if it is known.
    pub(crate) mac: Option<String>,
    /// The address of the server it has joined.
    pub(crate) server: String,
    /// The name of the session.
    pub(crate) session: String,
}

impl LocalNode {
    /// Returns the clone's host name: the given one, else this machine's own host name, else `node-MAC` where
    /// that is the golden node's or none.
    pub(crate) fn clone_name(&self, golden_host: &str) -> String {
        let is_nameless = NodeName::new(&self.name).map_or(true, |name| name.is_nameless());
        if self.is_name_given || !(is_nameless || self.name == golden_host) {
            return self.name.clone();
        }
        match &self.mac {
            Some(mac) => format!("node-{}", mac.replace(':', "")),
            None => self.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_is_named_as_told_else_as_it_is_called_else_by_its_address() {
        let node = |name: &str, is_name_given| LocalNode {
            name: name.to_owned(),
            is_name_given,
            mac: Some("52:54:00:00:00:07".to_owned()),
            server: String::new(),
            session: String::new(),
        };
        assert_eq!(node("n7", false).clone_name("golden"), "n7");
        assert_eq!(node("golden", false).clone_name("golden"), "node-525400000007");
        assert_eq!(node("localhost", false).clone_name("golden"), "node-525400000007");
        assert_eq!(node("golden", true).clone_name("golden"), "golden");
        let lost = LocalNode {
            mac: None,
            ..node("localhost", false)
        };
        assert_eq!(lost.clone_name("golden"), "localhost");
    }
}
