//! stage2, the image that a node gets over the chain before it writes to a disk: drivers of disks and file
//! systems, and the golden node's own tools with their libraries.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use crate::compress::Compression;
use crate::kernel::Kernel;
use crate::libraries::{Libraries, place};
use crate::modules::Modules;
use crate::root::{self, Root};
use crate::tools::{TOOLS, ToolSet};
use crate::tree::Tree;
use crate::{InitrdError, choice, stage1};

/// Inputs of stage2.
#[derive(Debug, Clone)]
pub struct Stage2Options {
    /// Root directory of the golden node.
    pub root: PathBuf,
    /// Release of the kernel, the same as for stage1. Without one, it is chosen as for stage1.
    pub kernel: Option<String>,
    /// Network drivers that stage1 was made with. The index files of stage2 replace those of stage1 and name
    /// the modules of both.
    pub drivers: Option<Vec<String>>,
    /// File systems of the clones (`ext4`, `vfat`, `swap`…), whose tools must be present. Tools of other file
    /// systems are added if they are present.
    pub file_systems: Vec<String>,
}

/// Drivers and tools of a node.
#[derive(Debug, Clone)]
pub struct Stage2 {
    /// Release of the kernel that the modules belong to.
    pub release: String,
    /// The image: one archive, compressed by zstd, to be unpacked over the root of stage1.
    pub image: Vec<u8>,
    /// Number of modules in the image.
    pub modules: usize,
    /// Memory that the unpacked image takes on a node, in bytes.
    pub unpacked_bytes: u64,
    /// Firmware that drivers name and the golden node does not have: driver → files.
    pub missing_firmware: BTreeMap<String, Vec<String>>,
    /// Tools left out, with the reason: not installed, or a missing library.
    pub missing_tools: Vec<String>,
}

/// Makes stage2 and returns only the bytes of [`stage2_image`].
///
/// # Errors
/// Fails as [`stage2_image`] does.
pub fn stage2(options: &Stage2Options) -> Result<Vec<u8>, InitrdError> {
    stage2_image(options).map(|made| made.image)
}

/// Makes stage2. The same files give the same bytes.
///
/// # Errors
/// Fails if there is no such kernel or file system, or if a tool that a file system needs is missing, or one
/// of its libraries.
pub fn stage2_image(options: &Stage2Options) -> Result<Stage2, InitrdError> {
    check_names(&options.file_systems)?;
    let root = Root::new(&options.root);
    let kernel = Kernel::find(&root, options.kernel.as_deref())?;
    let modules = Modules::load(&root, &kernel)?;
    let mut tree = Tree::new();

    let missing_tools = add_tools(&mut tree, &root, &options.file_systems)?;
    add_accounts(&mut tree)?;

    let names = choice::storage(&modules.index, &|module| modules.imports(module));
    let chosen = modules.index.with_all_dependencies(&names);
    let missing_firmware = modules.add(&mut tree, &chosen, None)?;
    let have: HashSet<_> = chosen.iter().collect();
    let network = stage1::drivers(&modules, options.drivers.as_deref())?;
    let network = network.iter().filter(|module| !have.contains(module));
    let both: Vec<_> = chosen.iter().chain(network).cloned().collect();
    modules.add_index(&mut tree, &both)?;

    Ok(Stage2 {
        image: Compression::Zstd.pack(&tree.archive()?)?,
        modules: chosen.len(),
        unpacked_bytes: tree.bytes(),
        missing_firmware,
        missing_tools,
        release: kernel.release,
    })
}

fn check_names(file_systems: &[String]) -> Result<(), InitrdError> {
    let known = || TOOLS.iter().flat_map(|set| set.file_systems);
    for name in file_systems {
        if !known().any(|known| known == name) {
            let known: Vec<&str> = known().copied().collect();
            return Err(InitrdError::UnknownFileSystem {
                name: name.clone(),
                known: known.join(", "),
            });
        }
    }
    Ok(())
}

fn add_tools(tree: &mut Tree, root: &Root, file_systems: &[String]) -> Result<Vec<String>, InitrdError> {
    let mut libraries = Libraries::new(root);
    let mut missing = Vec::new();
    for set in &TOOLS {
        let needed_for = needed_for(set, file_systems);
        for name in set.required {
            match (add_tool(tree, root, &mut libraries, name, set), &needed_for) {
                (Ok(()), _) => {}
                (
                    Err(InitrdError::NoTool {
                        program,
                        package,
                        root,
                        ..
                    }),
                    Some(needed_for),
                ) => {
                    return Err(InitrdError::NoTool {
                        needed_for: needed_for.clone(),
                        program,
                        package,
                        root,
                    });
                }
                (Err(err), Some(_)) => return Err(err),
                (Err(err), None) => missing.push(reason(name, set, err)?),
            }
        }
        for name in set.optional {
            if let Err(err) = add_tool(tree, root, &mut libraries, name, set) {
                missing.push(reason(name, set, err)?);
            }
        }
        for file in set.files {
            if let Some(path) = root.find(file) {
                tree.file(file, 0o644, root::read(&path)?)?;
            }
        }
    }
    Ok(missing)
}

/// Purpose that requires a set of tools. `None` if none of the file systems needs it.
fn needed_for(set: &ToolSet, file_systems: &[String]) -> Option<String> {
    if set.file_systems.is_empty() {
        return Some("every node".to_owned());
    }
    let found = file_systems
        .iter()
        .find(|name| set.file_systems.contains(&name.as_str()));
    found.map(|name| format!("file system {name}"))
}

fn add_tool(
    tree: &mut Tree,
    root: &Root,
    libraries: &mut Libraries<'_>,
    name: &str,
    set: &ToolSet,
) -> Result<(), InitrdError> {
    let program = libraries.program(name).ok_or_else(|| InitrdError::NoTool {
        needed_for: String::new(),
        program: name.to_owned(),
        package: set.package.to_owned(),
        root: root.dir().to_owned(),
    })?;
    let files = libraries.closure(&program)?;
    for file in &files {
        place(tree, root, file)?;
    }
    link_into_default_dir(tree, &files)
}

/// Links libraries into the directory of the C library, which every loader searches. The image has no cache
/// of the loader (`ld.so.cache`), so libraries in directories that only `ld.so.conf` names would not be
/// found.
fn link_into_default_dir(tree: &mut Tree, files: &[crate::libraries::Needed]) -> Result<(), InitrdError> {
    let is_libc = |path: &&Path| path.file_name().is_some_and(|name| name == "libc.so.6");
    let mut places = files.iter().map(|file| file.asked.as_path());
    let Some(default) = places.find(is_libc).map(Tree::place) else {
        return Ok(());
    };
    let Some((default, _)) = default.rsplit_once('/') else {
        return Ok(());
    };
    for file in files {
        let asked = Tree::place(&file.asked);
        let Some((dir, name)) = asked.rsplit_once('/') else {
            continue;
        };
        let link = format!("{default}/{name}");
        if name.contains(".so") && dir != default && !tree.has(&link) {
            tree.symlink(&link, &format!("/{}", Tree::place(&file.file)))?;
        }
    }
    Ok(())
}

/// Reason why an optional tool is left out. Other errors are returned.
fn reason(name: &str, set: &ToolSet, err: InitrdError) -> Result<String, InitrdError> {
    match err {
        InitrdError::NoTool { .. } => Ok(format!("{name} ({})", set.package)),
        InitrdError::NoLibrary { library, .. } => Ok(format!("{name} (its {library} is missing)")),
        other => Err(other),
    }
}

/// Adds user names for `ls -l`, the shell's home, and the list of mounts that mkfs.jfs needs.
fn add_accounts(tree: &mut Tree) -> Result<(), InitrdError> {
    tree.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n".to_vec())?;
    tree.file("etc/group", 0o644, b"root:x:0:\n".to_vec())?;
    tree.symlink("etc/mtab", "/proc/self/mounts")
}
