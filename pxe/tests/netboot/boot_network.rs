//! A `ka-pxe serve` on the golden side of a small network, and files of known bytes.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ka_lab::netns::{GOLDEN_ADDRESS, Namespace, Network};
use ka_lab::process::{Program, Running};
use ka_lab::scratch::Scratch;

/// Time limit of each program in these tests. A longer run is a hang.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A network and a directory for a test of `ka-pxe`.
pub(crate) struct BootNetwork {
    pub(crate) network: Network,
    pub(crate) scratch: Scratch,
}

impl BootNetwork {
    pub(crate) fn new(label: &str, rate: Option<u64>) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the lab needs root: run `cargo xtask test` as root or with sudo"
        );
        let net = Self {
            scratch: Scratch::new(label)?,
            network: Network::new(1, rate)?,
        };
        let boot = net.boot_files();
        fs::create_dir_all(&boot)?;
        for name in [
            "pxelinux.0",
            "ldlinux.c32",
            "bootx64.efi",
            "grubx64.efi",
            "bootia32.efi",
            "bootaa64.efi",
        ] {
            fs::write(boot.join(name), bytes(name.len() as u64, 60_000))?;
        }
        fs::write(net.path("kernel"), bytes(1, 1_000_000))?;
        fs::write(net.path("initrd"), bytes(2, 3_000_001))?;
        Ok(net)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Directory whose files are served under their names.
    pub(crate) fn boot_files(&self) -> PathBuf {
        self.path("boot")
    }

    /// Writes a file that will be served.
    pub(crate) fn put(&self, name: &str, seed: u64, size: usize) -> Result<Vec<u8>> {
        let content = bytes(seed, size);
        fs::write(self.boot_files().join(name), &content)?;
        Ok(content)
    }

    /// `ka-pxe` on the golden host.
    pub(crate) fn program(&self) -> Program {
        Program::new(env!("CARGO_BIN_EXE_ka-pxe"))
            .inside(self.network.golden())
            .limit(LIMIT)
    }

    /// `ka-pxe serve` with the options that all tests share.
    pub(crate) fn serve_program(&self, args: &[&str]) -> Program {
        self.program()
            .args(["serve", "--iface", "eth0", "--kernel"])
            .arg(self.path("kernel"))
            .arg("--initrd")
            .arg(self.path("initrd"))
            .arg("--boot-files")
            .arg(self.boot_files())
            .arg("--state-dir")
            .arg(self.path("state"))
            .args(args)
    }

    /// Starts a server and waits until it answers.
    pub(crate) fn serve(&self, args: &[&str]) -> Result<Running> {
        let mut server = self.serve_program(args).spawn()?;
        server.wait_for("serving eth0")?;
        Ok(server)
    }

    /// The machine that boots.
    pub(crate) fn node(&self) -> &Namespace {
        self.network.node(1)
    }

    /// A program on the machine that boots.
    pub(crate) fn on_node(&self, program: &str) -> Program {
        Program::new(program).inside(self.node()).limit(LIMIT)
    }

    /// Output of curl for a file by HTTP, with further options of curl.
    pub(crate) fn http(&self, name: &str, options: &[&str]) -> Result<String> {
        let url = format!("http://{GOLDEN_ADDRESS}/{name}");
        self.on_node("curl")
            .args(["-sS", "--path-as-is"])
            .args(options)
            .arg(url)
            .run()
    }

    /// A UDP socket on the machine that boots. It waits three seconds at most.
    pub(crate) fn socket(&self) -> Result<UdpSocket> {
        let socket = self.node().enter(|| UdpSocket::bind("0.0.0.0:0"))??;
        socket.set_read_timeout(Some(Duration::from_secs(3)))?;
        Ok(socket)
    }
}

/// Pseudo-random bytes from a seed.
pub(crate) fn bytes(seed: u64, size: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        bytes.extend(random.next().to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Fails if a file has another content. Does not print the content.
pub(crate) fn expect_file(path: &Path, content: &[u8]) -> Result<()> {
    let found = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    ensure!(
        found == content,
        "{} has {} bytes that are not the {} that were served",
        path.display(),
        found.len(),
        content.len()
    );
    Ok(())
}

/// Random numbers by xorshift64*: the same sequence from the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// True in this percentage of calls.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        (self.next() >> 32) % 100 < percent
    }
}
