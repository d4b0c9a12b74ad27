//! The programs of the comparison, each with the options to carry one file to N nodes. Options are those of
//! `bench/lab.sh`.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use ka_tests::cgroup::Cgroup;
use ka_tests::netns::{GOLDEN_ADDRESS, Network, node_address};
use ka_tests::process::{Program, Running, is_installed};

use crate::bench::cases::Kind;
use crate::bench::limit;

/// Time limit of each run. A longer run is a hang.
pub(crate) const RUN_LIMIT: Duration = Duration::from_secs(300);
/// Time within which receivers must be ready.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// TCP port of the relays.
const PORT: u16 = 7000;
/// Control port of `ka-server` (TCP).
pub(crate) const KA_PORT: u16 = 30_765;

/// A program of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub(crate) enum Peer {
    /// One plain TCP stream to one node: the capacity of a line.
    Socat,
    /// The cheapest chain that the kernel allows: [`crate::splice`].
    Splice,
    /// The cheapest chain that checks every block: the example `limit` of `ka-transport`. One thread at each node
    /// receives, hashes, sends on, and writes.
    Limit,
    /// The same of a stream that is sealed: it also encrypts and decrypts.
    LimitSealed,
    /// A chain of mbuffers. For a tree, tar runs at both ends, and the disks are made inside the clock.
    Mbuffer,
    /// A chain of mbuffers with disks that were made before: trees only.
    MbufferReady,
    /// Multicast by udpcast.
    Udpcast,
    /// Multicast by uftp, at a fixed rate.
    Uftp,
    /// KA itself: the chain, with its default options.
    Ka,
    /// KA with `--no-encrypt`: streams only.
    KaClear,
    /// KA with the options that limit it to the work of tar and mbuffer: trees only.
    KaLikeTar,
    /// KA by multicast.
    KaMulticast,
    /// KA by multicast, with `--no-encrypt`.
    KaMulticastClear,
    /// KA's chain in the order of the wiring: two segments only.
    KaOrdered,
    /// KA's chain between two segments, and multicast within them.
    KaHybrid,
}

/// Way in which KA carries a stream: `--transport` of `ka-server`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// From node to node.
    Chain,
    /// To all nodes at once.
    Multicast,
}

impl Transport {
    /// Returns the options of `ka-server`.
    pub(crate) const fn options(self) -> [&'static str; 2] {
        match self {
            Self::Chain => ["--transport", "chain"],
            Self::Multicast => ["--transport", "multicast"],
        }
    }
}

impl Peer {
    /// Returns the requested programs (all if none is requested) that can run on this machine, in the order
    /// of the table.
    pub(crate) fn available(wanted: &[String]) -> Vec<Self> {
        let all = [
            Self::Socat,
            Self::Splice,
            Self::Limit,
            Self::LimitSealed,
            Self::Mbuffer,
            Self::MbufferReady,
            Self::Udpcast,
            Self::Uftp,
            Self::Ka,
            Self::KaClear,
            Self::KaLikeTar,
            Self::KaOrdered,
            Self::KaMulticast,
            Self::KaMulticastClear,
            Self::KaHybrid,
        ];
        let installed = all
            .into_iter()
            .filter(|peer| peer.programs().iter().all(|program| is_installed(program)));
        installed
            .filter(|peer| wanted.is_empty() || wanted.iter().any(|name| peer.name().starts_with(name)))
            .collect()
    }

    /// True if the program is one of the two limits.
    pub(crate) const fn is_limit(self) -> bool {
        matches!(self, Self::Limit | Self::LimitSealed)
    }

    /// True if the program has a row in the cases of this kind.
    pub(crate) fn has_row_in(self, kind: Kind) -> bool {
        let rows: &[Self] = match kind {
            Kind::Stream => &[
                Self::Socat,
                Self::Splice,
                Self::Limit,
                Self::LimitSealed,
                Self::Mbuffer,
                Self::Udpcast,
                Self::Ka,
                Self::KaClear,
            ],
            Kind::Tree => &[Self::Mbuffer, Self::MbufferReady, Self::Ka, Self::KaLikeTar],
            Kind::Boot | Kind::Fault => &[Self::Ka],
            Kind::Multicast => &[
                Self::Socat,
                Self::Mbuffer,
                Self::Udpcast,
                Self::Uftp,
                Self::Ka,
                Self::KaMulticast,
            ],
            Kind::Loss => &[Self::Socat, Self::Udpcast, Self::Uftp, Self::KaMulticast],
            Kind::Processor => &[
                Self::Splice,
                Self::Ka,
                Self::KaClear,
                Self::KaMulticast,
                Self::KaMulticastClear,
            ],
            Kind::Head | Kind::GroupFault | Kind::Stranger => &[Self::KaMulticast],
            Kind::Segments => &[Self::Socat, Self::Ka, Self::KaOrdered, Self::KaHybrid],
        };
        rows.contains(&self)
    }

    /// True for programs that give up when they lose too many datagrams.
    pub(crate) const fn may_fail(self) -> bool {
        matches!(self, Self::Udpcast | Self::Uftp)
    }

    /// Name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Socat => "socat (1 node)",
            Self::Splice => "splice relay",
            Self::Limit => "limit, hashed",
            Self::LimitSealed => "limit, hashed and encrypted",
            Self::Mbuffer => "mbuffer",
            Self::MbufferReady => "mbuffer, disks ready",
            Self::Udpcast => "udpcast",
            Self::Ka => "ka",
            Self::KaClear => "ka, not encrypted",
            Self::KaLikeTar => "ka, not encrypted, not read back",
            Self::Uftp => "uftp",
            Self::KaMulticast => "ka, multicast",
            Self::KaMulticastClear => "ka, multicast, not encrypted",
            Self::KaOrdered => "ka, ordered chain",
            Self::KaHybrid => "ka, hybrid",
        }
    }

    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Socat => &["socat"],
            Self::Mbuffer | Self::MbufferReady => &["mbuffer"],
            Self::Udpcast => &["udp-sender", "udp-receiver"],
            Self::Uftp => &["uftp", "uftpd"],
            Self::Splice
            | Self::Limit
            | Self::LimitSealed
            | Self::Ka
            | Self::KaClear
            | Self::KaLikeTar
            | Self::KaMulticast
            | Self::KaMulticastClear
            | Self::KaOrdered
            | Self::KaHybrid => &[],
        }
    }
}

/// Options that limit KA to the work of tar and mbuffer.
pub(crate) const LIKE_TAR: [&str; 2] = ["--no-encrypt", "--verify=never"];

/// Place and control groups of one run.
pub(crate) struct Job<'a> {
    pub(crate) network: &'a Network,
    pub(crate) sender: &'a Cgroup,
    pub(crate) receivers: &'a Cgroup,
    pub(crate) release: &'a Path,
    pub(crate) work: &'a Path,
    pub(crate) source: PathBuf,
    /// Rate of every line, in bits a second, for programs that must be told.
    pub(crate) rate: Option<u64>,
    /// Output of each node, node 1 first.
    pub(crate) sinks: Vec<PathBuf>,
}

/// Receivers that are ready, and the one program whose start begins the transfer.
pub(crate) struct Prepared {
    pub(crate) receivers: Vec<Running>,
    pub(crate) senders: Vec<Running>,
    pub(crate) last: Program,
    /// True if `last` is a receiver.
    pub(crate) last_receives: bool,
}

impl Job<'_> {
    /// Starts all programs except the last one.
    pub(crate) fn prepare(&self, peer: Peer) -> Result<Prepared> {
        match peer {
            Peer::Socat => self.socat(),
            Peer::Splice => self.splice(),
            Peer::Limit => self.limit("hash"),
            Peer::LimitSealed => self.limit("seal"),
            Peer::Mbuffer | Peer::MbufferReady => self.mbuffer(),
            Peer::Udpcast => self.udpcast(),
            Peer::Uftp => self.uftp(),
            Peer::Ka => self.ka(Transport::Chain, &[]),
            Peer::KaClear => self.ka(Transport::Chain, &["--no-encrypt"]),
            Peer::KaLikeTar => self.ka(Transport::Chain, &LIKE_TAR),
            Peer::KaMulticast => self.ka(Transport::Multicast, &[]),
            Peer::KaMulticastClear => self.ka(Transport::Multicast, &["--no-encrypt"]),
            Peer::KaOrdered => self.ka(Transport::Chain, &["--order", &self.order()?]),
            Peer::KaHybrid => self.ka(Transport::Multicast, &["--order", &self.order()?]),
        }
    }

    pub(crate) fn nodes(&self) -> usize {
        self.sinks.len()
    }

    pub(crate) fn on_golden(&self, program: impl AsRef<std::ffi::OsStr>) -> Program {
        Program::new(program)
            .inside(self.network.golden())
            .cgroup(self.sender.path())
            .limit(RUN_LIMIT)
    }

    pub(crate) fn on_node(&self, number: usize, program: impl AsRef<std::ffi::OsStr>) -> Program {
        Program::new(program)
            .inside(self.network.node(number))
            .cgroup(self.receivers.path())
            .limit(RUN_LIMIT)
    }

    pub(super) fn sink(&self, number: usize) -> &Path {
        &self.sinks[number - 1]
    }

    fn socat(&self) -> Result<Prepared> {
        let listen = format!("TCP-LISTEN:{PORT},reuseaddr");
        let open = format!("OPEN:{},creat,trunc", self.sink(1).display());
        let receiver = self
            .on_node(1, "socat")
            .args(["-u", "-b", "262144", &listen, &open])
            .spawn()?;
        wait_listening(&receiver, PORT, Proto::Tcp)?;
        let from = format!("OPEN:{}", self.source.display());
        let to = format!("TCP:{}:{PORT}", node_address(1));
        Ok(sent_by(
            self.on_golden("socat").args(["-u", "-b", "262144", &from, &to]),
            vec![receiver],
        ))
    }

    fn splice(&self) -> Result<Prepared> {
        self.relays(&std::env::current_exe()?, "splice")
    }

    fn limit(&self, form: &str) -> Result<Prepared> {
        self.relays(&limit::program(self.release), form)
    }

    /// Prepares a chain of `program`, whose first word chooses the form, and the second the role.
    fn relays(&self, program: &Path, form: &str) -> Result<Prepared> {
        let receivers = self.chain_from_the_end(|number, next| {
            let relay = self
                .on_node(number, program)
                .args([form, "relay", &PORT.to_string()]);
            Ok(relay.arg(self.sink(number)).args(next))
        })?;
        let to = format!("{}:{PORT}", node_address(1));
        Ok(sent_by(
            self.on_golden(program)
                .args([form, "send"])
                .arg(&self.source)
                .arg(to),
            receivers,
        ))
    }

    fn mbuffer(&self) -> Result<Prepared> {
        let receivers = self.chain_from_the_end(|number, next| {
            let mut program = self
                .on_node(number, "mbuffer")
                .args(MBUFFER)
                .args(["-I", &PORT.to_string()]);
            if let Some(next) = next {
                program = program.arg("-O").arg(next);
            }
            Ok(program.arg("-o").arg(self.sink(number)))
        })?;
        let to = format!("{}:{PORT}", node_address(1));
        let sender = self
            .on_golden("mbuffer")
            .args(MBUFFER)
            .arg("-i")
            .arg(&self.source)
            .args(["-O", &to]);
        Ok(sent_by(sender, receivers))
    }

    /// Writes the file for `--order` that a network of two switches calls for: a group for each switch, the golden
    /// node's own first.
    fn order(&self) -> Result<String> {
        let path = self.work.join("order");
        let (near, far): (Vec<_>, Vec<_>) = (1..=self.nodes()).partition(|number| number % 2 == 0);
        let lines = |numbers: &[usize]| {
            numbers
                .iter()
                .map(|number| format!("n{number}\n"))
                .collect::<String>()
        };
        let text = format!("[first switch]\n{}[second switch]\n{}", lines(&near), lines(&far));
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// Prepares `ka-server` with `args`, and the nodes n1, n2, ….
    pub(crate) fn ka(&self, transport: Transport, args: &[&str]) -> Result<Prepared> {
        let input = self.source.to_string_lossy().into_owned();
        let (server, join) = self.ka_server(transport, &[&["--input", &input], args].concat())?;
        let node = |number: usize| {
            let program = self.on_node(number, self.release.join("ka-client")).args([
                "-h",
                GOLDEN_ADDRESS,
                "-s",
                "bench",
            ]);
            program
                .arg("--join-file")
                .arg(&join)
                .args(["--name", &format!("n{number}"), "--output"])
                .arg(self.sink(number))
        };
        let receivers = (1..self.nodes())
            .map(|number| node(number).spawn())
            .collect::<Result<Vec<_>>>()?;
        wait_connections(&server, KA_PORT, self.nodes() - 1)?;
        Ok(Prepared {
            receivers,
            senders: vec![server],
            last: node(self.nodes()),
            last_receives: true,
        })
    }

    /// Starts a `ka-server` for all nodes. Returns it, ready to be joined, and its join file.
    pub(crate) fn ka_server(&self, transport: Transport, args: &[&str]) -> Result<(Running, PathBuf)> {
        let join = self.work.join("join");
        let _ = std::fs::remove_file(&join);
        let server = self
            .on_golden(self.release.join("ka-server"))
            .args([
                "-n",
                &self.nodes().to_string(),
                "-s",
                "bench",
                "--listen",
                GOLDEN_ADDRESS,
            ])
            .args(transport.options())
            .args(args)
            .arg("--state-dir")
            .arg(self.work.join("state"))
            .arg("--join-file")
            .arg(&join)
            .spawn()?;
        wait_listening(&server, KA_PORT, Proto::Tcp)?;
        Ok((server, join))
    }

    /// Starts the last node first, so that each is ready before its predecessor connects to it.
    pub(crate) fn chain_from_the_end(
        &self,
        mut program: impl FnMut(usize, Option<String>) -> Result<Program>,
    ) -> Result<Vec<Running>> {
        let mut running = Vec::new();
        for number in (1..=self.nodes()).rev() {
            let next = (number < self.nodes()).then(|| format!("{}:{PORT}", node_address(number + 1)));
            let receiver = program(number, next)?.spawn()?;
            wait_listening(&receiver, PORT, Proto::Tcp)?;
            running.push(receiver);
        }
        Ok(running)
    }
}

/// Options of every mbuffer: block and buffer size.
pub(crate) const MBUFFER: [&str; 5] = ["-q", "-s", "256k", "-m", "64M"];
/// TCP port of the first relay of a chain.
pub(crate) const RELAY_PORT: u16 = PORT;

pub(crate) fn sent_by(last: Program, receivers: Vec<Running>) -> Prepared {
    Prepared {
        receivers,
        senders: Vec::new(),
        last,
        last_receives: false,
    }
}

/// Transport protocol of a socket.
#[derive(Clone, Copy)]
pub(super) enum Proto {
    Tcp,
    Udp,
}

/// Waits until a program in the process's namespace listens on the port.
pub(super) fn wait_listening(process: &Running, port: u16, proto: Proto) -> Result<()> {
    // Socket states of /proc/net: 0A is LISTEN, 07 is an unconnected UDP socket.
    let (tables, state) = match proto {
        Proto::Tcp => (["tcp", "tcp6"], "0A"),
        Proto::Udp => (["udp", "udp6"], "07"),
    };
    wait_sockets(process, &tables, port, state, 1)
}

/// Waits until this number of connections to the port of a process are established.
pub(crate) fn wait_connections(process: &Running, port: u16, count: usize) -> Result<()> {
    wait_sockets(process, &["tcp"], port, "01", count)
}

fn wait_sockets(process: &Running, tables: &[&str], port: u16, state: &str, count: usize) -> Result<()> {
    let (started, suffix) = (Instant::now(), format!(":{port:04X}"));
    loop {
        let found: usize = tables
            .iter()
            .map(|table| {
                let text = std::fs::read_to_string(format!("/proc/{}/net/{table}", process.pid()))
                    .unwrap_or_default();
                let rows = text
                    .lines()
                    .map(|line| line.split_whitespace().collect::<Vec<_>>());
                rows.filter(|row| row.len() > 3 && row[1].ends_with(&suffix) && row[3] == state)
                    .count()
            })
            .sum();
        if found >= count {
            return Ok(());
        }
        if started.elapsed() > READY_LIMIT {
            bail!(
                "{found} of {count} sockets on port {port} after {} s: {}",
                READY_LIMIT.as_secs(),
                process.said()
            );
        }
        thread::sleep(Duration::from_millis(10));
    }
}
