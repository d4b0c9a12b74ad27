//! The command line of `cargo xtask`.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
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
    /// Two bare machines, from power-on over the network to the login prompt of their own disks, on QEMU
    /// (root)
    Demo(DemoOptions),
    /// Measure the chain and multicast beside a plain stream, a splice relay, mbuffer, udpcast and uftp (root)
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
    /// Make a Debian package and an RPM: programs, manual pages, completions, units, licences
    Package(PackageOptions),
    /// Make an apt and a dnf repository of the packages, signed, for any web server
    Repository(RepositoryOptions),
    /// What the project's CI runs: .ci/run
    Ci,
    /// Make the golden Debian's archive (used by demo)
    #[command(hide = true, name = crate::GOLDEN)]
    Golden(GoldenOptions),
    /// Undo what a process of the lab left behind once standard input ends (used by the lab)
    #[command(hide = true, name = ka_tests::caretaker::COMMAND)]
    TidyUpAfter {
        /// The process
        pid: u32,
    },
    /// The least a TCP chain can cost: one hop with sendfile, splice and tee (used by bench)
    #[command(hide = true)]
    Splice(SpliceOptions),
    /// A stranger's datagrams to a multicast group (used by bench)
    #[command(hide = true)]
    Flood(FloodOptions),
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
    /// Show plain lines instead of the server's view above both machines' screens
    #[arg(long)]
    pub(crate) plain: bool,
    /// Do not install missing packages
    #[arg(long)]
    pub(crate) no_setup: bool,
}

/// Options of the command that makes the golden Debian's archive.
#[derive(Debug, Args)]
pub(crate) struct GoldenOptions {
    /// The small one of demo --disks
    #[arg(long)]
    pub(crate) disks: bool,
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
    /// Only these cases: names as in the first column (`stream-4`, `unshaped-1`, `tree-3`, `multicast-8`), or
    /// their beginnings (`multicast`)
    #[arg(long)]
    pub(crate) only: Vec<String>,
    /// Only these programs: socat, splice, limit, mbuffer, udpcast, uftp, ka
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

/// Options of `cargo xtask package`.
#[derive(Debug, Args)]
pub(crate) struct PackageOptions {
    /// Take ready programs from a directory (by default they are built for users, with the profile dist)
    #[arg(long, value_name = "DIR")]
    pub(crate) programs: Option<PathBuf>,
    /// Write the packages to this directory
    #[arg(long, value_name = "DIR", default_value = "target/package")]
    pub(crate) out: PathBuf,
    /// Number of the package among those of the same version
    #[arg(long, value_name = "NUM", default_value_t = 1)]
    pub(crate) revision: u32,
    /// Compress less: larger packages in a third of the time
    #[arg(long)]
    pub(crate) quick: bool,
    /// Who answers for the packages
    #[arg(
        long,
        value_name = "NAME <MAIL>",
        default_value = "KA developers <ka@packages.invalid>"
    )]
    pub(crate) maintainer: String,
}

/// Options of `cargo xtask repository`.
#[derive(Debug, Args)]
pub(crate) struct RepositoryOptions {
    /// Take the packages out of this directory
    #[arg(long, value_name = "DIR", default_value = "target/package")]
    pub(crate) packages: PathBuf,
    /// Write both repositories to this directory; packages that it has already stay
    #[arg(long, value_name = "DIR", default_value = "target/repository")]
    pub(crate) out: PathBuf,
    /// Secret key that signs (armored, without passphrase); made when there is no such file
    #[arg(long, value_name = "FILE", default_value = "target/package-key.asc")]
    pub(crate) key: PathBuf,
    /// Where clients will find --out, such as `https://packages.example.org/ka` (by default the directory itself)
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
}

/// Options of the flood.
#[derive(Debug, Args)]
pub(crate) struct FloodOptions {
    /// Own address
    pub(crate) from: Ipv4Addr,
    /// Group and port to send to
    pub(crate) group: SocketAddrV4,
    /// Rate on the wire, in bits a second
    pub(crate) bits: u64,
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
