//! stage1, the image that a node boots from the network: the golden node's kernel, and an archive with
//! `ka-client` as `/init` and the drivers of network cards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::kernel::Kernel;
use crate::modules::Modules;
use crate::root::Root;
use crate::tree::Tree;
use crate::{InitrdError, choice, client};

/// Inputs of stage1.
#[derive(Debug, Clone)]
pub struct Stage1Options {
    /// Root directory of the golden node.
    pub root: PathBuf,
    /// Release of the kernel. Without one, the running kernel if `root` is `/`, else the newest that has an
    /// image and modules.
    pub kernel: Option<String>,
    /// The static `ka-client`, from [`crate::find_static_client`].
    pub client: PathBuf,
    /// Network drivers (module names or aliases). Without them, all network drivers.
    pub drivers: Option<Vec<String>>,
}

/// A boot image.
#[derive(Debug, Clone)]
pub struct Stage1 {
    /// Release of the kernel.
    pub release: String,
    /// File of the kernel, to be served unchanged.
    pub kernel: PathBuf,
    /// The image: a compressed archive, padded to a multiple of four bytes, so that [`crate::join_member`]
    /// can follow.
    pub image: Vec<u8>,
    /// Number of modules in the image.
    pub modules: usize,
    /// Memory that the unpacked image takes on a node, in bytes.
    pub unpacked_bytes: u64,
    /// Firmware that drivers name and the golden node does not have: driver → files. Most cards work without
    /// it.
    pub missing_firmware: BTreeMap<String, Vec<String>>,
}

/// Makes stage1. The same files give the same bytes.
///
/// # Errors
/// Fails if there is no such kernel or driver, if the client is not static, or if modules cannot be read.
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

/// Returns the release of the kernel that [`stage1`] would take. Makes no image.
///
/// # Errors
/// Fails if there is no such kernel with its modules below `root`, or if it supports no initrd in a known
/// compression.
pub fn kernel_release(root: &Path, wanted: Option<&str>) -> Result<String, InitrdError> {
    let kernel = Kernel::find(&Root::new(root), wanted)?;
    kernel.compression()?;
    Ok(kernel.release)
}

/// Modules of stage1: network drivers and their dependencies.
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

/// Files and directories that `/init` needs before it has mounted anything.
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
