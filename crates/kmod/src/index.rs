//! Index of the modules of one kernel, as depmod(8) writes it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::parse::Text;
use crate::{KmodError, ModuleName, closure, matches};

/// A module and the path of its file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Module {
    /// Name of the module.
    pub name: ModuleName,
    /// Path of its file, relative to `lib/modules/RELEASE`.
    pub path: PathBuf,
}

#[derive(Debug, Default)]
pub(crate) struct Soft {
    pub(crate) pre: Vec<String>,
    pub(crate) post: Vec<String>,
}

/// The modules of one kernel. The index files are read once.
#[derive(Debug)]
pub struct Index {
    pub(crate) dir: PathBuf,
    /// Modules in the order of `modules.order`, then of `modules.dep`.
    pub(crate) modules: Vec<Module>,
    /// Hard dependencies of each module, as positions in `modules`. The nearest is first, as depmod writes
    /// them.
    pub(crate) needs: Vec<Vec<usize>>,
    pub(crate) by_name: HashMap<ModuleName, usize>,
    pub(crate) aliases: Vec<(String, ModuleName)>,
    pub(crate) soft: HashMap<ModuleName, Soft>,
    pub(crate) weak: HashMap<ModuleName, Vec<String>>,
    builtin: HashSet<ModuleName>,
    builtin_aliases: Vec<(String, ModuleName)>,
    builtin_firmware: Vec<(ModuleName, String)>,
}

impl Index {
    /// Reads the index files of `…/lib/modules/RELEASE`. `modules.dep` and `modules.alias` must exist. The
    /// others (`.softdep`, `.weakdep`, `.builtin`, `.builtin.modinfo`, `.order`) may be missing, as with
    /// older kernels.
    ///
    /// # Errors
    /// Fails if a file cannot be read, or if a line is invalid. The error names file and line.
    pub fn load(dir: &Path) -> Result<Self, KmodError> {
        let mut index = Self {
            dir: dir.to_owned(),
            modules: Vec::new(),
            needs: Vec::new(),
            by_name: HashMap::new(),
            aliases: Text::required(dir.join("modules.alias"))?.aliases()?,
            soft: HashMap::new(),
            weak: HashMap::new(),
            builtin: HashSet::new(),
            builtin_aliases: Vec::new(),
            builtin_firmware: Vec::new(),
        };
        index.load_modules()?;
        index.load_soft()?;
        index.load_builtin()?;
        Ok(index)
    }

    /// The directory that the index was read from.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All modules that have a file, in the order of `modules.order`.
    #[must_use]
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// Finds a module by its name, in either spelling. Returns `None` if there is no file; the module may be
    /// built in.
    #[must_use]
    pub fn module(&self, name: &ModuleName) -> Option<&Module> {
        self.by_name.get(name).map(|at| &self.modules[*at])
    }

    /// Returns the modules for the modalias of a device, or for an alias that the kernel requests: all
    /// matches of `modules.alias`, each once, in the file's order. Built-in modules are left out, because
    /// they need no loading.
    #[must_use]
    pub fn for_modalias(&self, modalias: &str) -> Vec<ModuleName> {
        let mut found: Vec<ModuleName> = Vec::new();
        for (pattern, module) in &self.aliases {
            if matches(pattern, modalias) && self.by_name.contains_key(module) && !found.contains(module) {
                found.push(module.clone());
            }
        }
        found
    }

    /// Resolves a word as modprobe does: to the module of that name, else to those with that alias. Returns
    /// an empty list if the word is built in or unknown.
    #[must_use]
    pub fn resolve(&self, word: &str) -> Vec<ModuleName> {
        let name = ModuleName::new(word);
        if self.by_name.contains_key(&name) {
            return vec![name];
        }
        if self.knows_builtin(word) {
            return Vec::new();
        }
        self.for_modalias(word)
    }

    /// True if the word is the name or alias of a built-in module.
    #[must_use]
    pub fn knows_builtin(&self, word: &str) -> bool {
        self.builtin.contains(&ModuleName::new(word))
            || self
                .builtin_aliases
                .iter()
                .any(|(pattern, _)| matches(pattern, word))
    }

    /// Returns the modules whose files are at or below one of these paths (`kernel/drivers/net`), in order.
    #[must_use]
    pub fn below(&self, prefixes: &[&str]) -> Vec<ModuleName> {
        let lies_below = |module: &&Module| prefixes.iter().any(|prefix| module.path.starts_with(prefix));
        self.modules
            .iter()
            .filter(lies_below)
            .map(|module| module.name.clone())
            .collect()
    }

    /// Returns these modules and all their dependencies, in loading order. Hard dependencies come first. Soft
    /// dependencies come before (`pre`) and after (`post`), as far as the hard ones allow. Names without a
    /// file (built in, unknown) are left out.
    #[must_use]
    pub fn with_dependencies(&self, names: &[ModuleName]) -> Vec<Module> {
        let order = closure::load_order(self, names);
        order.into_iter().map(|at| self.modules[at].clone()).collect()
    }

    /// Returns these modules and all their dependencies for an image. In contrast to
    /// [`Self::with_dependencies`] it includes the modules that they may request at run time
    /// (`modules.weakdep`).
    #[must_use]
    pub fn with_all_dependencies(&self, names: &[ModuleName]) -> Vec<Module> {
        let mut names = names.to_vec();
        loop {
            let order = self.with_dependencies(&names);
            let weak = order.iter().filter_map(|module| self.weak.get(&module.name));
            let weak: Vec<ModuleName> = weak.flatten().flat_map(|word| self.resolve(word)).collect();
            let have: HashSet<&ModuleName> = order.iter().map(|module| &module.name).collect();
            let more: Vec<ModuleName> = weak.into_iter().filter(|name| !have.contains(name)).collect();
            if more.is_empty() {
                return order;
            }
            names.extend(more);
        }
    }

    /// Firmware that these built-in drivers may request.
    #[must_use]
    pub fn builtin_firmware(&self, names: &HashSet<ModuleName>) -> Vec<&str> {
        let firmware = self.builtin_firmware.iter();
        firmware
            .filter(|(module, _)| names.contains(module))
            .map(|(_, file)| file.as_str())
            .collect()
    }

    fn load_modules(&mut self) -> Result<(), KmodError> {
        let text = Text::required(self.dir.join("modules.dep"))?;
        let mut lines = text.dependencies()?;
        let order: HashMap<ModuleName, usize> = match Text::read(self.dir.join("modules.order"))? {
            None => HashMap::new(),
            Some(text) => {
                let names = text.paths()?.into_iter().map(|(_, name)| name);
                names.enumerate().map(|(at, name)| (name, at)).collect()
            }
        };
        lines.sort_by_key(|line| order.get(&line.name).copied().unwrap_or(usize::MAX));
        let by_path: HashMap<&str, usize> = lines
            .iter()
            .enumerate()
            .map(|(at, line)| (line.path.as_str(), at))
            .collect();
        for (at, line) in lines.iter().enumerate() {
            let needs = line.needs.iter().map(|need| {
                let found = by_path.get(need.as_str()).copied();
                found.ok_or_else(|| text.error(line.line, format!("{need} has no line of its own")))
            });
            self.needs.push(needs.collect::<Result<_, _>>()?);
            self.modules.push(Module {
                name: line.name.clone(),
                path: PathBuf::from(&line.path),
            });
            // depmod keeps only the first module of a name by its search order, so a second one means a
            // damaged file.
            if self.by_name.insert(line.name.clone(), at).is_some() {
                return Err(text.error(line.line, format!("a second module {}", line.name)));
            }
        }
        Ok(())
    }

    fn load_soft(&mut self) -> Result<(), KmodError> {
        if let Some(text) = Text::read(self.dir.join("modules.softdep"))? {
            for line in text.soft_dependencies()? {
                let soft = self.soft.entry(line.name).or_default();
                soft.pre.extend(line.pre);
                soft.post.extend(line.post);
            }
        }
        if let Some(text) = Text::read(self.dir.join("modules.weakdep"))? {
            for (name, words) in text.weak_dependencies()? {
                self.weak.entry(name).or_default().extend(words);
            }
        }
        Ok(())
    }

    fn load_builtin(&mut self) -> Result<(), KmodError> {
        if let Some(text) = Text::read(self.dir.join("modules.builtin"))? {
            self.builtin = text.paths()?.into_iter().map(|(_, name)| name).collect();
        }
        if let Some(text) = Text::read(self.dir.join("modules.builtin.modinfo"))? {
            for (name, key, value) in text.builtin_info() {
                match key {
                    "alias" => self.builtin_aliases.push((value.to_owned(), name)),
                    "firmware" => self.builtin_firmware.push((name, value.to_owned())),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
