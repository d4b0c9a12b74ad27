//! Secrets and memberships that another system gave to a machine. KA cannot make new ones, so it names them.

use crate::files::Files;
use crate::plan::Plan;

/// File or directory, and whose it is. A directory counts when something is in it.
const NAMED: [(&str, &str); 27] = [
    (
        "/etc/krb5.keytab",
        "the golden node's Kerberos keys: join the clone to the realm anew",
    ),
    (
        "/var/lib/samba/private/secrets.tdb",
        "the golden node's domain membership: join the clone anew (net ads join)",
    ),
    ("/var/lib/sss/db", "sssd's cache of the golden node's domain"),
    (
        "/etc/pki/consumer/key.pem",
        "the golden node's subscription: register the clone (subscription-manager)",
    ),
    (
        "/etc/sysconfig/rhn/systemid",
        "the golden node's subscription: register the clone",
    ),
    (
        "/etc/puppetlabs/puppet/ssl",
        "the golden node's Puppet certificate: remove it and have the clone's signed",
    ),
    (
        "/var/lib/puppet/ssl",
        "the golden node's Puppet certificate: remove it and have the clone's signed",
    ),
    (
        "/etc/puppet/ssl",
        "the golden node's Puppet certificate: remove it and have the clone's signed",
    ),
    (
        "/etc/salt/pki/minion/minion.pem",
        "the golden node's Salt key: remove it and accept the clone's",
    ),
    (
        "/etc/chef/client.pem",
        "the golden node's Chef key: register the clone",
    ),
    (
        "/etc/wireguard",
        "the golden node's WireGuard keys and addresses: two machines with one key cut each other off",
    ),
    ("/etc/openvpn/client", "the golden node's VPN keys"),
    ("/etc/tinc", "the golden node's VPN keys"),
    (
        "/var/lib/tailscale/tailscaled.state",
        "the golden node's Tailscale identity: log the clone in anew",
    ),
    (
        "/var/lib/zerotier-one/identity.secret",
        "the golden node's ZeroTier identity: remove it, and the clone makes one",
    ),
    (
        "/var/lib/netbird",
        "the golden node's NetBird identity: log the clone in anew",
    ),
    (
        "/etc/libvirt/qemu",
        "guests: each clone has the same ones, with the same UUIDs and hardware addresses",
    ),
    (
        "/var/lib/kubelet/pki",
        "the golden node's cluster membership: join the clone anew",
    ),
    (
        "/etc/rancher/node/password",
        "the golden node's cluster membership: join the clone anew",
    ),
    (
        "/etc/corosync/authkey",
        "cluster membership: the clone is no member by having it",
    ),
    (
        "/etc/pve/local",
        "cluster membership: the clone is no member by having it",
    ),
    (
        "/etc/ssl/private/ssl-cert-snakeoil.key",
        "one TLS key on all clones (make-ssl-cert generate-default-snakeoil --force-overwrite)",
    ),
    ("/etc/letsencrypt/live", "the golden node's TLS certificates"),
    ("/etc/pki/tls/private/localhost.key", "one TLS key on all clones"),
    ("/var/lib/tor/keys", "the golden node's Tor identity"),
    (
        "/etc/landscape/client.conf",
        "the golden node's registration: register the clone",
    ),
    (
        "/var/lib/teleport/host_uuid",
        "the golden node's Teleport identity: remove it and join the clone anew",
    ),
];

pub(super) fn plan(plan: &mut Plan, files: &dyn Files) {
    for (path, whose) in NAMED {
        let is_dir_with_nothing = files.read(path).ok().flatten().is_none() && files.names(path).is_empty();
        if files.exists(path) && !is_dir_with_nothing {
            plan.warnings.push(format!("{path}: {whose}"));
        }
    }
}
