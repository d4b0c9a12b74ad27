//! A machine and its parts, switched on and off.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::disk::Disk;
use crate::netns::Network;
use crate::process::{Program, Running};
use crate::qemu::accel::Accel;
use crate::qemu::console::{Console, Mark, Watcher};
use crate::qemu::firmware::Firmware;
use crate::qemu::logs;
use crate::scratch::Scratch;

/// Longest time that a machine runs, whatever the result of its test. The waits of a test have limits of
/// their own, which follow the pace of this machine ([`crate::qemu::pace`]).
const MACHINE_LIMIT: Duration = Duration::from_secs(3600);

/// The bus and controller of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// virtio-blk: `/dev/vda`.
    Virtio,
    /// SATA: `/dev/sda`, module `ahci`.
    Ahci,
    /// NVMe: `/dev/nvme0n1`, module `nvme`.
    Nvme,
    /// Parallel ATA of the i440FX board: `/dev/sda`, module `ata_piix`.
    Ide,
    /// LSI 53C895A: `/dev/sda`, module `sym53c8xx`.
    Lsi,
}

/// A network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Card {
    /// The paravirtual card virtio-net.
    Virtio,
    /// Intel 82540EM, module `e1000`.
    E1000,
}

/// The parts of a machine.
#[derive(Debug)]
pub struct Spec {
    /// Name in messages.
    pub name: String,
    /// Firmware that boots it.
    pub firmware: Firmware,
    /// Bus of its disk.
    pub bus: Bus,
    /// Model of its network card.
    pub card: Card,
    /// MAC address of the card.
    pub mac: String,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Number of virtual processors.
    pub processors: u32,
    /// True if a reset switches it off instead, so that its disk can be looked at between two boots.
    pub off_at_reset: bool,
    /// True if the firmware boots from the network before it tries the disk; otherwise it never does.
    pub network_boot: bool,
    /// More options for QEMU.
    pub options: Vec<String>,
}

impl Spec {
    /// Describes a machine of 1 GiB with one processor. Its card's address contains `number`.
    #[must_use]
    pub fn new(name: &str, number: u8, firmware: Firmware, bus: Bus, card: Card) -> Self {
        Self {
            name: name.to_owned(),
            firmware,
            bus,
            card,
            // The prefix is QEMU's own, for guests.
            mac: format!("52:54:00:4b:41:{number:02x}"),
            memory_mib: 1024,
            processors: 1,
            off_at_reset: true,
            network_boot: true,
            options: Vec::new(),
        }
    }
}

/// A machine with its own variables and its own port of the switch; off at first.
#[derive(Debug)]
pub struct Machine {
    spec: Spec,
    tap: String,
    variables: Option<PathBuf>,
}

/// A machine that is on; the power is cut on drop.
#[derive(Debug)]
pub struct Powered {
    /// Serial line of the machine.
    pub console: Console,
    run: Running,
}

impl Machine {
    /// Plugs a machine into the network.
    ///
    /// # Errors
    /// No firmware, or no tun in the kernel.
    pub fn new(scratch: &Scratch, network: &Network, spec: Spec) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let tap = format!("tap{number}");
        network.add_tap(&tap)?;
        let variables = spec
            .firmware
            .variables(scratch, &format!("{}-{number}", spec.name))?;
        Ok(Self { spec, tap, variables })
    }

    /// Returns the machine's parts.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Returns the card's MAC address.
    #[must_use]
    pub fn mac(&self) -> &str {
        &self.spec.mac
    }

    /// Returns the file of the firmware's variables.
    #[must_use]
    pub fn variables(&self) -> Option<&PathBuf> {
        self.variables.as_ref()
    }

    /// Switches the machine on with a disk, to boot from the network first.
    ///
    /// # Errors
    /// QEMU is not there or refuses.
    pub fn power_on(
        &self,
        scratch: &Scratch,
        network: &Network,
        disk: &Disk,
        accel: Accel,
    ) -> Result<Powered> {
        self.power_on_watched(scratch, network, disk, accel, None)
    }

    /// Switches the machine on; `watcher` gets each line of its console.
    ///
    /// # Errors
    /// As [`Machine::power_on`].
    pub fn power_on_watched(
        &self,
        scratch: &Scratch,
        network: &Network,
        disk: &Disk,
        accel: Accel,
        watcher: Option<Watcher>,
    ) -> Result<Powered> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let socket = scratch.path().join(format!("con-{number}"));
        let log = logs::file(&format!("{number}-{}.log", self.spec.name))?;
        disk.checked()?;
        let run = self
            .program(disk, accel)
            .arg("-chardev")
            .arg(format!(
                "socket,id=con,path={},server=on,wait=on,logfile={}",
                socket.display(),
                log.display()
            ))
            .args(["-serial", "chardev:con"])
            .inside(network.switch())
            .limit(MACHINE_LIMIT)
            .tethered()
            .spawn()?;
        let console = Console::connect(&self.spec.name, &socket, watcher);
        match console {
            Ok(console) => Ok(Powered {
                console: console.of_process(run.pid()),
                run,
            }),
            Err(err) => Err(err.context(run.said())),
        }
    }

    fn program(&self, disk: &Disk, accel: Accel) -> Program {
        let spec = &self.spec;
        let board = if spec.bus == Bus::Ide || spec.bus == Bus::Lsi {
            "pc"
        } else {
            "q35"
        };
        let mut program = Program::new("qemu-system-x86_64")
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-name",
                &spec.name,
            ])
            .args(["-machine", board])
            .args(accel.options())
            .args([
                "-m",
                &format!("{}M", spec.memory_mib),
                "-smp",
                &accel.processors(spec.processors),
            ])
            .args(spec.firmware.options(self.variables.as_deref()));
        if spec.off_at_reset {
            program = program.arg("-no-reboot");
        }
        program
            .args(self.card_options())
            .args(disk_options(spec.bus, disk))
            .args(&spec.options)
    }

    fn card_options(&self) -> Vec<String> {
        let model = match self.spec.card {
            Card::Virtio => "virtio-net-pci",
            Card::E1000 => "e1000",
        };
        // OVMF boots from the network by its own drivers then. With iPXE's option ROM before it, shim's
        // second fetch comes back padded and is refused (see docs/firmware-quirks.md).
        let boot = match (self.spec.network_boot, self.spec.firmware.is_uefi()) {
            (false, _) => ",romfile=",
            (true, false) => ",bootindex=1",
            (true, true) => ",bootindex=1,romfile=",
        };
        vec![
            "-netdev".to_owned(),
            format!("tap,id=net,ifname={},script=no,downscript=no", self.tap),
            "-device".to_owned(),
            format!("{model},netdev=net,mac={}{boot}", self.spec.mac),
        ]
    }
}

impl Powered {
    /// Waits for a text on the console; see [`Console::wait_for`].
    ///
    /// # Errors
    /// As there, with QEMU's own messages.
    pub fn wait_for(&self, from: Mark, text: &str, limit: Duration) -> Result<Mark> {
        let found = self.console.wait_for(from, text, limit);
        found.with_context(|| self.complaints())
    }

    /// Waits for the login prompt and logs in; see [`Console::login`].
    ///
    /// # Errors
    /// As there, with QEMU's own messages.
    pub fn login(&self, from: Mark, limit: Duration) -> Result<()> {
        let found = self.console.login(from, limit);
        found.with_context(|| self.complaints())
    }

    /// Waits until the machine is off: it resets or powers off.
    ///
    /// # Errors
    /// It does not within the limit, or QEMU fails.
    pub fn wait_off(mut self, limit: Duration) -> Result<String> {
        let console = &self.console;
        let mut patience = console.patience(limit);
        self.run.wait_until("power off", |_| {
            let text = console.text();
            if let Err(late) = patience.check(text.len()) {
                anyhow::bail!("its end {late}; it says: {text}");
            }
            Ok(console.is_closed())
        })?;
        let text = self.console.text();
        self.run.wait()?.expect(0)?;
        Ok(text)
    }

    /// Cuts the power at once. Data that the machine has written is on its disk, data in its memory is lost.
    ///
    /// # Errors
    /// The machine cannot be killed.
    pub fn cut(self) -> Result<String> {
        let text = self.console.text();
        self.run.kill_alone()?;
        Ok(text)
    }

    /// Returns QEMU's own messages, in one line.
    fn complaints(&self) -> String {
        format!("QEMU says {:?}", self.run.said().trim())
    }
}

fn disk_options(bus: Bus, disk: &Disk) -> Vec<String> {
    // Flushes need not reach the host's disk: after a power cut of the machine the host still has its writes.
    let drive = format!(
        "if=none,id=disk,format=raw,cache=unsafe,file={}",
        disk.file().display()
    );
    let devices: &[&str] = match bus {
        Bus::Virtio => &["virtio-blk-pci,drive=disk,bootindex=2"],
        // The q35 board has an AHCI controller, the pc board a parallel one.
        Bus::Ahci => &["ide-hd,bus=ide.0,drive=disk,bootindex=2"],
        Bus::Ide => &["ide-hd,bus=ide.0,drive=disk,bootindex=2"],
        Bus::Nvme => &["nvme,serial=ka,drive=disk,bootindex=2"],
        Bus::Lsi => &["lsi53c895a,id=lsi", "scsi-hd,bus=lsi.0,drive=disk,bootindex=2"],
    };
    let mut options = vec!["-drive".to_owned(), drive];
    for device in devices {
        options.push("-device".to_owned());
        options.push((*device).to_owned());
    }
    options
}
