//! The first boot of a clone: `ka-client --beacon FILE` tells the server that the machine came back, and then
//! removes itself, its unit and FILE. The clone gets all three from [`Facts::leave_in`].
//!
//! Not here: the datagram and how often it is sent (`ka_transport::beacon`).

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use ka_disk::spec::BeaconSpec;
use ka_mac::MacAddr;
use ka_postinstall::labels;
use ka_postinstall::root::Root;
use ka_proto::{NodeId, NodeName};
use ka_transport::Joined;
use ka_transport::beacon::{BEACON_LIMIT, announce};
use serde::{Deserialize, Serialize};

/// The clone's directory for the needs of its first boot, all of which is gone afterwards.
const STATE_DIR: &str = "/var/lib/ka";
const PROGRAM: &str = "/var/lib/ka/ka-beacon";
const FACTS: &str = "/var/lib/ka/beacon.json";
const UNIT_DIR: &str = "/etc/systemd/system";
const UNIT: &str = "/etc/systemd/system/ka-beacon.service";
const WANTS_DIR: &str = "/etc/systemd/system/multi-user.target.wants";
const WANTED: &str = "/etc/systemd/system/multi-user.target.wants/ka-beacon.service";
/// Nothing waits for it: a server that is gone must not hold up a boot for two minutes.
const UNIT_TEXT: &str = "\
[Unit]
Description=KA: tell the server that this clone has booted
Wants=network-online.target
After=network-online.target multi-user.target
ConditionPathExists=/var/lib/ka/beacon.json

[Service]
Type=oneshot
ExecStart=/var/lib/ka/ka-beacon --beacon /var/lib/ka/beacon.json
TimeoutStartSec=150

[Install]
WantedBy=multi-user.target
";
/// Header of a 64-bit ELF file, bytes, and the type of the entry that names a loader.
const ELF_HEADER_LEN: usize = 64;
const PT_INTERP: u32 = 3;

/// A facts file is a few hundred bytes; more is none.
const MAX_FACTS_BYTES: u64 = 64 << 10;
/// Most addresses of a server that are called: it has one or two that a clone reaches.
const MAX_ADDRS: usize = 64;

/// The facts that the first boot needs. The token is the run's: the file is for root only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    addrs: Vec<SocketAddr>,
    token: [u8; 32],
    node: NodeId,
    name: NodeName,
    #[serde(default, with = "ka_mac::octets")]
    mac: Option<MacAddr>,
    /// Removed after use, in this order; then the file itself.
    remove: Vec<PathBuf>,
}

/// Reports that this machine has booted, and removes the beacon's files, whether the server answered or not.
///
/// # Errors
/// The file cannot be read, or something cannot be removed. A server that does not answer is no error:
/// nothing can be done about it here, and the server lists the machine.
pub(crate) fn run(path: &Path) -> anyhow::Result<()> {
    let facts = Facts::read(path).with_context(|| format!("--beacon {}", path.display()))?;
    let who = (facts.node, &facts.name, facts.mac);
    let told = announce(&facts.addrs, &facts.token, who, BEACON_LIMIT);
    let removed = facts.clean_up(path);
    let addrs: Vec<_> = facts.addrs.iter().map(ToString::to_string).collect();
    let addrs = addrs.join(", ");
    let line = match told.context("telling the server that this clone has booted")? {
        true => format!("the server ({addrs}) knows that this clone has booted"),
        false => format!(
            "the server ({addrs}) has not answered for {} s; this clone stops telling it that it has booted",
            BEACON_LIMIT.as_secs()
        ),
    };
    ka_cli::write(format!("{line}\n").as_bytes()).ok();
    removed
}

impl Facts {
    /// Returns the facts of a clone that is to say that it has booted.
    pub(crate) fn new(spec: &BeaconSpec, joined: &Joined) -> Self {
        Self {
            addrs: spec.addrs.clone(),
            token: spec.token,
            node: joined.id,
            name: joined.name.clone(),
            mac: joined.mac,
            remove: [WANTED, UNIT, PROGRAM].map(PathBuf::from).to_vec(),
        }
    }

    /// Leaves this program, its unit and these facts in the system below `root`, for its first boot. Returns
    /// the reason if that system or this program is not made for it. Then only DHCP tells that the clone came
    /// back.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn leave_in(&self, root: &Root) -> anyhow::Result<Result<(), &'static str>> {
        if root.real_dir(Path::new(UNIT_DIR)).is_err() {
            return Ok(Err("it has no systemd that would run a beacon at its first boot"));
        }
        let mut own = File::open("/proc/self/exe").context("opening this program")?;
        if !is_static(&own).context("reading this program")? {
            return Ok(Err(
                "this ka-client is not static, the clone may lack its libraries: no beacon",
            ));
        }
        for (dir, mode) in [
            ("/var", 0o755),
            ("/var/lib", 0o755),
            (STATE_DIR, 0o700),
            (WANTS_DIR, 0o755),
        ] {
            root.make_dir(Path::new(dir), mode)
                .with_context(|| format!("making the clone's {dir}"))?;
        }
        root.remove(Path::new(PROGRAM))
            .with_context(|| format!("removing the clone's {PROGRAM}"))?;
        let mut program = root
            .create(Path::new(PROGRAM), 0o700)
            .with_context(|| format!("making the clone's {PROGRAM}"))?;
        // What systemd runs is labelled as a program, or an enforcing system does not run it.
        labels::label_like(root, Path::new(PROGRAM), Path::new("/usr/bin/true"));
        own.seek(SeekFrom::Start(0))
            .and_then(|_| io::copy(&mut own, &mut program))
            .with_context(|| format!("writing the clone's {PROGRAM}"))?;
        let facts = serde_json::to_vec(self).context("writing the beacon's facts")?;
        for (path, mode, text) in [
            (FACTS, 0o600, facts.as_slice()),
            (UNIT, 0o644, UNIT_TEXT.as_bytes()),
        ] {
            root.write(Path::new(path), text, mode)
                .with_context(|| format!("writing the clone's {path}"))?;
        }
        root.link(UNIT, Path::new(WANTED))
            .with_context(|| format!("making the clone's {WANTED}"))?;
        Ok(Ok(()))
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let mut text = Vec::new();
        File::open(path)?
            .take(MAX_FACTS_BYTES + 1)
            .read_to_end(&mut text)?;
        ensure!(text.len() as u64 <= MAX_FACTS_BYTES, "it is too long");
        let facts: Self = serde_json::from_slice(&text)?;
        ensure!(facts.addrs.len() <= MAX_ADDRS, "it has too many addresses");
        Ok(facts)
    }

    /// All of it is tried; the first failure is told.
    fn clean_up(&self, facts: &Path) -> anyhow::Result<()> {
        let removed = |path: &Path| match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", path.display()))
            }
            _ => Ok(()),
        };
        let all: Vec<_> = self.remove.iter().map(|path| removed(path)).collect();
        let own = removed(facts);
        all.into_iter().collect::<anyhow::Result<()>>().and(own)
    }
}

/// True for a program that needs no loader: a 64-bit ELF file without PT_INTERP (elf(5)).
fn is_static(mut program: impl Read + Seek) -> io::Result<bool> {
    let mut header = [0; ELF_HEADER_LEN];
    program.read_exact(&mut header)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Ok(false);
    }
    let at = |offset: usize| u16::from_le_bytes([header[offset], header[offset + 1]]);
    let (size, count) = (at(54), at(56));
    let start = header[32..40]
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte));
    for index in 0..count {
        let entry = start.saturating_add(u64::from(index) * u64::from(size));
        program.seek(SeekFrom::Start(entry))?;
        let mut kind = [0; 4];
        program.read_exact(&mut kind)?;
        if u32::from_le_bytes(kind) == PT_INTERP {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::net::UdpSocket;
    use std::os::unix::fs::PermissionsExt;

    use ka_proto::discovery::{Beacon, BeaconAck};

    use std::io::Write as _;

    use super::*;

    fn facts(addrs: Vec<SocketAddr>, remove: Vec<PathBuf>) -> Facts {
        Facts {
            addrs,
            token: [7; 32],
            node: NodeId(4),
            name: NodeName::new("n104").unwrap(),
            mac: Some(MacAddr([2, 0, 0, 0, 0, 4])),
            remove,
        }
    }

    #[test]
    fn after_its_word_nothing_of_the_beacon_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let [program, unit, path] = ["program", "unit", "facts"].map(|name| dir.path().join(name));
        fs::write(&program, "x").unwrap();
        fs::write(&unit, "x").unwrap();
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let missing = dir.path().join("gone already");
        let facts = facts(vec![server.local_addr().unwrap()], vec![missing, unit, program]);
        let text = serde_json::to_string(&facts).unwrap();
        assert!(text.contains(r#""mac":[2,0,0,0,0,4]"#), "{text}");
        fs::write(&path, text).unwrap();
        let answering = std::thread::spawn(move || {
            let mut buffer = [0; 200];
            let (len, from) = server.recv_from(&mut buffer).unwrap();
            let beacon = Beacon::decode(&buffer[..len], &[7; 32]).unwrap();
            let ack = BeaconAck { nonce: beacon.nonce };
            server.send_to(&ack.encode(&[7; 32]), from).unwrap();
            beacon
        });
        run(&path).unwrap();
        assert_eq!(answering.join().unwrap().node, NodeId(4));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_is_no_facts_is_named_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("facts");
        fs::write(&path, "{}").unwrap();
        let error = format!("{:#}", run(&path).unwrap_err());
        assert!(
            error.contains("--beacon") && error.contains("missing field"),
            "{error}"
        );
        assert!(path.exists());
    }

    #[test]
    fn a_program_with_a_loader_is_not_static() {
        // This test itself is linked as the developer's machine links.
        let shell = fs::read("/bin/sh").unwrap();
        assert!(!is_static(Cursor::new(shell)).unwrap());
        let mut header = [0; ELF_HEADER_LEN];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        assert!(is_static(Cursor::new(header)).unwrap());
        assert!(!is_static(Cursor::new(b"#!/bin/sh".repeat(20))).unwrap());
    }

    #[test]
    fn a_system_without_systemd_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert!(facts(vec![], vec![]).leave_in(&root).unwrap().is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_token_is_for_root_only_and_links_of_the_tree_lead_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        fs::create_dir_all(dir.path().join("srv/lib")).unwrap();
        std::os::unix::fs::symlink("/srv", dir.path().join("var")).unwrap();
        root.make_dir(Path::new(STATE_DIR), 0o700).unwrap();
        root.make_dir(Path::new(STATE_DIR), 0o700).unwrap();
        let mut file = root.create(Path::new(FACTS), 0o600).unwrap();
        file.write_all(b"x").unwrap();
        let meta = fs::metadata(dir.path().join("srv/lib/ka/beacon.json")).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o600);
        root.link(UNIT, Path::new("/srv/link")).unwrap();
        root.link(UNIT, Path::new("/srv/link")).unwrap();
        assert_eq!(
            fs::read_link(dir.path().join("srv/link")).unwrap(),
            Path::new(UNIT)
        );
    }
}
