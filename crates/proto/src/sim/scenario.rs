//! The scenario of a simulation: number of nodes, rates and faults, all drawn from one seed.

use std::time::Duration;

use super::liar::Liar;
use super::rng::Rng;
use super::standby::GroupPlan;
use crate::limits::{MAX_BLOCK, MIN_WINDOW_BLOCKS};

const LARGEST_BLOCK: u32 = 1 << 20;
const _: () = assert!(LARGEST_BLOCK as usize == MAX_BLOCK);

/// Time after the last fault in which every node notices it, and dead ones come back.
const SETTLED: Duration = Duration::from_secs(30);

/// A fault of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process dies, and its kernel closes all connections.
    Kill,
    /// The machine is gone, and no other host is told.
    PowerCut,
    /// The process does nothing for a while (SIGSTOP, swapped out), and its kernel goes on.
    Freeze(Duration),
    /// Nothing comes in or goes out for a while. Sent data arrives afterwards, as with TCP.
    Partition(Duration),
    /// The disk takes nothing for a while.
    DiskStall(Duration),
    /// From now on the disk takes so many bytes a second.
    DiskSlows(u64),
    /// From now on the line to the node carries so many bytes a second.
    LineSlows(u64),
    /// The disk gives an error, so the consumer fails.
    DiskFails,
    /// Planning, preparing disks or finishing fails.
    StepFails(Step),
    /// The node does not answer in that stage, though it lives.
    StepHangs(Step),
    /// The operator presses Ctrl-C on the node.
    Leaves,
    /// The connection to the node's predecessor breaks.
    LinkBreaks,
    /// The node leaves the multicast group of the open stream.
    LeavesGroup,
    /// The group of the open stream reaches no node any more.
    GroupGoesDark,
}

/// Local work of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Making the plan.
    Prepare,
    /// Making partitions and file systems.
    Go,
    /// Finishing and reporting.
    Report,
    /// Making the clone bootable.
    Commit,
}

/// A rule that is broken on purpose, to show that the checks of the simulation notice it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// A block is altered on the wire, and not verified.
    AltersABlock,
    /// A node drops a block and goes on with the next one.
    DropsABlock,
    /// The driver keeps blocks that the machine has released.
    KeepsWhatIsReleased,
    /// The machines of nodes are never called at their timeouts.
    NodesHaveNoTimers,
    /// The server's machine is never called at its timeouts.
    ServerHasNoTimer,
    /// The first node's report does not arrive.
    LosesAReport,
    /// The server does not record the nodes whose clone is good.
    ForgetsWhoIsDone,
    /// Nodes that are told to come back do not.
    NobodyComesBack,
    /// The liar's words are taken for the first node's.
    BelievesTheLiar,
    /// The server judges no clone bad.
    ReleasesTheTwin,
    /// A node reports that its clone can be booted, and has not made it so.
    NobodyWritesTheTable,
    /// The liar has the receipt keys of all nodes.
    GivesTheLiarAllKeys,
    /// Members of a group never say that they stand by.
    NeverStandsBy,
    /// A node that is no member of the group says that it stands by.
    StandsByForEver,
}

/// A fault with its host and its time. Step faults have no time of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    /// Number of the host: 1 is the first node, 0 the server.
    pub(crate) host: usize,
    /// Time from the start of the simulation.
    pub(crate) at: Duration,
    /// The fault at that time.
    pub(crate) fault: Fault,
}

/// Everything that a simulation depends on.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// Seed of all draws that are not fixed here, such as the size of each block.
    pub(crate) seed: u64,
    /// Number of nodes.
    pub(crate) nodes: usize,
    /// Number of streams.
    pub(crate) streams: u32,
    /// Payload of each stream, in bytes.
    pub(crate) stream_bytes: u64,
    /// Size of the largest block, in bytes.
    pub(crate) block_bytes: u32,
    /// Window of each node, in bytes.
    pub(crate) window_bytes: u64,
    /// Rate of the link to each host, in bytes a second; the first entry is host 1's.
    pub(crate) link_rates: Vec<u64>,
    /// One-way latency of every link.
    pub(crate) latency: Duration,
    /// Longest additional latency, drawn for each message. Connections overtake each other, but each keeps
    /// its own order.
    pub(crate) jitter: Duration,
    /// Bytes that an idle line has saved up and carries at once.
    pub(crate) line_burst: u64,
    /// True if the rate of a host is that of its port, so that it limits what the host sends, too.
    pub(crate) both_ways: bool,
    /// Rate of each consumer, in bytes a second; the first entry is host 1's.
    pub(crate) disk_rates: Vec<u64>,
    /// Rate of each host's processor, in bytes a second; the first entry is host 1's.
    pub(crate) processor_rates: Vec<u64>,
    /// Rate of the golden node's port, in bytes a second.
    pub(crate) golden_port: u64,
    /// Rate at which the golden node reads, in bytes a second.
    pub(crate) golden_rate: u64,
    /// Number of lost nodes in a row that retained data bridges.
    pub(crate) tolerance: u8,
    /// True if the server keeps each stream, so that nodes which lost their place go on.
    pub(crate) spool: bool,
    /// Chance that the spool is lost when a node is to be fed from it, in percent.
    pub(crate) spool_fails_percent: u64,
    /// True for streams only, without prepare and go.
    pub(crate) generic: bool,
    /// True if the first stream brings the nodes their tools (`getstage2`) before prepare. Needs two streams.
    pub(crate) tools_first: bool,
    /// True if nodes wait for the staggered release.
    pub(crate) hold_release: bool,
    /// True if clones become bootable only after the server has judged them.
    pub(crate) commits: bool,
    /// The host whose first clone is bad.
    pub(crate) twin: Option<usize>,
    /// Number of nodes wanted. If it is less than `nodes`, the rest comes too late.
    pub(crate) wanted: usize,
    /// Most rounds of the run.
    pub(crate) rounds: u32,
    /// True if machines that were killed or lost power are started again, with several rounds.
    pub(crate) restarts: bool,
    /// True if a server that was killed or lost power is started again with its state directory, with several
    /// rounds.
    pub(crate) server_restarts: bool,
    /// The rule that is broken on purpose.
    pub(crate) sabotage: Option<Sabotage>,
    /// The multicast group of every stream, if there is one.
    pub(crate) group: Option<GroupPlan>,
    /// The node that lies, if one does.
    pub(crate) liar: Option<Liar>,
    /// The faults, in any order.
    pub(crate) faults: Vec<Planned>,
}

impl Scenario {
    /// Returns a scenario without faults: `nodes` nodes, two streams.
    #[must_use]
    pub(crate) fn quiet(seed: u64, nodes: usize) -> Self {
        Self {
            seed,
            nodes,
            streams: 2,
            stream_bytes: 24 << 20,
            block_bytes: LARGEST_BLOCK,
            window_bytes: (MIN_WINDOW_BLOCKS * MAX_BLOCK) as u64,
            link_rates: vec![125_000_000; nodes],
            latency: Duration::from_micros(200),
            jitter: Duration::ZERO,
            line_burst: 0,
            both_ways: false,
            disk_rates: vec![200_000_000; nodes],
            processor_rates: vec![u64::MAX; nodes],
            golden_port: u64::MAX,
            golden_rate: u64::MAX,
            tolerance: 2,
            spool: false,
            spool_fails_percent: 0,
            generic: false,
            tools_first: false,
            hold_release: false,
            commits: false,
            twin: None,
            wanted: nodes,
            rounds: 1,
            restarts: false,
            server_restarts: false,
            sabotage: None,
            group: None,
            liar: None,
            faults: Vec::new(),
        }
    }

    /// Returns a scenario in which anything may go wrong, with up to `most_nodes` nodes.
    #[must_use]
    pub(crate) fn from_seed(seed: u64, most_nodes: u32) -> Self {
        let mut rng = Rng::new(seed);
        let nodes = rng.count(1, most_nodes) as usize;
        let mut scenario = Self::quiet(rng.next(), nodes);
        scenario.streams = rng.count(1, 3);
        scenario.stream_bytes = rng.pick(&[0, 1, 1000, 100_000, 8 << 20, 40 << 20, 40 << 20, 100 << 20]);
        scenario.block_bytes = if scenario.stream_bytes > 1 << 20 {
            rng.pick(&[128 << 10, 256 << 10, LARGEST_BLOCK])
        } else {
            rng.pick(&[256, 4 << 10, LARGEST_BLOCK])
        };
        scenario.window_bytes = rng.pick(&[6, 6, 8, 16, 40]) << 20;
        let common = rng.pick(&[5_000_000, 12_500_000, 125_000_000]);
        for rate in &mut scenario.link_rates {
            *rate = if rng.chance(10) {
                rng.pick(&[3_000_000, 20_000_000])
            } else {
                common
            };
        }
        scenario.latency = rng.pick(&[50, 300, 5_000, 40_000].map(Duration::from_micros));
        scenario.jitter = rng.pick(&[0, 0, 2, 60].map(Duration::from_millis));
        for rate in &mut scenario.disk_rates {
            *rate = rng.pick(&[3_000_000, 20_000_000, 200_000_000, 200_000_000]);
        }
        scenario.tolerance = rng.pick(&[0, 1, 2, 3]);
        scenario.generic = rng.chance(20);
        scenario.tools_first = rng.chance(40) && !scenario.generic && scenario.streams > 1;
        scenario.hold_release = rng.chance(30);
        scenario.wanted = nodes.saturating_sub(usize::from(rng.chance(10))).max(1);
        let faults = rng.pick(&[0, 0, 1, 1, 1, 2, 3, 1 + nodes / 3]);
        scenario.draw_faults(&mut rng, faults);
        // These are drawn last, so that the other values of a seed stay the same.
        scenario.spool = rng.chance(50);
        scenario.spool_fails_percent = rng.pick(&[0, 0, 0, 20]);
        scenario.rounds = rng.pick(&[1, 1, 2, 3]);
        scenario.restarts = rng.chance(60);
        scenario.server_restarts = rng.chance(60);
        scenario.commits = !scenario.generic && rng.chance(50);
        let twin = rng.count(1, u32_of(nodes)) as usize;
        scenario.twin = Some(twin).filter(|_| scenario.commits && rng.chance(25));
        scenario
    }

    /// Draws faults anywhere in the run. In some runs all strike at nearly the same time, on neighbours.
    fn draw_faults(&mut self, rng: &mut Rng, faults: usize) {
        let end_ms = u64::try_from(self.expected().as_millis()).unwrap_or(u64::MAX);
        let together = rng
            .chance(30)
            .then(|| (rng.count(1, u32_of(self.nodes)) as usize, rng.millis(0, end_ms)));
        if rng.chance(8) {
            let time = rng.millis(10, 8000);
            let fault = rng.pick(&[
                Fault::Freeze(time),
                Fault::Partition(time),
                Fault::Kill,
                Fault::PowerCut,
            ]);
            let at = rng.millis(0, end_ms);
            self.faults.push(Planned { host: 0, at, fault });
        }
        for index in 0..faults {
            let (host, at) = match together {
                Some((host, at)) => ((host + index - 1) % self.nodes + 1, at + rng.millis(0, 1500)),
                None => (rng.count(1, u32_of(self.nodes)) as usize, rng.millis(0, end_ms)),
            };
            self.faults.push(Planned {
                host,
                at,
                fault: Fault::draw(rng),
            });
        }
    }

    /// Returns the approximate time of the run without faults.
    pub(super) fn expected(&self) -> Duration {
        let rate = self
            .disk_rates
            .iter()
            .chain(&self.link_rates)
            .chain(&self.processor_rates)
            .chain([&self.golden_rate])
            .copied()
            .fold(u64::MAX, u64::min)
            .max(1);
        let data = self.stream_bytes.saturating_mul(1000) / rate;
        let stages = if self.generic { 2400 } else { 5900 };
        Duration::from_millis(stages + u64::from(self.streams) * data)
    }

    /// Returns the time from which on nothing goes wrong, and late effects have been noticed. It never comes
    /// if a step fails each time or a disk stays slow.
    pub(super) fn calm_from(&self) -> Duration {
        let until = |planned: &Planned| match planned.fault {
            Fault::Freeze(time) | Fault::Partition(time) | Fault::DiskStall(time) => planned.at + time,
            Fault::DiskSlows(_) | Fault::LineSlows(_) | Fault::StepFails(_) | Fault::StepHangs(_) => {
                Duration::MAX
            }
            Fault::Kill
            | Fault::PowerCut
            | Fault::DiskFails
            | Fault::Leaves
            | Fault::LinkBreaks
            | Fault::LeavesGroup
            | Fault::GroupGoesDark => planned.at,
        };
        let last = self.faults.iter().map(until).max().unwrap_or_default();
        last.saturating_add(SETTLED)
    }

    /// True if no fault that may cost the run hits this host.
    #[must_use]
    pub(crate) fn is_spared(&self, host: usize) -> bool {
        let is_hit = |planned: &Planned| planned.host == host && !planned.fault.is_harmless();
        self.twin != Some(host) && !self.faults.iter().any(is_hit)
    }
}

fn u32_of(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Fault {
    fn draw(rng: &mut Rng) -> Self {
        let step = rng.pick(&[Step::Prepare, Step::Go, Step::Report]);
        match rng.between(0, 13) {
            0..=3 => Self::Kill,
            4 | 5 => Self::PowerCut,
            6 | 7 => Self::Freeze(rng.millis(10, 12_000)),
            8 | 9 => Self::Partition(rng.millis(10, 12_000)),
            10 => Self::DiskStall(rng.millis(10, 12_000)),
            11 if rng.chance(50) => Self::DiskSlows(rng.pick(&[500_000, 3_000_000])),
            11 => Self::DiskFails,
            12 => rng.pick(&[Self::StepFails(step), Self::StepHangs(step)]),
            _ => Self::Leaves,
        }
    }

    /// True for faults that every node must survive: shorter than any silence that costs the link, or a slow
    /// disk.
    fn is_harmless(self) -> bool {
        match self {
            Self::DiskStall(_) | Self::LinkBreaks | Self::LeavesGroup | Self::GroupGoesDark => true,
            Self::Freeze(time) | Self::Partition(time) => time < Duration::from_millis(500),
            _ => false,
        }
    }
}
