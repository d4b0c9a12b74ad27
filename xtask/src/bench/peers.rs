//! How each program is made to carry one file to N nodes. Options are those of `bench/lab.sh`.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use ka_tests::cgroup::Cgroup;
use ka_tests::netns::{GOLDEN_ADDRESS, Network, node_address};
use ka_tests::process::{Program, Running, is_installed};

/// A run that takes longer is a hang.
pub(crate) const RUN_LIMIT: Duration = Duration::from_secs(300);
/// Receivers get ready within this time.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// The relays' port.
const PORT: u16 = 7000;
/// `ka-server`'s control port.
pub(crate) const KA_PORT: u16 = 30_765;
/// `udp-receiver`'s port.
const UDPCAST_PORT: u16 = 9000;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub(crate) enum Peer {
    /// One plain TCP stream to one node: what a line gives.
    Socat,
    /// The cheapest chain the kernel allows: [`crate::splice`].
    Splice,
    /// A chain of mbuffers; with a tree, tar at both ends and the disks made inside the clock.
    Mbuffer,
    /// The same with disks that were made before: trees only.
    MbufferReady,
    /// Multicast.
    Udpcast,
    /// Ours.
    Ka,
    /// Ours with `--no-encrypt`: streams only.
    KaClear,
    /// Ours doing no more than tar and mbuffer do: trees only.
    KaLikeTar,
}

impl Peer {
    /// Those that were asked for (all when nothing is said) and can run here, in the order of the table.
    pub(crate) fn available(wanted: &[String]) -> Vec<Self> {
        let all = [
            Self::Socat,
            Self::Splice,
            Self::Mbuffer,
            Self::MbufferReady,
            Self::Udpcast,
            Self::Ka,
            Self::KaClear,
            Self::KaLikeTar,
        ];
        let installed = all
            .into_iter()
            .filter(|peer| peer.programs().iter().all(|program| is_installed(program)));
        installed
            .filter(|peer| wanted.is_empty() || wanted.iter().any(|name| peer.name().starts_with(name)))
            .collect()
    }

    /// Whether it carries one file. The others are forms for trees.
    pub(crate) const fn carries_streams(self) -> bool {
        !matches!(self, Self::MbufferReady | Self::KaLikeTar)
    }

    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Socat => "socat (1 node)",
            Self::Splice => "splice relay",
            Self::Mbuffer => "mbuffer",
            Self::MbufferReady => "mbuffer, disks ready",
            Self::Udpcast => "udpcast",
            Self::Ka => "ka",
            Self::KaClear => "ka, not encrypted",
            Self::KaLikeTar => "ka, not encrypted, not read back",
        }
    }

    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Socat => &["socat"],
            Self::Mbuffer | Self::MbufferReady => &["mbuffer"],
            Self::Udpcast => &["udp-sender", "udp-receiver"],
            Self::Splice | Self::Ka | Self::KaClear | Self::KaLikeTar => &[],
        }
    }
}

/// What makes ours do no more than tar and mbuffer do.
pub(crate) const LIKE_TAR: [&str; 2] = ["--no-encrypt", "--verify=never"];

/// The place and the accounts of one run.
pub(crate) struct Job<'a> {
    pub(crate) network: &'a Network,
    pub(crate) sender: &'a Cgroup,
    pub(crate) receivers: &'a Cgroup,
    pub(crate) release: &'a Path,
    pub(crate) work: &'a Path,
    pub(crate) source: PathBuf,
    /// Where node i (from 1) writes.
    pub(crate) sinks: Vec<PathBuf>,
}

/// Receivers that are ready, and the one program whose start begins the transfer.
pub(crate) struct Prepared {
    pub(crate) receivers: Vec<Running>,
    pub(crate) senders: Vec<Running>,
    pub(crate) last: Program,
    /// Whether `last` is a receiver too.
    pub(crate) last_receives: bool,
}

impl Job<'_> {
    /// Makes everything ready but the last program.
    pub(crate) fn prepare(&self, peer: Peer) -> Result<Prepared> {
        match peer {
            Peer::Socat => self.socat(),
            Peer::Splice => self.splice(),
            Peer::Mbuffer | Peer::MbufferReady => self.mbuffer(),
            Peer::Udpcast => self.udpcast(),
            Peer::Ka => self.ka(&[]),
            Peer::KaClear => self.ka(&["--no-encrypt"]),
            Peer::KaLikeTar => self.ka(&LIKE_TAR),
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

    fn sink(&self, number: usize) -> &Path {
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
        let exe = std::env::current_exe()?;
        let receivers = self.chain_from_the_end(|number, next| {
            let relay = self
                .on_node(number, &exe)
                .args(["splice", "relay", &PORT.to_string()]);
            Ok(relay.arg(self.sink(number)).args(next))
        })?;
        let to = format!("{}:{PORT}", node_address(1));
        Ok(sent_by(
            self.on_golden(&exe)
                .args(["splice", "send"])
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

    fn udpcast(&self) -> Result<Prepared> {
        let words = "--interface eth0 --nokbd --no-progress --nosync --rcvbuf 4194304 --file";
        let mut receivers = Vec::new();
        for number in 1..=self.nodes() {
            let receiver = self
                .on_node(number, "udp-receiver")
                .args(words.split(' '))
                .arg(self.sink(number))
                .spawn()?;
            wait_listening(&receiver, UDPCAST_PORT, Proto::Udp)?;
            receivers.push(receiver);
        }
        thread::sleep(Duration::from_millis(300));
        // Without a hello interval the sender looks at its receivers every 2 s only.
        let words = "--interface eth0 --nokbd --no-progress --rexmit-hello-interval 20 --min-receivers";
        let sender = self
            .on_golden("udp-sender")
            .args(words.split(' '))
            .arg(self.nodes().to_string());
        Ok(sent_by(sender.arg("--file").arg(&self.source), receivers))
    }

    /// `ka-server` with `args`, and the nodes n1, n2, ….
    pub(crate) fn ka(&self, args: &[&str]) -> Result<Prepared> {
        let input = self.source.to_string_lossy().into_owned();
        let (server, join) = self.ka_server(&[&["--input", &input], args].concat())?;
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

    /// A `ka-server` for all nodes that can be joined, and its join file.
    pub(crate) fn ka_server(&self, args: &[&str]) -> Result<(Running, PathBuf)> {
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
            .args(args)
            .arg("--state-dir")
            .arg(self.work.join("state"))
            .arg("--join-file")
            .arg(&join)
            .spawn()?;
        wait_listening(&server, KA_PORT, Proto::Tcp)?;
        Ok((server, join))
    }

    /// Starts the last node first; each is ready before its predecessor connects to it.
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

/// Block and buffer size of every mbuffer.
pub(crate) const MBUFFER: [&str; 5] = ["-q", "-s", "256k", "-m", "64M"];
/// Where the first relay of a chain listens.
pub(crate) const RELAY_PORT: u16 = PORT;

pub(crate) fn sent_by(last: Program, receivers: Vec<Running>) -> Prepared {
    Prepared {
        receivers,
        senders: Vec::new(),
        last,
        last_receives: false,
    }
}

#[derive(Clone, Copy)]
enum Proto {
    Tcp,
    Udp,
}

/// Waits until somebody in the process's namespace listens on the port.
fn wait_listening(process: &Running, port: u16, proto: Proto) -> Result<()> {
    // Socket states of /proc/net: 0A is LISTEN, 07 an unconnected UDP socket.
    let (tables, state) = match proto {
        Proto::Tcp => (["tcp", "tcp6"], "0A"),
        Proto::Udp => (["udp", "udp6"], "07"),
    };
    wait_sockets(process, &tables, port, state, 1)
}

/// Waits until so many connections to the port of a process are established.
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
