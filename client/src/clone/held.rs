//! A disk that this run holds: locked, checked again before the first write, with partitions that only the
//! kernel knows until the table is written.
//!
//! The run holds the disk, not its name. The open descriptor keeps the kernel from giving its number and name
//! to another disk, and every later use of a name is compared with the descriptor. Until the first write the
//! disk is also claimed (`O_EXCL`), so that no program mounts a part of it between the checks and go.
//!
//! The lock is flock(2) on the whole disk, the one that udev respects
//! (<https://systemd.io/BLOCK_DEVICE_LOCKING>). Without it udev would read the disk again after our first
//! write, find no table, and remove the partitions from under us.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use ka_disk::inventory::Disk;
use ka_disk::layout::PartitionPlan;
use ka_disk::table::{KnownType, Partition, TableKind};
use ka_host::{blkpg, block};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Boot code in sector 0 ends before the disk signature, bytes.
const CODE_LEN: usize = 440;

/// udev holds the lock for the moment of a probe: wait for that, not for another clone run.
const LOCK_TRIES: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// A whole disk, locked by this run until it is dropped.
#[derive(Debug)]
pub(crate) struct HeldDisk {
    path: PathBuf,
    file: File,
    /// The kernel's claim for this run, until partitions of ours will be mounted.
    claim: Option<File>,
    bytes: u64,
    sector_size: u32,
    state: DiskState,
}

/// The state of the disk.
#[derive(Debug)]
enum DiskState {
    /// The disk is as it was found.
    AsFound,
    /// Wiped; the kernel knows the partitions with these numbers, and the disk has no table for them.
    Partitioned { plan: PartitionPlan, numbers: Vec<u32> },
    /// A table from which nothing boots is on the disk, for the boot loader's own tools.
    Provisional {
        plan: PartitionPlan,
        numbers: Vec<u32>,
        loader: Option<Loader>,
    },
    /// The table is on the disk, but the run has not come to its good end.
    Written {
        plan: PartitionPlan,
        numbers: Vec<u32>,
        loader: Option<Loader>,
    },
    /// The clone is complete: nothing is undone any more.
    Finished,
}

/// The parts of a boot loader that lie on a disk outside its files.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Loader {
    /// Its code in sector 0, before the disk signature.
    code: [u8; CODE_LEN],
    /// The rest of it, behind sector 0 or in a partition of its own: offset and content.
    rest: (u64, Vec<u8>),
}

impl HeldDisk {
    /// Takes the disk and makes sure that no program uses it, in any mount namespace. Nothing is written.
    ///
    /// # Errors
    /// In use, read-only, locked by another run, not a block device.
    pub(crate) fn hold(path: &Path) -> anyhow::Result<Self> {
        let opened = OpenOptions::new().read(true).write(true).open(path);
        let file = opened.with_context(|| format!("opening {}", path.display()))?;
        lock(&file, path)?;
        let claim = claim(path)?;
        if !file
            .metadata()
            .is_ok_and(|meta| meta.file_type().is_block_device())
        {
            bail!("{} is not a block device", path.display());
        }
        check_same(&file, &claim, path)?;
        let (bytes, sector_size) = measure(&file, path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            claim: Some(claim),
            bytes,
            sector_size,
            state: DiskState::AsFound,
        })
    }

    /// Takes the disk that was chosen, and no other that has come to its name since.
    ///
    /// # Errors
    /// As [`Self::hold`], or it is another disk now.
    pub(crate) fn hold_chosen(disk: &Disk) -> anyhow::Result<Self> {
        let held = Self::hold(&disk.path)?;
        let seq = block::disk_seq(&held.file);
        let is_same = block::numbers(&held.file).ok() == Some(disk.numbers)
            && (held.bytes, held.sector_size) == (disk.bytes, disk.sector_size)
            && (seq.is_none() || disk.seq.is_none() || seq == disk.seq);
        if !is_same {
            bail!(
                "{} is another disk than the one that was chosen a moment ago: try again",
                disk.path.display()
            );
        }
        Ok(held)
    }

    /// Returns its device node.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes sure that the disk is still the one that was checked, and still unused. Nothing is written.
    ///
    /// # Errors
    /// The disk is another one, or has another size.
    pub(crate) fn recheck(&self) -> anyhow::Result<()> {
        // The holder of the claim knows that no other program uses the disk. Only its name may have moved.
        let named = File::open(&self.path).with_context(|| format!("opening {}", self.path.display()))?;
        check_same(&self.file, &named, &self.path)?;
        let now = measure(&self.file, &self.path)?;
        let before = (self.bytes, self.sector_size);
        if now != before {
            bail!(
                "{} changed since it was checked: {} bytes in sectors of {}, now {} in sectors of {}",
                self.path.display(),
                before.0,
                before.1,
                now.0,
                now.1
            );
        }
        Ok(())
    }

    /// Takes the disk's old partitions from the kernel, wipes it, and gives the kernel the planned ones. The
    /// disk itself stays without a table.
    ///
    /// # Errors
    /// An old partition is in use (nothing was written then), or writing failed.
    pub(crate) fn partition(&mut self, plan: &PartitionPlan) -> anyhow::Result<()> {
        blkpg::del_all(&self.file, &self.path)
            .with_context(|| format!("{} is in use", self.path.display()))?;
        // Nothing is left that could be mounted. From now on the partitions are ours to format and mount.
        self.claim = None;
        // From the first write on there is something to undo.
        self.state = DiskState::Partitioned {
            plan: plan.clone(),
            numbers: Vec::new(),
        };
        plan.wipe(&self.file)
            .with_context(|| format!("wiping {}", self.path.display()))?;
        plan.partitions()
            .iter()
            .try_for_each(|partition| self.add(partition))
    }

    /// Tells the kernel of one planned partition.
    fn add(&mut self, partition: &Partition) -> anyhow::Result<()> {
        let (number, len_bytes) = (partition.number, self.kernel_len(partition));
        blkpg::add(&self.file, number, partition.start_bytes, len_bytes).with_context(|| {
            format!(
                "adding partition {number} of {} to the kernel",
                self.path.display()
            )
        })?;
        if let DiskState::Partitioned { numbers, .. } = &mut self.state {
            numbers.push(number);
        }
        Ok(())
    }

    /// True once a byte of it may have been written.
    pub(crate) fn is_touched(&self) -> bool {
        !matches!(self.state, DiskState::AsFound)
    }

    /// Device node of a partition that the kernel was given, waited for where udev makes it.
    ///
    /// # Errors
    /// A node that does not appear, or that leads to another disk.
    pub(crate) fn node_of(&self, number: u32) -> anyhow::Result<PathBuf> {
        let node = blkpg::node_of(&self.path, number)?;
        let disk =
            block::numbers(&self.file).with_context(|| format!("looking at {}", self.path.display()))?;
        match blkpg::disk_of(&node) {
            Some(found) if found != disk => bail!(
                "{} is a partition of another disk than the one that was taken",
                node.display()
            ),
            _ => Ok(node),
        }
    }

    /// Writes a table with the planned partitions from which nothing boots, for the tools of boot loaders.
    ///
    /// # Errors
    /// Writing or reading back failed, or the disk was not partitioned before.
    pub(crate) fn write_provisional(&mut self) -> anyhow::Result<()> {
        let DiskState::Partitioned { plan, numbers } = std::mem::replace(&mut self.state, DiskState::AsFound)
        else {
            bail!("{} has no partitions to write a table for", self.path.display());
        };
        let provisional = plan.provisional();
        // Also after an error: some of the table may be there.
        self.state = DiskState::Provisional {
            plan,
            numbers,
            loader: None,
        };
        provisional
            .write(&self.file, None)
            .and_then(|()| provisional.verify(&self.file))
            .with_context(|| format!("writing a provisional partition table to {}", self.path.display()))
    }

    /// Takes the code that a boot loader has put into sector 0 off the disk until the table is written, so
    /// that nothing boots from it before. If the loader's tool leaves that to us, the code is `code`.
    ///
    /// # Errors
    /// There is no code, or no provisional table.
    pub(crate) fn withdraw_boot_code(&mut self, code: Option<&[u8]>) -> anyhow::Result<()> {
        let path = self.path.display().to_string();
        let DiskState::Provisional { plan, loader, .. } = &mut self.state else {
            bail!("{path} has no provisional table that a boot loader could be installed beside");
        };
        let found = Loader::read(&self.file, plan, code).with_context(|| format!("reading {path}"))?;
        if found.code.iter().all(|byte| *byte == 0) {
            bail!("the boot loader's tool has put no boot code on {path}");
        }
        *loader = Some(found);
        let cleared = self.file.write_all_at(&[0; CODE_LEN], 0);
        cleared
            .and_then(|()| self.file.sync_all())
            .with_context(|| format!("clearing the boot code of {path}"))
    }

    /// Takes the provisional table off the disk again, if there is one. The clone is complete, but must not
    /// boot before [`Self::write_table`], even after a power cut or by firmware that looks into every file
    /// system.
    ///
    /// # Errors
    /// Writing failed.
    pub(crate) fn withdraw_table(&self) -> anyhow::Result<()> {
        let DiskState::Provisional { plan, .. } = &self.state else {
            return Ok(());
        };
        let path = self.path.display();
        block::flush(&self.file).with_context(|| format!("flushing {path}"))?;
        plan.withdraw(&self.file)
            .with_context(|| format!("taking the provisional partition table off {path}"))
    }

    /// Writes the table, sector 0 last, with `boot_code`, else with the code that was withdrawn before. From
    /// here on the disk looks finished, until it is dropped without [`Self::finish`].
    ///
    /// # Errors
    /// Writing failed, or the disk was not partitioned before.
    pub(crate) fn write_table(&mut self, boot_code: Option<&[u8; 446]>) -> anyhow::Result<()> {
        let (plan, numbers, mut loader) = match std::mem::replace(&mut self.state, DiskState::AsFound) {
            DiskState::Partitioned { plan, numbers } => (plan, numbers, None),
            DiskState::Provisional {
                plan,
                numbers,
                loader,
            } => (plan, numbers, loader),
            _ => bail!("{} has no partitions to write a table for", self.path.display()),
        };
        let mut code = [0; 446];
        if let Some(loader) = &mut loader {
            if let Some(given) = boot_code {
                loader.code.copy_from_slice(&given[..CODE_LEN]);
            }
            code[..CODE_LEN].copy_from_slice(&loader.code);
        }
        let code = if loader.is_some() { Some(&code) } else { boot_code };
        let written = plan.write(&self.file, code);
        // Also after an error: some of the table may be there.
        self.state = DiskState::Written {
            plan,
            numbers,
            loader,
        };
        written.with_context(|| format!("writing partition table to {}", self.path.display()))
    }

    /// Reads the table back from the disk itself, not from the cache, and compares it with the plan. Also
    /// compares the boot loader's data on the disk with the original.
    ///
    /// # Errors
    /// The first difference.
    pub(crate) fn verify_table(&self) -> anyhow::Result<()> {
        let DiskState::Written { plan, loader, .. } = &self.state else {
            bail!("{} has no new table to verify", self.path.display());
        };
        let doing = || format!("verifying {}", self.path.display());
        block::flush(&self.file).with_context(|| format!("flushing {}", self.path.display()))?;
        plan.verify(&self.file).with_context(doing)?;
        if let Some(expected) = loader {
            let found = Loader::read(&self.file, plan, None).with_context(doing)?;
            if found != *expected {
                bail!(
                    "the boot loader on {} is not what was installed: the disk has changed it",
                    self.path.display()
                );
            }
        }
        Ok(())
    }

    /// Marks the clone as complete. The contents of the disk stay, and the kernel knows the same partitions.
    pub(crate) fn finish(&mut self) {
        self.state = DiskState::Finished;
    }

    /// Length under which the kernel gets a partition: for an extended one only its first KiB or sector, as
    /// the kernel's own parser does (`block/partitions/msdos.c`); its logical partitions lie in the rest.
    fn kernel_len(&self, partition: &Partition) -> u64 {
        if partition.kind.is_extended() {
            return u64::from(self.sector_size).max(1024).min(partition.len_bytes);
        }
        partition.len_bytes
    }
}

impl Loader {
    /// Returns the loader on the disk now; `code` replaces the code in sector 0.
    fn read(disk: &File, plan: &PartitionPlan, code: Option<&[u8]>) -> anyhow::Result<Self> {
        block::flush(disk).context("dropping the cached copy")?;
        let mut found = [0; CODE_LEN];
        match code {
            Some(code) => found
                .get_mut(..code.len())
                .context("boot code of more than 440 bytes")?
                .copy_from_slice(code),
            None => disk.read_exact_at(&mut found, 0).context("reading sector 0")?,
        }
        let (start, end) = embedding_area(plan);
        let mut rest = vec![0; usize::try_from(end - start)?];
        disk.read_exact_at(&mut rest, start)
            .context("reading what lies behind sector 0")?;
        Ok(Self {
            code: found,
            rest: (start, rest),
        })
    }
}

/// Returns the area for the part of a BIOS boot loader that does not fit into sector 0: a GPT's bios
/// partition, or the gap before the first partition of an MBR. At most a MiB of it; a core image is a tenth
/// of that.
fn embedding_area(plan: &PartitionPlan) -> (u64, u64) {
    const MIB: u64 = 1 << 20;
    let is_bios = |partition: &&Partition| partition.kind.known() == Some(KnownType::Bios);
    if let Some(bios) = plan.partitions().iter().find(is_bios) {
        return (bios.start_bytes, bios.end_bytes().min(bios.start_bytes + MIB));
    }
    if plan.table.kind == TableKind::Gpt {
        return (0, 0);
    }
    let start = u64::from(plan.table.sector_size);
    let first = plan
        .partitions()
        .iter()
        .map(|partition| partition.start_bytes)
        .min();
    (start, first.unwrap_or(start).clamp(start, MIB))
}

impl Drop for HeldDisk {
    /// A run that did not come to its good end leaves no table, and no partitions in the kernel.
    fn drop(&mut self) {
        for error in self.undo() {
            tracing::error!("{error:#}");
        }
    }
}

impl HeldDisk {
    /// Takes the table off the disk, and its partitions from the kernel. Returns what is left. Of a disk that
    /// the machine has lost, nothing is.
    fn undo(&self) -> Vec<anyhow::Error> {
        let mut failed = Vec::new();
        let numbers = match &self.state {
            DiskState::AsFound | DiskState::Finished => return failed,
            DiskState::Partitioned { numbers, .. } => numbers,
            DiskState::Provisional { plan, numbers, .. } | DiskState::Written { plan, numbers, .. } => {
                let wiped = plan.wipe(&self.file).map_err(anyhow::Error::from);
                failed.extend(wiped.err().map(|error| {
                    error.context(format!(
                        "wiping the table of an incomplete clone from {}",
                        self.path.display()
                    ))
                }));
                numbers
            }
        };
        for &number in numbers {
            match blkpg::del(&self.file, number) {
                // There is no such partition, or no such disk any more.
                Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {}
                Err(error) => failed.push(anyhow::Error::from(error).context(format!(
                    "taking partition {number} of {} from the kernel",
                    self.path.display()
                ))),
                Ok(()) => {}
            }
        }
        if block::is_gone(&self.file) {
            failed.clear();
        }
        failed
    }
}

/// The kernel refuses an exclusive opener while the disk or a partition of it is mounted (anywhere), swap, or
/// held by device mapper, md or another exclusive opener.
fn claim(path: &Path) -> anyhow::Result<File> {
    match block::open_exclusive(path) {
        Ok(file) => Ok(file),
        Err(error) if error.source.kind() == io::ErrorKind::ResourceBusy => bail!(
            "{} is in use (mounted, swap, or part of RAID or LVM); free it, or choose another disk with --disk",
            path.display()
        ),
        Err(error) => Err(error.into()),
    }
}

/// Makes sure that a name still leads to the device that is held.
fn check_same(held: &File, named: &File, path: &Path) -> anyhow::Result<()> {
    let numbers =
        |file: &File| block::numbers(file).with_context(|| format!("looking at {}", path.display()));
    if numbers(held)? == numbers(named)? {
        return Ok(());
    }
    bail!("{} is the name of another disk now: try again", path.display())
}

/// Size of the disk and of its logical sectors, in bytes.
fn measure(file: &File, path: &Path) -> anyhow::Result<(u64, u32)> {
    let measured = block::size_bytes(file).and_then(|bytes| Ok((bytes, block::sector_size(file)?)));
    measured.with_context(|| format!("measuring {}", path.display()))
}

fn lock(file: &File, path: &Path) -> anyhow::Result<()> {
    for _ in 0..LOCK_TRIES {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) => thread::sleep(LOCK_PAUSE),
            Err(errno) => return Err(errno).with_context(|| format!("locking {}", path.display())),
        }
    }
    bail!(
        "{} is locked by another program (another ka-client?); choose another disk with --disk",
        path.display()
    )
}

#[cfg(test)]
#[path = "held_tests.rs"]
mod tests;
