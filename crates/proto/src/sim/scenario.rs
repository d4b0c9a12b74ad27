//! What is simulated: how many nodes, how fast, and what goes wrong when; all of it drawn from one seed.

use std::time::Duration;

use super::liar::Liar;
use super::rng::Rng;
use crate::limits::{MAX_BLOCK, MIN_WINDOW_BLOCKS};

const LARGEST_BLOCK: u32 = 1 << 20;
const _: () = assert!(LARGEST_BLOCK as usize == MAX_BLOCK);

/// After the last fault everybody has heard of it, and who died is back.
const SETTLED: Duration = Duration::from_secs(30);

/// Something that goes wrong with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process dies; its kernel closes all connections.
    Kill,
    /// The machine is gone; nobody is told.
    PowerCut,
    /// The process does nothing for a while (SIGSTOP, swapped out); its kernel goes on.
    Freeze(Duration),
    /// Nothing comes in or goes out for a while; what was sent arrives afterwards, as TCP does it.
    Partition(Duration),
    /// The disk takes nothing for a while.
    DiskStall(Duration),
    /// From now on the disk takes so many bytes a second.
    DiskSlows(u64),
    /// From now on the line to it carries so many bytes a second.
    LineSlows(u64),
    /// The disk gives an error: the consumer fails.
    DiskFails,
    /// Planning, preparing disks or finishing fails.
    StepFails(Step),
    /// The node does not answer in that stage, though it lives.
    StepHangs(Step),
    /// The operator presses Ctrl-C on the node.
    Leaves,
}

/// Local work of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Planning.
    Prepare,
    /// Partitioning and file systems.
    Go,
    /// Finishing and reporting.
    Report,
    /// Making the clone bootable.
    Commit,
}

/// A rule that is broken on purpose, to show that the checks of the simulation notice it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// A block is altered on the wire, and nobody verifies it.
    AltersABlock,
    /// A node drops a block and goes on with the next one.
    DropsABlock,
    /// What the machine releases is kept.
    KeepsWhatIsReleased,
    /// The machines of nodes are never called when they asked for it.
    NodesHaveNoTimers,
    /// That of the server is not.
    ServerHasNoTimer,
    /// The first node's report does not arrive.
    LosesAReport,
    /// The server does not note whose clone is good.
    ForgetsWhoIsDone,
    /// Who is told to come back does not.
    NobodyComesBack,
    /// What the liar says is believed of the first node.
    BelievesTheLiar,
    /// The server judges no clone bad.
    ReleasesTheTwin,
    /// A node says that its clone can be booted, and has not made it so.
    NobodyWritesTheTable,
    /// The liar has the keys of everybody's receipts.
    GivesTheLiarAllKeys,
}

/// A fault, where and when. Step faults have no time of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// Which host: 1 is the first node, 0 the server.
    pub host: usize,
    /// When, from the start of the simulation.
    pub at: Duration,
    /// What.
    pub fault: Fault,
}

/// All that a simulation depends on.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Draws everything that is not fixed here, such as the size of each block.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// How many streams, each of this many bytes.
    pub streams: u32,
    /// Payload of each stream.
    pub stream_bytes: u64,
    /// Largest block.
    pub block_bytes: u32,
    /// Window of each node.
    pub window_bytes: u64,
    /// Rate of the link to each host, in bytes a second; the first entry is host 1's.
    pub link_rates: Vec<u64>,
    /// Every link's one-way latency.
    pub latency: Duration,
    /// Up to so much later, drawn for each message: connections overtake each other, each by itself keeps its order.
    pub jitter: Duration,
    /// What a line that was idle has saved up and carries at once, in bytes.
    pub line_burst: u64,
    /// A host's rate is that of its port: it holds for what it sends, too.
    pub both_ways: bool,
    /// Each consumer's rate, in bytes a second; the first entry is host 1's.
    pub disk_rates: Vec<u64>,
    /// What each host's processor handles, in bytes a second; the first entry is host 1's.
    pub processor_rates: Vec<u64>,
    /// The golden node's port, in bytes a second.
    pub golden_port: u64,
    /// What the golden node reads, in bytes a second.
    pub golden_rate: u64,
    /// Whether the server heals the chain.
    pub heal: bool,
    /// Lost nodes in a row that retained data bridges.
    pub tolerance: u8,
    /// Whether the server keeps each stream, so that nodes which lost their place go on.
    pub spool: bool,
    /// How often what is kept is lost when a node is to be fed from it, in percent.
    pub spool_fails_percent: u64,
    /// Streams only: no prepare, no go.
    pub generic: bool,
    /// The first stream brings the nodes their tools (`getstage2`): it comes before prepare. Needs two streams.
    pub tools_first: bool,
    /// Whether nodes wait for the staggered release.
    pub hold_release: bool,
    /// Clones become bootable only when the server has judged them.
    pub commits: bool,
    /// The host whose first clone is no good.
    pub twin: Option<usize>,
    /// Nodes wanted; with fewer than `nodes` the rest comes too late.
    pub wanted: usize,
    /// How many rounds there may be.
    pub rounds: u32,
    /// With several rounds: whether machines that were killed or lost power are started again.
    pub restarts: bool,
    /// With several rounds: whether a server that was killed or lost power is started again, with its state directory.
    pub server_restarts: bool,
    /// What is broken on purpose.
    pub sabotage: Option<Sabotage>,
    /// Who lies, if somebody does.
    pub liar: Option<Liar>,
    /// What goes wrong.
    pub faults: Vec<Planned>,
}

impl Scenario {
    /// Nothing goes wrong: `nodes` nodes, two streams.
    #[must_use]
    pub fn quiet(seed: u64, nodes: usize) -> Self {
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
            heal: false,
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
            liar: None,
            faults: Vec::new(),
        }
    }

    /// Anything may go wrong, up to `most_nodes` nodes.
    #[must_use]
    pub fn from_seed(seed: u64, most_nodes: u32) -> Self {
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
        scenario.heal = rng.chance(50);
        scenario.tolerance = rng.pick(&[0, 1, 2, 3]);
        scenario.generic = rng.chance(20);
        scenario.tools_first = rng.chance(40) && !scenario.generic && scenario.streams > 1;
        scenario.hold_release = rng.chance(30);
        scenario.wanted = nodes.saturating_sub(usize::from(rng.chance(10))).max(1);
        let faults = rng.pick(&[0, 0, 1, 1, 1, 2, 3, 1 + nodes / 3]);
        scenario.draw_faults(&mut rng, faults);
        // Drawn last: the others stay what they were.
        scenario.spool = scenario.heal && rng.chance(50);
        scenario.spool_fails_percent = rng.pick(&[0, 0, 0, 20]);
        scenario.rounds = rng.pick(&[1, 1, 2, 3]);
        scenario.restarts = rng.chance(60);
        scenario.server_restarts = rng.chance(60);
        scenario.commits = !scenario.generic && rng.chance(50);
        let twin = rng.count(1, u32_of(nodes)) as usize;
        scenario.twin = Some(twin).filter(|_| scenario.commits && rng.chance(25));
        scenario
    }

    /// Faults anywhere in the run; in some runs all at nearly the same time, on neighbours.
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

    /// About how long the run takes when nothing goes wrong.
    fn expected(&self) -> Duration {
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

    /// From then on nothing goes wrong, and what was noticed late has been noticed. Never, where a step fails each time or a disk stays slow.
    pub(super) fn calm_from(&self) -> Duration {
        let until = |planned: &Planned| match planned.fault {
            Fault::Freeze(time) | Fault::Partition(time) | Fault::DiskStall(time) => planned.at + time,
            Fault::DiskSlows(_) | Fault::LineSlows(_) | Fault::StepFails(_) | Fault::StepHangs(_) => {
                Duration::MAX
            }
            Fault::Kill | Fault::PowerCut | Fault::DiskFails | Fault::Leaves => planned.at,
        };
        let last = self.faults.iter().map(until).max().unwrap_or_default();
        last.saturating_add(SETTLED)
    }

    /// Whether this host is never touched by a fault that may cost it the run.
    #[must_use]
    pub fn is_spared(&self, host: usize) -> bool {
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

    /// Faults that every node must survive: shorter than any silence that costs it the link, or a disk that is slow.
    fn is_harmless(self) -> bool {
        match self {
            Self::DiskStall(_) => true,
            Self::Freeze(time) | Self::Partition(time) => time < Duration::from_millis(500),
            _ => false,
        }
    }
}
