//! Index files of an image that has only some of a kernel's modules, uncompressed.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;

use crate::index::Soft;
use crate::{Index, Module, ModuleName};

impl Index {
    /// Returns the text of `modules.dep`, `.alias`, `.softdep`, `.weakdep` and `.order` for these modules
    /// only, with their paths from [`plain_path`](Index::plain_path). The list must include all dependencies
    /// ([`Index::with_dependencies`]), because modules outside the list get no entry.
    #[must_use]
    pub fn subset(&self, modules: &[Module]) -> Vec<(&'static str, String)> {
        let names: HashSet<&ModuleName> = modules.iter().map(|module| &module.name).collect();
        let within: Vec<usize> = (0..self.modules.len())
            .filter(|at| names.contains(&self.modules[*at].name))
            .collect();
        let (mut dep, mut order, mut softdep, mut weakdep) =
            (String::new(), String::new(), String::new(), String::new());
        for at in within {
            let module = &self.modules[at];
            let path = Self::plain_path(&module.path);
            writeln!(order, "{path}").ok();
            write!(dep, "{path}:").ok();
            for need in &self.needs[at] {
                write!(dep, " {}", Self::plain_path(&self.modules[*need].path)).ok();
            }
            dep.push('\n');
            if let Some(Soft { pre, post }) = self.soft.get(&module.name) {
                let side = |word, names: &[String]| match names {
                    [] => String::new(),
                    names => format!(" {word}: {}", names.join(" ")),
                };
                let line = side("pre", pre) + &side("post", post);
                if !line.is_empty() {
                    writeln!(softdep, "softdep {}{line}", module.name).ok();
                }
            }
            if let Some(weak) = self.weak.get(&module.name) {
                writeln!(weakdep, "weakdep {} {}", module.name, weak.join(" ")).ok();
            }
        }
        let mut alias = String::new();
        for (pattern, module) in self.aliases.iter().filter(|(_, module)| names.contains(module)) {
            writeln!(alias, "alias {pattern} {module}").ok();
        }
        vec![
            ("modules.alias", alias),
            ("modules.dep", dep),
            ("modules.order", order),
            ("modules.softdep", softdep),
            ("modules.weakdep", weakdep),
        ]
    }

    /// Path of a module's file in an image, where it is not compressed: `kernel/fs/ext4/ext4.ko` for
    /// `kernel/fs/ext4/ext4.ko.xz`.
    #[must_use]
    pub fn plain_path(path: &Path) -> String {
        let path = path.to_string_lossy();
        match path.rsplit_once(".ko.") {
            Some((stem, "xz" | "zst" | "gz")) => format!("{stem}.ko"),
            _ => path.into_owned(),
        }
    }
}
