//! The tree cases: a golden tree to N nodes, KA beside `tar | mbuffer chain | tar -x`, on the same links and
//! disks.
//!
//! All end with everything on disk and unmounted. KA partitions and makes file systems inside its clock,
//! compares digests and reports. So tar runs twice. The first run has the same work inside its clock, as an
//! operator's script would do it on every node at the same time (sfdisk, mkfs, mount, restore, unmount).
//! The second run has disks that were made before. Every copy is compared with the golden tree.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use ka_tests::cgroup::Cgroup;
use ka_tests::compare::{self, Allowed};
use ka_tests::disk::{Disk, GIB, MIB};
use ka_tests::golden::{Golden, MountedTree, Plan, Volume};
use ka_tests::netns::{GOLDEN_ADDRESS, Network, node_address};
use ka_tests::process::Program;
use ka_tests::scratch::Scratch;

use crate::bench::cases::Case;
use crate::bench::measure::{MEMORY, ensure_room, transfer};
use crate::bench::median;
use crate::bench::peers::{
    Job, KA_PORT, LIKE_TAR, MBUFFER, Peer, Prepared, RELAY_PORT, Transport, sent_by, wait_connections,
};
use crate::bench::report::Outcome;
use crate::cli::BenchOptions;

/// Least number of files in the golden tree.
const FILES: u64 = 50_000;
/// Largest directory taken, in bytes. A larger one is a huge package, not a tree of small files.
const MAX_DIR_BYTES: u64 = 250 * MIB;
/// Size of every disk, in bytes.
const DISK_BYTES: u64 = 4 * GIB;
/// Directories of this machine that have real trees.
const PLACES: [&str; 4] = ["/usr/share", "/usr/include", "/usr/lib", "/usr/src"];

/// The golden tree of all tree cases, on a disk in memory.
pub(crate) struct GoldenTree {
    golden: Golden,
    /// Dropped last, because it holds the disk's file.
    scratch: Scratch,
    bytes: u64,
}

struct Bed<'a> {
    case: &'a Case,
    tree: &'a GoldenTree,
    network: Network,
    release: &'a Path,
}

impl GoldenTree {
    /// Gathers the tree from this machine's own files.
    pub(crate) fn new() -> Result<Self> {
        let scratch = Scratch::below(Path::new(MEMORY), "tree")?;
        ensure_room(scratch.path(), 2 * DISK_BYTES)?;
        let golden = Golden::new(&scratch, "golden", &plan()).context("making the golden tree")?;
        fs::create_dir_all(golden.root().join("etc"))?;
        fs::write(golden.root().join("etc/fstab"), golden.fstab())?;
        let (files, bytes) = gather(golden.root())?;
        ensure!(
            files >= FILES,
            "only {files} files in {PLACES:?}: the tree bench needs {FILES}"
        );
        println!(
            "\ngolden tree: {files} files, {} MiB, from {}",
            bytes >> 20,
            PLACES.join(", ")
        );
        Ok(Self {
            golden,
            scratch,
            bytes,
        })
    }
}

/// Runs every program `runs` times, in turns. Returns the median of each.
pub(crate) fn tree_case(
    case: &Case,
    tree: &GoldenTree,
    release: &Path,
    options: &BenchOptions,
) -> Result<Vec<Outcome>> {
    ensure_room(tree.scratch.path(), case.nodes as u64 * 2 * tree.bytes)?;
    let network = Network::new(case.nodes, case.rate)?;
    let bed = Bed {
        case,
        tree,
        network,
        release,
    };
    let peers: Vec<Peer> = Peer::available(&options.peers)
        .into_iter()
        .filter(|peer| peer.has_row_in(case.kind))
        .collect();
    let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); peers.len()];
    for round in 0..options.rounds() {
        for (peer, outcomes) in peers.iter().zip(&mut outcomes) {
            let outcome = bed
                .run(*peer)
                .with_context(|| format!("{}: {}", case.name, peer.name()))?;
            eprintln!("  {} round {}: {outcome}", case.name, round + 1);
            outcomes.push(outcome);
        }
    }
    Ok(outcomes.into_iter().filter_map(median).collect())
}

impl Bed<'_> {
    fn run(&self, peer: Peer) -> Result<Outcome> {
        let (sender, receivers) = (Cgroup::new("send")?, Cgroup::new("receive")?);
        let disks = (1..=self.case.nodes)
            .map(|number| Disk::new(&self.tree.scratch, &format!("n{number}"), DISK_BYTES, 512))
            .collect::<Result<Vec<_>>>()?;
        let job = Job {
            network: &self.network,
            sender: &sender,
            receivers: &receivers,
            release: self.release,
            work: self.tree.scratch.path(),
            source: self.tree.golden.root().to_owned(),
            rate: self.case.rate,
            sinks: disks.iter().map(|disk| disk.device().to_owned()).collect(),
        };
        let mut outcome = match peer {
            Peer::Ka => transfer(&job, self.ours(&job, &[])?)?,
            Peer::KaLikeTar => transfer(&job, self.ours(&job, &LIKE_TAR)?)?,
            _ => self.with_tar(&job, &disks, peer == Peer::MbufferReady)?,
        };
        for (index, disk) in disks.iter().enumerate() {
            self.compare(disk, peer)
                .with_context(|| format!("node {}", index + 1))?;
        }
        outcome.peer = peer.name().to_owned();
        outcome.goodput = self.tree.bytes as f64 / outcome.wall_seconds;
        outcome.cpu_per_gib_hop =
            outcome.cpu_seconds / (self.tree.bytes as f64 / f64::from(1 << 30)) / self.case.nodes as f64;
        Ok(outcome)
    }

    fn ours(&self, job: &Job<'_>, args: &[&str]) -> Result<Prepared> {
        let root = self.tree.golden.root().to_string_lossy().into_owned();
        let (server, join) = job.ka_server(
            Transport::Chain,
            &[&["-r", "none", "--root", &root], args].concat(),
        )?;
        let drive = self.tree.golden.disk().name();
        let node = |number: usize| {
            job.on_node(number, self.release.join("ka-client"))
                .args(["-h", GOLDEN_ADDRESS, "-s", "bench", "--no-reboot", "--join-file"])
                .arg(&join)
                .arg("--disk")
                .arg(format!("{drive}={}", job.sinks[number - 1].display()))
                .arg("--mount-dir")
                .arg(self.tree.scratch.path().join(format!("mnt{number}")))
        };
        let receivers = (1..job.nodes())
            .map(|number| node(number).spawn())
            .collect::<Result<Vec<_>>>()?;
        wait_connections(&server, KA_PORT, job.nodes() - 1)?;
        Ok(Prepared {
            receivers,
            senders: vec![server],
            last: node(job.nodes()),
            last_receives: true,
        })
    }

    /// Runs tar over a chain of mbuffers. Unmounting, which writes everything out, is inside the clock, as
    /// for KA. Unless the disks are `ready`, each node also makes its own disk when the run begins, while its
    /// mbuffer receives the first part of the stream.
    fn with_tar(&self, job: &Job<'_>, disks: &[Disk], ready: bool) -> Result<Outcome> {
        let scratch = &self.tree.scratch;
        let words = MBUFFER.join(" ");
        let starts: Vec<PathBuf> = (1..=disks.len())
            .map(|number| scratch.path().join(format!("start{number}")))
            .collect();
        for (disk, start) in disks.iter().zip(&starts) {
            let _ = fs::remove_file(start);
            Program::new("mkfifo").arg(start).run()?;
            if ready {
                Program::new("sh").args(["-c", &make_disk(disk)?]).run()?;
            }
        }
        let receivers = job.chain_from_the_end(|number, next| {
            let onward = next.map(|next| format!("-O {next}")).unwrap_or_default();
            let to = scratch.dir(&format!("tar{number}"))?.display().to_string();
            let disk = &disks[number - 1];
            let make = if ready { ":".to_owned() } else { make_disk(disk)? };
            let restore = format!(
                "read begin < {start} && {make} && mount {device} {to} && \
                 {{ tar -C {to} -xpf -; ended=$?; umount {to}; exit $ended; }}",
                start = starts[number - 1].display(),
                device = disk.partition(1).display(),
            );
            let line = format!("mbuffer {words} -I {RELAY_PORT} {onward} -o - | {{ {restore}; }}");
            Ok(job.on_node(number, "sh").args(["-c", &line]))
        })?;
        let from = self.tree.golden.root().display();
        let to = format!("{}:{RELAY_PORT}", node_address(1));
        let begin: String = starts
            .iter()
            .map(|start| format!("echo > {}; ", start.display()))
            .collect();
        let line =
            format!("{begin} tar -C {from} --one-file-system --sparse -cf - . | mbuffer {words} -O {to}");
        transfer(job, sent_by(job.on_golden("sh").args(["-c", &line]), receivers))
    }

    fn compare(&self, disk: &Disk, peer: Peer) -> Result<()> {
        disk.show_partitions()?;
        let clone = MountedTree::new(disk, &plan().volumes, &self.tree.scratch.dir("compared")?)?;
        // Plain tar keeps neither nanoseconds nor flags.
        let loses = matches!(peer, Peer::Mbuffer | Peer::MbufferReady);
        let allowed = Allowed {
            whole_seconds: loses,
            other_filesystem: loses,
            ..Allowed::for_system()
        };
        compare::trees(self.tree.golden.root(), clone.root(), &allowed)?
            .expect_same()
            .map(drop)
    }
}

const TABLE: &str = "label: dos\ntype=83\n";

/// Shell command that partitions and formats an empty disk, as an operator's script would. partx replaces the
/// kernel's own reading of a new table, which it does not do here ([`Disk::show_partitions`]).
fn make_disk(disk: &Disk) -> Result<String> {
    let (device, partition) = (disk.checked()?.display(), disk.partition(1));
    let (table, partition) = (TABLE.trim_end().replace('\n', "\\n"), partition.display());
    Ok(format!(
        "printf '{table}\\n' | sfdisk --quiet --no-reread --no-tell-kernel {device} && partx --update --nr 1 {device} && \
         while ! [ -b {partition} ]; do sleep 0.01; done && mkfs.ext4 -qF {partition}"
    ))
}

fn plan() -> Plan {
    Plan {
        size: DISK_BYTES,
        sector_size: 512,
        table: TABLE,
        volumes: vec![Volume::new(1, "ext4", "/")],
        foreign_fstab: "",
    }
}

/// Copies directories of this machine until there are enough files. Returns the numbers of files and of
/// bytes.
fn gather(root: &Path) -> Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for place in PLACES {
        let Ok(entries) = fs::read_dir(place) else {
            continue;
        };
        let mut dirs: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .collect();
        dirs.sort();
        for dir in dirs {
            if files >= FILES {
                return Ok((files, bytes));
            }
            let sizes = Program::new("find")
                .arg(&dir)
                .args(["-xdev", "-type", "f", "-printf", "%s\\n"])
                .run()?;
            let sum: u64 = sizes.lines().filter_map(|line| line.parse::<u64>().ok()).sum();
            if sum <= MAX_DIR_BYTES && !dir.is_symlink() {
                let to = root.join(place.trim_start_matches('/'));
                fs::create_dir_all(&to)?;
                Program::new("cp")
                    .args(["-a", "--one-file-system"])
                    .arg(&dir)
                    .arg(&to)
                    .run()?;
                files += sizes.lines().count() as u64;
                bytes += sum;
            }
        }
    }
    Ok((files, bytes))
}
