//! Network namespaces: hosts on a switch, all of it inside this machine, none of it visible outside.
//!
//! Addresses and shaping are those of `bench/lab.sh` of the project's shared notes: golden node 10.77.0.1,
//! node *i* (from 1) 10.77.0.(101 + i), one bridge, MTU 1500. `netem` is not needed.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::Program;
use crate::{caretaker, interrupt};

/// Bytes of an Ethernet frame as `tbf` counts them; on the wire a frame has 24 more (preamble, FCS and gap).
const FRAME_SEEN: u64 = 1514;
const FRAME_WIRE: u64 = 1538;
/// Queue of a host in bytes: sockets wait, nothing is dropped. The queue of a switch port, below, drops
/// packets beyond its length.
const HOST_QUEUE: u64 = 2_097_152;
const SWITCH_QUEUE: u64 = 524_288;
/// Smallest burst of `tbf` in bytes: two GSO frames must fit.
const MIN_BURST: u64 = 131_072;

/// Name of the switch's bridge, in the switch's namespace.
pub(crate) const BRIDGE: &str = "br0";
/// Name of the second switch's bridge, in the same namespace.
const FAR_BRIDGE: &str = "br1";

/// One namespace with its own host name. Clones share it; the last one deletes it with every process in it.
#[derive(Debug, Clone)]
pub struct Namespace(Arc<Owned>);

#[derive(Debug)]
struct Owned {
    name: String,
    host: String,
}

impl Namespace {
    /// Makes a namespace with a loopback device that is up.
    ///
    /// # Errors
    /// Not root, or no iproute2.
    pub fn new(host: &str) -> Result<Self> {
        caretaker::engage();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "ka-{}-{}-{host}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let whole = interrupt::shield();
        Program::new("ip").args(["netns", "add", &name]).run()?;
        let made = Self(Arc::new(Owned {
            name,
            host: host.to_owned(),
        }));
        drop(whole);
        made.ip("link set lo up")?;
        // The kernel's defaults hold, whatever this machine's own tuning is (it is inherited in part).
        made.sysctl("net.ipv6.conf.all.disable_ipv6=1")?;
        made.sysctl("net.ipv4.tcp_rmem=4096 131072 6291456")?;
        made.sysctl("net.ipv4.tcp_wmem=4096 16384 4194304")?;
        // The kernel refuses if cubic is not among the allowed ones; then all hosts use the machine's own.
        let _ = made.sysctl("net.ipv4.tcp_congestion_control=cubic");
        Ok(made)
    }

    /// Returns the namespace's name, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the host name seen inside.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// Runs an action in a thread that lives inside the namespace: sockets opened and programs started there
    /// stay there.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the thread panics.
    pub fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T> {
        let joined = thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.move_in()?;
                    Ok(action())
                })
                .join()
        });
        let result: Result<T> = joined.map_err(|_| anyhow!("a thread in {} panicked", self.0.name))?;
        result.with_context(|| format!("entering namespace {}", self.0.name))
    }

    /// Moves this thread into the namespace, for good.
    pub(crate) fn move_in(&self) -> Result<()> {
        let handle = File::open(format!("/run/netns/{}", self.0.name))?;
        setns(&handle, CloneFlags::CLONE_NEWNET)?;
        // The mount namespace stays the common one: a mount that a node leaves behind must be seen.
        unshare(CloneFlags::CLONE_NEWUTS)?;
        nix::unistd::sethostname(&self.0.host)?;
        Ok(())
    }

    /// Runs `ip -n NAMESPACE` with these words.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn ip(&self, words: &str) -> Result<String> {
        Program::new("ip")
            .args(["-n", &self.0.name])
            .args(words.split_whitespace())
            .run()
    }

    /// Runs a program inside and returns its output.
    ///
    /// # Errors
    /// The program fails.
    pub fn run(&self, words: &str) -> Result<String> {
        let mut words = words.split_whitespace();
        Program::new(words.next().unwrap_or_default())
            .args(words)
            .inside(self)
            .run()
    }

    fn sysctl(&self, setting: &str) -> Result<()> {
        Program::new("sysctl")
            .args(["-qew", setting])
            .inside(self)
            .run()
            .map(drop)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let _whole = interrupt::shield();
        for pid in pids_in(&self.name) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        if let Err(err) = Program::new("ip").args(["netns", "del", &self.name]).run() {
            eprintln!("lab: namespace {} stays behind: {err:#}", self.name);
        }
    }
}

/// Kills the processes in a namespace of the lab and deletes it. For [`crate::scratch::sweep`].
pub(crate) fn remove_stale(name: &str) {
    drop(Owned {
        name: name.to_owned(),
        host: String::new(),
    });
}

fn pids_in(name: &str) -> Vec<Pid> {
    let listed = Program::new("ip")
        .args(["netns", "pids", name])
        .run()
        .unwrap_or_default();
    listed
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .map(Pid::from_raw)
        .collect()
}

/// A golden node and some nodes on one switch.
#[derive(Debug)]
pub struct Network {
    switch: Namespace,
    golden: Namespace,
    nodes: Vec<Namespace>,
}

impl Network {
    /// Builds the network; `rate` in bits a second shapes every line both ways, as Ethernet of that rate
    /// would.
    ///
    /// # Errors
    /// Not root, or the kernel lacks veth, bridge or `sch_tbf`.
    pub fn new(nodes: usize, rate: Option<u64>) -> Result<Self> {
        let network = Self::unplugged(nodes)?;
        network.plug(&network.golden, "pg", GOLDEN_ADDRESS, (BRIDGE, rate))?;
        for number in 1..=network.len() {
            network.plug_node(number, (BRIDGE, rate))?;
        }
        Ok(network)
    }

    /// Builds a network of two switches with one line between them. The golden node and the nodes with even
    /// numbers are on the first switch, the nodes with odd numbers on the second: a chain by number crosses
    /// the line at every hop. `rate` shapes the hosts' lines and `between` the line between the switches, in
    /// bits a second, both ways.
    ///
    /// # Errors
    /// Not root, or the kernel lacks veth, bridge or `sch_tbf`.
    pub fn with_two_switches(nodes: usize, rate: u64, between: u64) -> Result<Self> {
        let network = Self::unplugged(nodes)?;
        let switch = &network.switch;
        // The first switch asks for members, and its questions reach the second.
        switch.ip("link add br1 type bridge stp_state 0 forward_delay 0 mcast_snooping 1 mcast_querier 0")?;
        switch.ip("link set br1 up")?;
        switch.ip("link add u0 type veth peer name u1")?;
        for (port, bridge) in [("u0", BRIDGE), ("u1", FAR_BRIDGE)] {
            switch.ip(&format!("link set {port} master {bridge} up"))?;
            shape(switch, port, between, SWITCH_QUEUE, None)?;
        }
        network.plug(&network.golden, "pg", GOLDEN_ADDRESS, (BRIDGE, Some(rate)))?;
        for number in 1..=network.len() {
            let bridge = if number % 2 == 0 { BRIDGE } else { FAR_BRIDGE };
            network.plug_node(number, (bridge, Some(rate)))?;
        }
        Ok(network)
    }

    fn unplugged(nodes: usize) -> Result<Self> {
        let switch = Namespace::new("sw")?;
        switch.ip(&format!(
            "link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 1 mcast_querier 1"
        ))?;
        switch.ip(&format!("link set {BRIDGE} up"))?;
        let golden = Namespace::new("golden")?;
        let nodes = (1..=nodes)
            .map(|index| Namespace::new(&format!("n{index}")))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            switch,
            golden,
            nodes,
        })
    }

    /// Returns the namespace of the golden node.
    #[must_use]
    pub fn golden(&self) -> &Namespace {
        &self.golden
    }

    /// Returns the namespace of the switch: emulated machines run in it, so that their taps are ports of its
    /// bridge.
    #[must_use]
    pub fn switch(&self) -> &Namespace {
        &self.switch
    }

    /// Adds a port for an emulated machine's network card: a tap of this name on the bridge.
    ///
    /// # Errors
    /// The kernel has no tun, or the name is taken.
    pub fn add_tap(&self, name: &str) -> Result<()> {
        self.switch.ip(&format!("tuntap add dev {name} mode tap"))?;
        self.switch
            .ip(&format!("link set {name} master {BRIDGE} up"))
            .map(drop)
    }

    /// Returns the namespace of a node, counted from 1.
    ///
    /// # Panics
    /// There is no such node.
    #[must_use]
    pub fn node(&self, number: usize) -> &Namespace {
        &self.nodes[number - 1]
    }

    /// Returns the number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// True if there is no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Pulls a node's plug (its switch port goes down: packets vanish, no connection closes) or puts it back.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn set_plugged(&self, number: usize, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        self.switch.ip(&format!("link set p{number} {state}")).map(drop)
    }

    /// Gives a node's port another rate, in bits a second, both ways. With `burst`, an idle port carries that
    /// many bytes at once, as a policed line does.
    ///
    /// # Errors
    /// `tc` fails.
    pub fn reshape(&self, number: usize, rate: u64, burst: Option<u64>) -> Result<()> {
        shape(self.node(number), "eth0", rate, HOST_QUEUE, burst)?;
        shape(&self.switch, &format!("p{number}"), rate, SWITCH_QUEUE, burst)
    }

    /// Gives the golden node's port another rate, as [`Network::reshape`] does.
    ///
    /// # Errors
    /// `tc` fails.
    pub fn reshape_golden(&self, rate: u64, burst: Option<u64>) -> Result<()> {
        shape(&self.golden, "eth0", rate, HOST_QUEUE, burst)?;
        shape(&self.switch, "pg", rate, SWITCH_QUEUE, burst)
    }

    fn plug_node(&self, number: usize, to: (&str, Option<u64>)) -> Result<()> {
        self.plug(
            self.node(number),
            &format!("p{number}"),
            &node_address(number),
            to,
        )
    }

    fn plug(&self, host: &Namespace, port: &str, address: &str, to: (&str, Option<u64>)) -> Result<()> {
        let (bridge, rate) = to;
        let (name, switch) = (host.name(), self.switch.name());
        Program::new("ip")
            .args(format!("link add eth0 netns {name} type veth peer name {port} netns {switch}").split(' '))
            .run()?;
        host.ip(&format!("addr add {address}/24 brd + dev eth0"))?;
        host.ip("link set eth0 up")?;
        host.ip("route add default dev eth0")?;
        self.switch.ip(&format!("link set {port} master {bridge} up"))?;
        if let Some(rate) = rate {
            shape(host, "eth0", rate, HOST_QUEUE, None)?;
            shape(&self.switch, port, rate, SWITCH_QUEUE, None)?;
        }
        Ok(())
    }
}

/// The golden node's address in every network.
pub const GOLDEN_ADDRESS: &str = "10.77.0.1";

/// Returns a node's address, counted from 1.
#[must_use]
pub fn node_address(number: usize) -> String {
    format!("10.77.0.{}", 101 + number)
}

/// Returns the TCP payload that one line of this rate (bits a second) can carry, in bytes a second: 1448 of
/// 1538 bytes.
#[must_use]
pub fn payload_limit(rate: u64) -> u64 {
    rate / 8 * 1448 / FRAME_WIRE
}

fn shape(namespace: &Namespace, device: &str, rate: u64, queue: u64, burst: Option<u64>) -> Result<()> {
    let seen = rate * FRAME_SEEN / FRAME_WIRE;
    let burst = burst.unwrap_or_else(|| (rate / 8 / 1000).max(MIN_BURST));
    let words = format!("qdisc replace dev {device} root tbf rate {seen}bit burst {burst} limit {queue}");
    Program::new("tc")
        .args(["-n", namespace.name()])
        .args(words.split(' '))
        .run()
        .map(drop)
}
