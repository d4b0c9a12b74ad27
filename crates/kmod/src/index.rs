//! What depmod(8) knows about the modules of one kernel.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::parse::Text;
use crate::{KmodError, ModuleName, closure, matches};

/// A module and where its file is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Module {
    /// Its name.
    pub name: ModuleName,
    /// Its file, relative to `lib/modules/RELEASE`.
    pub path: PathBuf,
}

#[derive(Debug, Default)]
pub(crate) struct Soft {
    pub(crate) pre: Vec<String>,
    pub(crate) post: Vec<String>,
}

/// The modules of one kernel: read once, asked often.
#[derive(Debug)]
pub struct Index {
    pub(crate) dir: PathBuf,
    /// In the order of `modules.order`, then of `modules.dep`.
    pub(crate) modules: Vec<Module>,
    /// For each of `modules`, those it needs; nearest first, as depmod writes them.
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
    /// Reads the index files of `…/lib/modules/RELEASE`. `modules.dep` and `modules.alias` must be there, the others
    /// (`.softdep`, `.weakdep`, `.builtin`, `.builtin.modinfo`, `.order`) may be missing, as with older kernels.
    ///
    /// # Errors
    /// A file cannot be read, or a line of it (named) makes no sense.
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

    /// The directory it was read from.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All modules that are files, in the order of `modules.order`.
    #[must_use]
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// A module by its name, in either spelling; `None` when there is no such file (it may be built in).
    #[must_use]
    pub fn module(&self, name: &ModuleName) -> Option<&Module> {
        self.by_name.get(name).map(|at| &self.modules[*at])
    }

    /// Whether a module is part of the kernel itself.
    #[must_use]
    pub fn is_builtin(&self, name: &ModuleName) -> bool {
        self.builtin.contains(name)
    }

    /// The modules that a device with this modalias, or the kernel asking for this alias, wants: all matches of
    /// `modules.alias`, each once, in the file's order. Built-in ones are left out: there is nothing to load.
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

    /// What modprobe makes of a word: the module of that name, or else those with that alias. Empty when it is built
    /// in or unknown.
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

    /// Whether the kernel has it without any module: a built-in one's name or alias.
    #[must_use]
    pub fn knows_builtin(&self, word: &str) -> bool {
        self.builtin.contains(&ModuleName::new(word))
            || self
                .builtin_aliases
                .iter()
                .any(|(pattern, _)| matches(pattern, word))
    }

    /// The modules whose files lie at or below one of these paths (`kernel/drivers/net`), in order.
    #[must_use]
    pub fn below(&self, prefixes: &[&str]) -> Vec<ModuleName> {
        let lies_below = |module: &&Module| prefixes.iter().any(|prefix| module.path.starts_with(prefix));
        self.modules
            .iter()
            .filter(lies_below)
            .map(|module| module.name.clone())
            .collect()
    }

    /// These modules with all they need, in the order of loading: dependencies first; soft dependencies `pre` before
    /// and `post` after, as far as the hard ones allow. Names that are no files (built in, unknown) are left out.
    #[must_use]
    pub fn with_dependencies(&self, names: &[ModuleName]) -> Vec<Module> {
        let order = closure::load_order(self, names);
        order.into_iter().map(|at| self.modules[at].clone()).collect()
    }

    /// The same for an image: with what they may ask for at run time as well (`modules.weakdep`).
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

    /// Firmware that these built-in drivers may ask for.
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
            // depmod drops all but the first of a name by its search order; so a second is a damaged file.
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
