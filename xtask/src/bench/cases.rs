//! What is measured: issue 2 §7, one case for each line of it.

use serde::Serialize;

/// One MiB in bytes.
const MIB: u64 = 1 << 20;

/// Kernel and stage1 of a generic Debian, in MiB.
const STAGE1_MIB: u64 = 32;

/// What travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Kind {
    /// One incompressible file.
    Stream,
    /// A golden tree.
    Tree,
    /// A stage1, fetched by machines that boot.
    Boot,
    /// One file, with something that goes wrong on the way.
    Fault,
}

/// One case.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Case {
    /// Name, for `--only`.
    pub(crate) name: String,
    /// What travels.
    pub(crate) kind: Kind,
    /// How many nodes.
    pub(crate) nodes: usize,
    /// Bits a second of every line; none is as fast as the machine.
    pub(crate) rate: Option<u64>,
    /// Bytes of a stream.
    pub(crate) bytes: u64,
}

/// All cases. Rates fall as nodes grow: all of them share this machine's processors, and the line must be the limit.
pub(crate) fn all(quick: bool) -> Vec<Case> {
    let stream = |nodes: usize, rate: Option<u64>, mib: u64| Case {
        name: format!("{}-{nodes}", if rate.is_some() { "stream" } else { "unshaped" }),
        kind: Kind::Stream,
        nodes,
        rate,
        bytes: mib * MIB / if quick { 4 } else { 1 },
    };
    let tree = |nodes: usize, rate: Option<u64>| Case {
        name: format!("tree-{nodes}{}", if rate.is_some() { "-shaped" } else { "" }),
        kind: Kind::Tree,
        nodes,
        rate,
        bytes: 0,
    };
    let (gbit, mbit_200, mbit_100) = (Some(1_000_000_000), Some(200_000_000), Some(100_000_000));
    vec![
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
            nodes: 64,
            rate: gbit,
            bytes: 64 * STAGE1_MIB * MIB / if quick { 4 } else { 1 },
        },
    ]
}
