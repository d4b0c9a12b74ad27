//! The command line of `cargo xtask`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Demo, tests, bench and man pages of KA.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Install the Debian packages of xtask/packages.txt that are missing
    Setup,
    /// Build everything and run every test (root: namespaces and loop disks)
    Test(TestOptions),
    /// Two bare machines, from power-on over the network to the login prompt of their own disks, on QEMU (root)
    Demo(DemoOptions),
    /// Measure the chain beside a plain stream, a splice relay, mbuffer and udpcast (root)
    Bench(BenchOptions),
    /// Clone every golden system of the matrix, boot what boots, and print a table (root)
    Matrix(MatrixOptions),
    /// Build the client that runs in a node's RAM: static, optimized, beside the other binaries
    Static,
    /// Write the man pages of all binaries
    Man {
        /// Where to
        #[arg(long, default_value = "target/man")]
        dir: PathBuf,
    },
    /// What the project's CI runs: .ci/run
    Ci,
    /// Undo what a process of the lab left behind once standard input ends (used by the lab)
    #[command(hide = true, name = ka_tests::caretaker::COMMAND)]
    TidyUpAfter {
        /// The process
        pid: u32,
    },
    /// The least a TCP chain can cost: one hop with sendfile, splice and tee (used by bench)
    #[command(hide = true)]
    Splice(SpliceOptions),
}

/// Options of `cargo xtask test`.
#[derive(Debug, Args)]
pub(crate) struct TestOptions {
    /// Assert that Cargo.lock stays as it is
    #[arg(long)]
    pub(crate) locked: bool,
    /// For cargo test: `-p ka-proto`, a test's name, `-- --nocapture`…
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) rest: Vec<String>,
}

/// Options of `cargo xtask demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// Without machines: a golden Debian onto three disks of different sizes, and every file compared
    #[arg(long)]
    pub(crate) disks: bool,
    /// Do not install missing packages
    #[arg(long)]
    pub(crate) no_setup: bool,
}

/// Options of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    /// Smaller payloads, one run each: minutes instead of an hour, and rougher figures
    #[arg(long)]
    pub(crate) quick: bool,
    /// Runs of which the median counts
    #[arg(long, default_value_t = 3)]
    pub(crate) runs: usize,
    /// Only these cases: names as in the first column (`stream-4`, `unshaped-1`, `tree-3`), or their beginnings
    #[arg(long)]
    pub(crate) only: Vec<String>,
    /// Only these programs: socat, splice, mbuffer, udpcast, ka
    #[arg(long = "peer")]
    pub(crate) peers: Vec<String>,
    /// Write all figures as JSON
    #[arg(long, default_value = "target/bench.json")]
    pub(crate) json: PathBuf,
    /// Do not install missing packages
    #[arg(long)]
    pub(crate) no_setup: bool,
}

/// Options of `cargo xtask matrix`.
#[derive(Debug, Args)]
pub(crate) struct MatrixOptions {
    /// Only the part that runs in CI: no machine is started
    #[arg(long)]
    pub(crate) fast: bool,
    /// Only the cases whose names begin so
    #[arg(long, num_args = 1.., value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// Show the cases, and run none
    #[arg(long)]
    pub(crate) list: bool,
    /// Write the table as JSON too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Do not install missing packages
    #[arg(long)]
    pub(crate) no_setup: bool,
}

/// Options of the splice relay.
#[derive(Debug, Args)]
pub(crate) struct SpliceOptions {
    #[command(subcommand)]
    pub(crate) role: SpliceRole,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SpliceRole {
    /// Send a file
    Send { file: PathBuf, to: SocketAddr },
    /// Receive into a file, and pass on
    Relay {
        port: u16,
        out: PathBuf,
        next: Option<SocketAddr>,
    },
}
