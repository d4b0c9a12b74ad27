//! Kernel modules of an image: their files, their index files, and their firmware.

use std::collections::BTreeMap;

use ka_kmod::{Index, Module, ModuleName, read_module};

use crate::elf::ModuleInfo;
use crate::kernel::Kernel;
use crate::root::{self, Root};
use crate::tree::Tree;
use crate::{InitrdError, firmware};

/// The modules of one kernel in a golden root.
pub(crate) struct Modules<'a> {
    pub(crate) root: &'a Root,
    pub(crate) kernel: &'a Kernel,
    pub(crate) index: Index,
}

impl<'a> Modules<'a> {
    pub(crate) fn load(root: &'a Root, kernel: &'a Kernel) -> Result<Self, InitrdError> {
        Ok(Self {
            root,
            kernel,
            index: Index::load(&kernel.modules)?,
        })
    }

    /// Returns the drivers that the operator named. A built-in driver needs no module.
    pub(crate) fn named(&self, drivers: &[String]) -> Result<Vec<ModuleName>, InitrdError> {
        let mut names = Vec::new();
        for driver in drivers {
            let found = self.index.resolve(driver);
            if found.is_empty() && !self.index.knows_builtin(driver) {
                return Err(InitrdError::NoDriver {
                    name: driver.clone(),
                    release: self.kernel.release.clone(),
                });
            }
            names.extend(found);
        }
        Ok(names)
    }

    /// Returns the kernel functions that a module uses. Returns none if the module cannot be read, so that it
    /// is not chosen by them.
    pub(crate) fn imports(&self, module: &Module) -> Vec<String> {
        let path = self.kernel.modules.join(&module.path);
        let info = read_module(&path).map(|bytes| ModuleInfo::parse(&path, &bytes));
        info.ok()
            .and_then(Result::ok)
            .map_or_else(Vec::new, |info| info.imports)
    }

    /// Adds modules to an image, decompressed but otherwise byte for byte, so that a signature at their end
    /// stays valid. Returns missing firmware of the golden node: for each module, the files.
    pub(crate) fn add(
        &self,
        tree: &mut Tree,
        modules: &[Module],
        machine: Option<object::elf::Machine>,
    ) -> Result<BTreeMap<String, Vec<String>>, InitrdError> {
        let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for module in modules {
            let path = self.kernel.modules.join(&module.path);
            let bytes = read_module(&path)?;
            let info = ModuleInfo::parse(&path, &bytes)?;
            if machine.is_some_and(|machine| machine != info.machine) {
                let what = "it is for another processor than ka-client";
                return Err(InitrdError::damaged(&path, what));
            }
            for name in &info.firmware {
                if !firmware::add(tree, self.root, self.kernel, name)? {
                    missing
                        .entry(module.name.to_string())
                        .or_default()
                        .push(name.clone());
                }
            }
            let place = format!("{}/{}", self.place(), Index::plain_path(&module.path));
            tree.file(&place, 0o644, bytes)?;
        }
        Ok(missing)
    }

    /// Adds `modules.dep` and the other index files for these modules, and the lists of built-in modules.
    pub(crate) fn add_index(&self, tree: &mut Tree, modules: &[Module]) -> Result<(), InitrdError> {
        for (name, text) in self.index.subset(modules) {
            tree.file(&format!("{}/{name}", self.place()), 0o644, text.into_bytes())?;
        }
        for name in ["modules.builtin", "modules.builtin.modinfo"] {
            let path = self.kernel.modules.join(name);
            if path.is_file() {
                tree.file(&format!("{}/{name}", self.place()), 0o644, root::read(&path)?)?;
            }
        }
        Ok(())
    }

    fn place(&self) -> String {
        format!("usr/lib/modules/{}", self.kernel.release)
    }
}
