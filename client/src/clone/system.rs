//! The restored tree on its way to a system of its own: the facts for its configuration, and the results that
//! steps leave for later ones. The steps themselves are in [`super::finish`](mod@super::finish) and
//! [`super::configure`].

use ka_postinstall::bootloader::EfiProgram;
use ka_postinstall::chroot::Chroot;
use ka_postinstall::facts::Facts;
use ka_postinstall::modprobe::NeededModules;
use ka_postinstall::names::sweep::Needle;
use ka_postinstall::root::Root;
use ka_report::report::NodeIdentity;

use super::fallback::HiddenFallback;
use super::target::Target;
use crate::beacon;

/// A restored tree that is being configured.
///
/// Fields are dropped in this order: the mounts for the clone's programs lie on top of the clone's own.
#[derive(Debug)]
pub(crate) struct RestoredSystem {
    /// The place where the clone's programs run, once one has to.
    chroot: Option<Chroot>,
    /// The programs that firmware would boot by itself before the clone is finished.
    pub(super) hidden: Option<HiddenFallback>,
    /// The disks and file systems.
    pub(super) target: Target,
    /// The facts from which every change is planned.
    pub(super) facts: Facts,
    /// The modules that this hardware needs.
    pub(super) needed: NeededModules,
    /// The changes to the golden node's files, for the report.
    pub(super) changes: Vec<String>,
    /// The golden node's names, read before the clone gets an identity of its own; its disks' are among the
    /// facts.
    pub(super) golden_names: Vec<Needle>,
    /// The message of the first boot.
    pub(super) beacon: FirstBoot,
    /// The program that the firmware is to start, to be entered in its boot menu last of all.
    pub(super) efi_program: Option<EfiProgram>,
    /// The identity of the clone, once it has its own.
    pub(super) identity: Option<NodeIdentity>,
}

/// The message by which a clone tells the server of its first boot.
#[derive(Debug)]
pub(crate) enum FirstBoot {
    /// No server waits for it, or this clone cannot send it.
    Untold,
    /// The server waits for it, and the clone does not have it yet.
    Wanted(beacon::Facts),
    /// The clone has it, and will send it.
    Left,
}

impl RestoredSystem {
    /// Returns the tree as it was restored. `beacon` is the message of its first boot, if the server waits
    /// for one.
    pub(crate) fn new(target: Target, facts: Facts, beacon: Option<beacon::Facts>) -> Self {
        Self {
            chroot: None,
            hidden: None,
            target,
            facts,
            needed: NeededModules::default(),
            changes: Vec::new(),
            golden_names: Vec::new(),
            beacon: beacon.map_or(FirstBoot::Untold, FirstBoot::Wanted),
            efi_program: None,
            identity: None,
        }
    }

    /// Opens the directory under which the clone is mounted.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open_root(&self) -> anyhow::Result<Root> {
        self.target.plan.open_root()
    }

    /// Makes the place where the clone's programs run, unless it is there.
    ///
    /// # Errors
    /// A mount failed.
    pub(super) fn enter_chroot(&mut self, root: &Root) -> anyhow::Result<()> {
        if self.chroot.is_none() {
            self.chroot = Some(Chroot::enter(root, &self.facts)?);
        }
        Ok(())
    }

    /// Returns the place where the clone's programs run, once it is there.
    pub(super) const fn chroot(&self) -> Option<&Chroot> {
        self.chroot.as_ref()
    }

    /// Unmounts everything.
    ///
    /// # Errors
    /// A mount is still in use.
    pub(super) fn unmount(&mut self) -> anyhow::Result<()> {
        self.target.release_watches();
        if let Some(chroot) = self.chroot.take() {
            chroot.leave()?;
        }
        self.target.unmount()
    }
}
