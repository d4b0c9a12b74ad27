//! stage1: what a node boots from the network. The golden node's kernel, and an archive with `ka-client` as `/init` and
//! the drivers of network cards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::kernel::Kernel;
use crate::modules::Modules;
use crate::root::Root;
use crate::tree::Tree;
use crate::{InitrdError, choice, client};

/// What to make it of.
#[derive(Debug, Clone)]
pub struct Stage1Options {
    /// The golden node's `/`.
    pub root: PathBuf,
    /// Release of the kernel; without one the newest that has an image and modules.
    pub kernel: Option<String>,
    /// The static `ka-client` ([`crate::find_static_client`]).
    pub client: PathBuf,
    /// Network drivers (module names or aliases); without them all.
    pub drivers: Option<Vec<String>>,
}

/// A boot image.
#[derive(Debug, Clone)]
pub struct Stage1 {
    /// Release of its kernel.
    pub release: String,
    /// The kernel's own file, to be served as it is.
    pub kernel: PathBuf,
    /// The image: a compressed archive, padded to a multiple of four, so that [`crate::join_member`] can follow.
    pub image: Vec<u8>,
    /// Modules in it.
    pub modules: usize,
    /// Bytes it takes of a node's memory once unpacked.
    pub unpacked_bytes: u64,
    /// Firmware that drivers name and the golden node does not have: driver → files. Most cards do without.
    pub missing_firmware: BTreeMap<String, Vec<String>>,
}

/// Makes stage1. The same files give the same bytes.
///
/// # Errors
/// No such kernel or driver, a client that is not static, modules that cannot be read.
pub fn stage1(options: &Stage1Options) -> Result<Stage1, InitrdError> {
    let root = Root::new(&options.root);
    let kernel = Kernel::find(&root, options.kernel.as_deref())?;
    let compression = kernel.compression()?;
    let (init, elf) = client::read(&options.client)?;
    let modules = Modules::load(&root, &kernel)?;
    let drivers = drivers(&modules, options.drivers.as_deref())?;

    let mut tree = skeleton()?;
    tree.file("init", 0o755, init)?;
    let missing_firmware = modules.add(&mut tree, &drivers, Some(elf.machine.1))?;
    modules.add_index(&mut tree, &drivers)?;
    Ok(Stage1 {
        image: compression.pack(&tree.archive()?)?,
        modules: drivers.len(),
        unpacked_bytes: tree.bytes(),
        missing_firmware,
        kernel: kernel.image,
        release: kernel.release,
    })
}

/// The release of the kernel that [`stage1`] would take, found without making anything.
///
/// # Errors
/// There is no such kernel with its modules below `root`, or it takes no initrd that we can write.
pub fn kernel_release(root: &Path, wanted: Option<&str>) -> Result<String, InitrdError> {
    let kernel = Kernel::find(&Root::new(root), wanted)?;
    kernel.compression()?;
    Ok(kernel.release)
}

/// The modules of stage1: network drivers with all they need.
pub(crate) fn drivers(
    modules: &Modules<'_>,
    named: Option<&[String]>,
) -> Result<Vec<ka_kmod::Module>, InitrdError> {
    let names = match named {
        Some(named) => modules.named(named)?,
        None => choice::network(&modules.index, &|module| modules.imports(module)),
    };
    Ok(modules.index.with_all_dependencies(&names))
}

/// What `/init` finds before it has mounted anything.
fn skeleton() -> Result<Tree, InitrdError> {
    let mut tree = Tree::new();
    for name in [
        "dev",
        "proc",
        "sys",
        "run",
        "mnt",
        "etc",
        "usr/lib/firmware",
        "usr/lib/modules",
    ] {
        tree.directory(name, 0o755)?;
    }
    tree.directory("etc/ka", 0o700)?;
    tree.directory("root", 0o700)?;
    tree.directory("tmp", 0o1777)?;
    // The kernel opens it for init's standard input and output, before devtmpfs is mounted.
    tree.char_device("dev/console", 0o600, (5, 1))?;
    tree.char_device("dev/null", 0o666, (1, 3))?;
    Ok(tree)
}
