//! What must not be the same on two machines: names, machine-id, host keys, leases, seeds. Each clone gets its own;
//! `--keep-identity` leaves all of it.
//!
//! What a system makes anew by itself when it is missing (leases, seeds, rules) is removed. What it does not, or only on
//! a "first boot" with more consequences (systemd enables and disables services by presets then), is made here.

mod names;
mod network;

use std::time::Duration;

use uuid::Uuid;

use crate::boot_entries;
use crate::facts::Facts;
use crate::files::{Files, Kind, has_program, text};
use crate::machine_id;
use crate::plan::{Plan, PostError};

/// An RSA key of 3072 bits takes seconds on an old machine, and a minute in an emulated one.
const KEY_LIMIT: Duration = Duration::from_secs(600);

/// Directories with files that go, and how those files' names end.
const REMOVED: [(&str, &str, &str); 13] = [
    ("/var/lib/dhcp", ".leases", LEASE),
    ("/var/lib/dhcp", ".lease", LEASE),
    ("/var/lib/dhclient", ".leases", LEASE),
    ("/var/lib/dhclient", ".lease", LEASE),
    ("/var/lib/dhcpcd", ".lease", LEASE),
    ("/var/lib/dhcpcd", "duid", LEASE),
    ("/var/lib/dhcpcd", "secret", LEASE),
    ("/var/lib/dhcpcd5", ".lease", LEASE),
    ("/var/lib/NetworkManager", ".lease", LEASE),
    ("/var/lib/NetworkManager", "secret_key", LEASE),
    ("/var/lib/NetworkManager", "seen-bssids", LEASE),
    ("/etc/udev/rules.d", "-persistent-net.rules", RULES),
    ("/etc/udev/rules.d", "z25_persistent-net.rules", RULES),
];
const LEASE: &str = "the golden node's lease";
const RULES: &str = "they name the golden node's network cards";
const SEED: &str = "two machines must not begin with the same random numbers";

/// Seeds of the random number generator, and secrets made from it at the first boot.
const SEEDS: [(&str, &str); 9] = [
    ("/var/lib/systemd/random-seed", SEED),
    ("/var/lib/urandom/random-seed", SEED),
    ("/var/lib/misc/random-seed", SEED),
    ("/var/lib/random-seed", SEED),
    ("/boot/loader/random-seed", SEED),
    ("/boot/efi/loader/random-seed", SEED),
    ("/efi/loader/random-seed", SEED),
    ("/etc/dhcpcd.duid", LEASE),
    (
        CREDENTIAL_SECRET,
        "it locks the golden node's credentials, not this machine's",
    ),
];
const CREDENTIAL_SECRET: &str = "/var/lib/systemd/credential.secret";

/// Plans the clone's own identity. `fresh` gives random ids (`&mut uuid::Uuid::new_v4` outside tests).
///
/// # Errors
/// A file cannot be read.
pub fn plan(files: &dyn Files, facts: &Facts, fresh: &mut dyn FnMut() -> Uuid) -> Result<Plan, PostError> {
    let mut plan = Plan::default();
    if facts.boot.keep_identity || !files.exists("/etc") {
        return Ok(plan);
    }
    names::plan(&mut plan, files, facts)?;
    machine_ids(&mut plan, files, fresh)?;
    host_keys(&mut plan, files, facts);
    network::plan(&mut plan, files, facts)?;
    storage_names(&mut plan, files, fresh)?;
    removals(&mut plan, files);
    Ok(plan)
}

/// systemd's and D-Bus' id. Written, not emptied: a missing one would make the next boot a "first boot".
fn machine_ids(plan: &mut Plan, files: &dyn Files, fresh: &mut dyn FnMut() -> Uuid) -> Result<(), PostError> {
    const DBUS: &str = "/var/lib/dbus/machine-id";
    let id = fresh().simple().to_string();
    let change = || vec![format!("machine-id {id}")];
    let file = machine_id::FILE;
    if let Some(golden) = text(files, file).map_err(PostError::reading(file))? {
        plan.write_mode(file, format!("{id}\n"), 0o444, change());
        entry_token(plan, files, golden.trim());
    }
    machine_id::plan_parameters(plan, files, &id)?;
    // A link to the other one on today's systems.
    if files.kind(DBUS) == Some(Kind::File) {
        plan.write_mode(DBUS, format!("{id}\n"), 0o444, change());
    }
    Ok(())
}

/// Boot entries are named for the machine-id (Boot Loader Specification): those of the golden node stay, and the next
/// kernel is to be installed beside them (kernel-install(8), `/etc/kernel/entry-token`).
fn entry_token(plan: &mut Plan, files: &dyn Files, golden: &str) {
    const TOKEN: &str = "/etc/kernel/entry-token";
    let named = boot_entries::files_with_entries(files)
        .into_iter()
        .chain(boot_entries::unified(files))
        .any(|path| {
            let name = path.rsplit('/').next().unwrap_or_default();
            !golden.is_empty() && name.starts_with(golden)
        });
    if named && !files.exists(TOKEN) {
        plan.write(
            TOKEN,
            format!("{golden}\n"),
            vec!["boot entries keep their name".to_owned()],
        );
    }
}

/// New keys of the same types, made by the clone's own ssh-keygen.
fn host_keys(plan: &mut Plan, files: &dyn Files, facts: &Facts) {
    const DIR: &str = "/etc/ssh";
    const WHY: &str = "the golden node's key";
    let names = files.names(DIR);
    let keys: Vec<(String, String)> = names
        .iter()
        .filter_map(|name| {
            let kind = name.strip_prefix("ssh_host_")?.strip_suffix("_key")?;
            Some((name.clone(), kind.to_owned()))
        })
        .collect();
    let can_make = has_program(files, "ssh-keygen");
    if !keys.is_empty() && !can_make {
        plan.warnings
            .push("no ssh-keygen: the golden node's SSH host keys are removed and none made".to_owned());
    }
    for (name, kind) in keys {
        let path = format!("{DIR}/{name}");
        for old in [path.clone(), format!("{path}.pub"), format!("{path}-cert.pub")] {
            if files.exists(&old) {
                plan.remove(old, WHY);
            }
        }
        // OpenSSH 9.8 cannot make DSA keys any more, and nobody should want one.
        if can_make && kind != "dsa" {
            let comment = format!("root@{}", facts.node_name);
            plan.run(
                format!("making the {kind} host key"),
                KEY_LIMIT,
                &[
                    "ssh-keygen",
                    "-q",
                    "-t",
                    &kind,
                    "-N",
                    "",
                    "-C",
                    &comment,
                    "-f",
                    &path,
                ],
            );
        }
    }
}

/// Names under which storage servers know a machine.
fn storage_names(
    plan: &mut Plan,
    files: &dyn Files,
    fresh: &mut dyn FnMut() -> Uuid,
) -> Result<(), PostError> {
    const ISCSI: &str = "/etc/iscsi/initiatorname.iscsi";
    const NVME_NQN: &str = "/etc/nvme/hostnqn";
    const NVME_ID: &str = "/etc/nvme/hostid";
    if let Some(old) = text(files, ISCSI).map_err(PostError::reading(ISCSI))? {
        let suffix = &fresh().simple().to_string()[..12];
        let mut changes = Vec::new();
        let lines: Vec<String> = old
            .lines()
            .map(|line| match line.strip_prefix("InitiatorName=") {
                Some(name) => {
                    // iqn.1993-08.org.debian:01:5e6f…: the part behind the last colon is the machine's.
                    let authority = name.trim().rsplit_once(':').map_or(name.trim(), |(head, _)| head);
                    let new = format!("InitiatorName={authority}:{suffix}");
                    changes.push(new.clone());
                    new
                }
                None => line.to_owned(),
            })
            .collect();
        plan.write_mode(ISCSI, format!("{}\n", lines.join("\n")), 0o600, changes);
    }
    let id = fresh();
    if files.exists(NVME_NQN) {
        let name = format!("nqn.2014-08.org.nvmexpress:uuid:{id}");
        plan.write(NVME_NQN, format!("{name}\n"), vec![name]);
    }
    if files.exists(NVME_ID) {
        plan.write(NVME_ID, format!("{id}\n"), vec![id.to_string()]);
    }
    Ok(())
}

fn removals(plan: &mut Plan, files: &dyn Files) {
    for (dir, ending, why) in REMOVED {
        for name in files.names(dir).into_iter().filter(|name| name.ends_with(ending)) {
            plan.remove(format!("{dir}/{name}"), why);
        }
    }
    if files.exists(CREDENTIAL_SECRET) && !files.names("/etc/credstore.encrypted").is_empty() {
        plan.warnings.push(
            "/etc/credstore.encrypted holds credentials that only the golden node can open: encrypt them anew".to_owned(),
        );
    }
    for (path, why) in SEEDS {
        if files.kind(path) == Some(Kind::File) {
            plan.remove(path, why);
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
