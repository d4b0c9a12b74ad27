//! The cases of the bench.

use serde::Serialize;

/// One MiB in bytes.
const MIB: u64 = 1 << 20;

/// Kernel and stage1 of a generic Debian, in MiB.
const STAGE1_MIB: u64 = 32;

/// Payload of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Kind {
    /// One incompressible file.
    Stream,
    /// A golden tree.
    Tree,
    /// A stage1, fetched by booting machines.
    Boot,
    /// One file, with a fault during the transfer.
    Fault,
    /// One file to one segment: multicast beside the chain and other programs.
    Multicast,
    /// One file to receivers that lose datagrams.
    Loss,
    /// One file, for the processor time of multicast beside that of the chain.
    Processor,
    /// One file to more and more nodes, for the processor time of the golden node.
    Head,
    /// One file by multicast, with a fault during the transfer.
    GroupFault,
    /// One file to two segments behind a line of half the rate.
    Segments,
    /// One file by multicast while a stranger sends forged datagrams to the group.
    Stranger,
}

impl Kind {
    /// True if programs of the case send by multicast.
    pub(crate) const fn uses_groups(self) -> bool {
        !matches!(self, Self::Stream | Self::Tree | Self::Boot | Self::Fault)
    }
}

/// One case of the bench.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Case {
    /// Name, for `--only`.
    pub(crate) name: String,
    /// Payload of the transfer.
    pub(crate) kind: Kind,
    /// Number of nodes.
    pub(crate) nodes: usize,
    /// Rate of every line, in bits per second. `None` means unshaped.
    pub(crate) rate: Option<u64>,
    /// Length of the payload, in bytes. Zero for trees.
    pub(crate) bytes: u64,
    /// Burst of every line's tbf, in bytes. `None` means the lab's own (1 ms, at least 128 KiB).
    pub(crate) burst: Option<u64>,
    /// Number of multicast datagrams of 10 000 that each receiver loses.
    pub(crate) lost_of_10_000: u32,
}

impl Case {
    /// Returns the special conditions of the case, as phrases for the table's heading.
    pub(crate) fn conditions(&self) -> Vec<String> {
        let mut found = Vec::new();
        if let (Some(rate), Kind::Segments) = (self.rate, self.kind) {
            let between = between_segments(rate) / 1_000_000;
            found.push(format!(
                "{between} Mbit/s between two segments, nodes in the worst order"
            ));
        }
        if let Some(burst) = self.burst {
            let effect = if burst < GSO_BYTES {
                "splits the offload's packets into single datagrams"
            } else {
                "leaves the offload's packets whole"
            };
            found.push(format!("tbf burst of {} KiB {effect}", burst >> 10));
        }
        if self.lost_of_10_000 > 0 {
            let percent = f64::from(self.lost_of_10_000) / 100.0;
            found.push(format!(
                "each receiver loses {percent} % of multicast datagrams at random (nft numgen, no seed)"
            ));
        }
        found
    }
}

/// Largest packet of the offload, in bytes: a shorter burst of tbf splits it.
const GSO_BYTES: u64 = 64 << 10;

/// Returns the rate of the line between two segments, for hosts with lines of `rate`, in bits a second.
pub(crate) const fn between_segments(rate: u64) -> u64 {
    rate / 2
}

/// Returns all cases. The rate falls as the number of nodes grows: all nodes share this machine's processors,
/// and the line must be the limit.
pub(crate) fn all(quick: bool) -> Vec<Case> {
    let stream = |nodes: usize, rate: Option<u64>, mib: u64| Case {
        name: format!("{}-{nodes}", if rate.is_some() { "stream" } else { "unshaped" }),
        kind: Kind::Stream,
        nodes,
        rate,
        bytes: mib * MIB / if quick { 4 } else { 1 },
        burst: None,
        lost_of_10_000: 0,
    };
    let tree = |nodes: usize, rate: Option<u64>| Case {
        name: format!("tree-{nodes}{}", if rate.is_some() { "-shaped" } else { "" }),
        kind: Kind::Tree,
        nodes,
        ..stream(nodes, rate, 0)
    };
    let (gbit, mbit_200, mbit_100) = (Some(1_000_000_000), Some(200_000_000), Some(100_000_000));
    let mut cases = vec![
        stream(1, gbit, 1024),
        stream(2, gbit, 1024),
        stream(4, gbit, 1024),
        stream(8, mbit_200, 256),
        stream(16, mbit_200, 256),
        stream(32, mbit_100, 128),
        stream(1, None, 2048),
        stream(4, None, 1024),
        tree(1, None),
        tree(3, None),
        tree(1, gbit),
        tree(3, gbit),
        Case {
            name: "faults".to_owned(),
            kind: Kind::Fault,
            ..stream(8, mbit_200, 256)
        },
        Case {
            name: "pxe-64".to_owned(),
            kind: Kind::Boot,
            ..stream(64, gbit, 64 * STAGE1_MIB)
        },
    ];
    cases.extend(multicast(&stream));
    cases
}

/// Returns the cases of multicast. 16 and 32 nodes get lines of 200 Mbit/s, at which the machine is not the
/// limit for anybody. Losses are single only where the burst splits the offload's packets.
fn multicast(stream: &dyn Fn(usize, Option<u64>, u64) -> Case) -> Vec<Case> {
    let (gbit, mbit_400, mbit_200) = (Some(1_000_000_000), Some(400_000_000), Some(200_000_000));
    let of = |name: &str, kind, case: Case| Case {
        name: format!("multicast-{name}"),
        kind,
        ..case
    };
    let processor = |name: &str, burst, case| Case {
        burst: Some(burst),
        ..of(&format!("cpu-{name}"), Kind::Processor, case)
    };
    let loss = |percent: &str, lost_of_10_000| Case {
        burst: Some(SPLIT),
        lost_of_10_000,
        ..of(&format!("loss-{percent}"), Kind::Loss, stream(8, mbit_200, 256))
    };
    vec![
        of("8", Kind::Multicast, stream(8, gbit, 512)),
        of("16", Kind::Multicast, stream(16, mbit_200, 256)),
        of("32", Kind::Multicast, stream(32, mbit_200, 128)),
        processor("4", WHOLE, stream(4, gbit, 512)),
        processor("8", WHOLE, stream(8, mbit_200, 256)),
        processor("16", WHOLE, stream(16, mbit_200, 256)),
        processor("4-split", SPLIT, stream(4, mbit_200, 256)),
        processor("8-split", SPLIT, stream(8, mbit_200, 256)),
        processor("16-split", SPLIT, stream(16, mbit_200, 128)),
        of("head", Kind::Head, stream(32, mbit_200, 512)),
        of("faults", Kind::GroupFault, stream(8, mbit_200, 256)),
        loss("0.1", 10),
        loss("1", 100),
        of("segments", Kind::Segments, stream(8, mbit_200, 128)),
        of("stranger", Kind::Stranger, stream(8, mbit_400, 512)),
    ]
}

/// Burst of tbf that leaves the offload's packets whole, in bytes.
const WHOLE: u64 = 256 << 10;
/// Burst of tbf that splits the offload's packets, in bytes.
const SPLIT: u64 = 16 << 10;
