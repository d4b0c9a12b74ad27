//! Choice of drivers for each image, by their place in the kernel's source.
//!
//! stage1 gets the drivers that a machine needs to reach a server over a wire, and those of the buses that
//! cards are on (USB, Hyper-V, virtio). It leaves out wireless, modems, other media (CAN, amateur radio,
//! ARCNET, AppleTalk, FDDI, InfiniBand, WAN), tunnels and virtual interfaces, and drivers of switch chips,
//! from which no node boots. stage2 gets the drivers of disks and their buses, and file systems. Modules from
//! outside the kernel's own tree (`updates/`, `extra/`) are judged by the functions they use.

use ka_kmod::{Index, Module, ModuleName};

/// Rules for one image, as paths below `lib/modules/RELEASE`: paths to take and paths to leave. The longest
/// matching path decides.
struct Choice {
    take: &'static [&'static str],
    leave: &'static [&'static str],
    /// Kernel functions that identify a module from outside the kernel's tree as one of this sort.
    imports: &'static [&'static str],
}

/// Rules for stage1.
const NETWORK: Choice = Choice {
    take: &[
        "kernel/drivers/net/ethernet",
        "kernel/drivers/net/phy",
        "kernel/drivers/net/mdio",
        "kernel/drivers/net/mdio.ko",
        "kernel/drivers/net/mii.ko",
        "kernel/drivers/net/pcs",
        "kernel/drivers/net/sungem_phy.ko",
        "kernel/drivers/net/usb",
        // Virtual machines.
        "kernel/drivers/net/hyperv",
        "kernel/drivers/net/virtio_net.ko",
        "kernel/drivers/net/net_failover.ko",
        "kernel/drivers/net/vmxnet3",
        "kernel/drivers/net/xen-netfront.ko",
        "kernel/drivers/net/fjes",
        "kernel/drivers/net/thunderbolt-net.ko",
        "kernel/drivers/net/thunderbolt",
        // Buses of network cards.
        "kernel/drivers/virtio",
        "kernel/drivers/hv",
        "kernel/drivers/pci/controller",
        "kernel/drivers/usb/host",
        // Raw sockets for DHCP, in kernels that have them as a module.
        "kernel/net/packet",
        // A virtual machine has few other sources of randomness for the keys that it makes early.
        "kernel/drivers/char/hw_random/virtio-rng.ko",
    ],
    leave: &[
        // Switch chips.
        "kernel/drivers/net/ethernet/mellanox/mlxsw",
        "kernel/drivers/net/ethernet/marvell/prestera",
        "kernel/drivers/net/ethernet/mscc",
        // Modems and telephones.
        "kernel/drivers/net/usb/cdc-phonet.ko",
        "kernel/drivers/net/usb/cdc_mbim.ko",
        "kernel/drivers/net/usb/hso.ko",
        "kernel/drivers/net/usb/huawei_cdc_ncm.ko",
        "kernel/drivers/net/usb/ipheth.ko",
        "kernel/drivers/net/usb/kalmia.ko",
        "kernel/drivers/net/usb/lg-vl600.ko",
        "kernel/drivers/net/usb/qmi_wwan.ko",
        "kernel/drivers/net/usb/sierra_net.ko",
        // Drivers that change the size of memory.
        "kernel/drivers/virtio/virtio_balloon.ko",
        "kernel/drivers/virtio/virtio_mem.ko",
        "kernel/drivers/hv/hv_balloon.ko",
    ],
    imports: &[
        "alloc_etherdev_mqs",
        "devm_alloc_etherdev_mqs",
        "usbnet_probe",
        "phy_drivers_register",
    ],
};

/// Rules for stage2.
const STORAGE: Choice = Choice {
    take: &[
        "kernel/drivers/ata",
        "kernel/drivers/scsi",
        "kernel/drivers/message/fusion",
        "kernel/drivers/nvme/host",
        "kernel/drivers/mmc",
        "kernel/drivers/ufs",
        "kernel/drivers/nvdimm",
        "kernel/drivers/md",
        "kernel/drivers/block/virtio_blk.ko",
        "kernel/drivers/block/xen-blkfront.ko",
        "kernel/drivers/block/mtip32xx",
        "kernel/drivers/block/loop.ko",
        "kernel/drivers/block/sx8.ko",
        "kernel/drivers/block/rsxx",
        "kernel/drivers/block/skd_main.ko",
        "kernel/drivers/usb/storage",
        // Buses of disks.
        "kernel/drivers/virtio",
        "kernel/drivers/hv",
        "kernel/drivers/pci/controller",
        "kernel/drivers/usb/host",
        // Keyboards, for the operator's shell.
        "kernel/drivers/hid/hid.ko",
        "kernel/drivers/hid/hid-generic.ko",
        "kernel/drivers/hid/hid-hyperv.ko",
        "kernel/drivers/hid/usbhid",
        "kernel/drivers/input/serio",
        "kernel/drivers/input/keyboard/atkbd.ko",
        // File systems, and modules that they need without naming them as a dependency.
        "kernel/fs/ext2",
        "kernel/fs/ext4",
        "kernel/fs/jbd2",
        "kernel/fs/xfs",
        "kernel/fs/btrfs",
        "kernel/fs/f2fs",
        "kernel/fs/jfs",
        "kernel/fs/reiserfs",
        "kernel/fs/fat",
        "kernel/fs/exfat",
        "kernel/fs/isofs",
        "kernel/fs/squashfs",
        "kernel/fs/overlayfs",
        "kernel/fs/efivarfs",
        "kernel/fs/nls",
        "kernel/fs/unicode",
        "kernel/fs/quota",
        "kernel/fs/configfs",
        "kernel/drivers/firmware/efi",
    ],
    leave: &[
        // Disks in another machine, in memory, or in a card slot.
        "kernel/drivers/nvme/host/nvme-rdma.ko",
        "kernel/drivers/nvme/host/nvme-tcp.ko",
        "kernel/drivers/scsi/scsi_debug.ko",
        "kernel/drivers/scsi/pcmcia",
        "kernel/drivers/ata/pata_pcmcia.ko",
        "kernel/drivers/virtio/virtio_balloon.ko",
        "kernel/drivers/virtio/virtio_mem.ko",
        "kernel/drivers/hv/hv_balloon.ko",
        "kernel/drivers/firmware/efi/test",
    ],
    imports: &[
        "scsi_host_alloc",
        "ata_host_alloc",
        "ata_host_alloc_pinfo",
        "mmc_alloc_host",
        "blk_mq_alloc_tag_set",
        "blk_mq_alloc_disk",
        "__blk_mq_alloc_disk",
        "register_filesystem",
        "nvme_init_ctrl",
    ],
};

/// Algorithms that the running kernel requests by name, without a dependency of any module. `crypto-crc32` is
/// for f2fs: its `softdep … pre: crc32` means the library of that name, which is built in where the algorithm
/// is a module.
const STORAGE_BY_NAME: [&str; 5] = ["crc32c", "crypto-crc32c", "crc32", "crypto-crc32", "xxhash64"];

/// Network drivers of a kernel. `imports` returns the functions that a module from outside the kernel's tree
/// uses.
pub(crate) fn network(index: &Index, imports: &dyn Fn(&Module) -> Vec<String>) -> Vec<ModuleName> {
    NETWORK.of(index, imports)
}

/// Storage drivers and file systems of a kernel. `imports` is as in [`network`].
pub(crate) fn storage(index: &Index, imports: &dyn Fn(&Module) -> Vec<String>) -> Vec<ModuleName> {
    let mut names = STORAGE.of(index, imports);
    names.extend(STORAGE_BY_NAME.iter().flat_map(|word| index.resolve(word)));
    names
}

impl Choice {
    fn of(&self, index: &Index, imports: &dyn Fn(&Module) -> Vec<String>) -> Vec<ModuleName> {
        let chosen = index.modules().iter().filter(|module| {
            if module.path.starts_with("kernel") {
                self.takes(module)
            } else {
                let uses = imports(module);
                uses.iter().any(|import| self.imports.contains(&import.as_str()))
            }
        });
        chosen.map(|module| module.name.clone()).collect()
    }

    fn takes(&self, module: &Module) -> bool {
        let path = Index::plain_path(&module.path);
        let longest = |paths: &[&str]| {
            let fitting = paths
                .iter()
                .filter(|path_above| std::path::Path::new(&path).starts_with(path_above));
            fitting.map(|path_above| path_above.len()).max()
        };
        longest(self.take) > longest(self.leave)
    }
}
