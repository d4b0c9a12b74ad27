//! Libraries of the golden root's programs, found as ld.so(8) finds them, without executing a program.

use std::collections::{HashMap, VecDeque};
use std::path::{Component, Path, PathBuf};

use crate::InitrdError;
use crate::elf::Elf;
use crate::root::{self, Root};
use crate::tools::{OPENED_AT_RUN_TIME, PROGRAM_DIRS};
use crate::tree::Tree;

/// Default directories of the loader on the various distributions. Those of the C library's own directory are
/// added.
const DEFAULT_DIRS: [&str; 4] = ["lib64", "usr/lib64", "lib", "usr/lib"];
/// Largest number of files that `ld.so.conf` may include, also nested.
const MAX_INCLUDES: usize = 64;
/// Largest number of files that one program may need. A program has tens of libraries; thousands mean a loop
/// of scripts.
const MAX_FILES: usize = 4096;

/// A needed program or library: the path it is requested by, and its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needed {
    /// Path of the request. The image must have the file under this path.
    pub(crate) asked: PathBuf,
    /// Path of the file relative to the root, without symbolic links.
    pub(crate) file: PathBuf,
}

/// Lookup of programs and libraries in one golden root.
pub(crate) struct Libraries<'a> {
    root: &'a Root,
    /// Directories of `ld.so.conf`, in order.
    configured: Vec<String>,
    parsed: HashMap<PathBuf, Option<Elf>>,
}

impl<'a> Libraries<'a> {
    pub(crate) fn new(root: &'a Root) -> Self {
        let mut configured = Vec::new();
        let mut budget = MAX_INCLUDES;
        read_conf(root, "etc/ld.so.conf", &mut configured, &mut budget);
        Self {
            root,
            configured,
            parsed: HashMap::new(),
        }
    }

    /// Finds a program in the program directories.
    pub(crate) fn program(&self, name: &str) -> Option<Needed> {
        let places = PROGRAM_DIRS.iter().map(|dir| Path::new(dir).join(name));
        let mut found = places.filter_map(|asked| self.needed(asked));
        found.find(|needed| self.root.host(&needed.file).is_file())
    }

    /// Returns the program itself, its loader or interpreter, and all libraries, each once.
    pub(crate) fn closure(&mut self, program: &Needed) -> Result<Vec<Needed>, InitrdError> {
        let mut all = vec![program.clone()];
        let mut queue: VecDeque<(Needed, Vec<String>)> = [(program.clone(), Vec::new())].into();
        while let Some((file, rpaths)) = queue.pop_front() {
            for (needed, rpaths) in self.direct(program, &file, &rpaths)? {
                if all.contains(&needed) {
                    continue;
                }
                if all.len() >= MAX_FILES {
                    let what = format!("needs more than {MAX_FILES} files");
                    return Err(InitrdError::damaged(&self.root.host(&program.file), what));
                }
                all.push(needed.clone());
                queue.push_back((needed, rpaths));
            }
        }
        Ok(all)
    }

    /// Returns the direct needs of one file, each with the `DT_RPATH` that applies to its own needs.
    fn direct(
        &mut self,
        program: &Needed,
        file: &Needed,
        inherited: &[String],
    ) -> Result<Vec<(Needed, Vec<String>)>, InitrdError> {
        let Some(elf) = self.parse(&file.file)? else {
            return self.script(program, file);
        };
        let origin = file.file.parent().unwrap_or(Path::new("")).to_owned();
        let own = |dirs: &[String]| -> Vec<String> {
            dirs.iter()
                .map(|dir| {
                    dir.replace("${ORIGIN}", "$ORIGIN")
                        .replace("$ORIGIN", &format!("/{}", origin.display()))
                })
                .collect()
        };
        // ld.so(8): the DT_RPATH of the file and of the files that need it applies only without DT_RUNPATH.
        let mut rpaths = own(&elf.rpath);
        rpaths.extend_from_slice(inherited);
        let mut dirs = if elf.runpath.is_empty() {
            rpaths.clone()
        } else {
            own(&elf.runpath)
        };
        dirs.extend(self.configured.iter().cloned());
        let mut found = Vec::new();
        if let Some(interpreter) = &elf.interpreter {
            let needed = self.needed(PathBuf::from(interpreter));
            let needed = needed.ok_or_else(|| self.missing(program, interpreter))?;
            if let Some(dir) = needed.file.parent() {
                dirs.push(dir.display().to_string());
            }
            found.push((needed, Vec::new()));
        }
        for library in &elf.needed {
            let needed = self.library(library, &dirs, &elf)?;
            let needed = needed.ok_or_else(|| self.missing(program, library))?;
            found.push((needed, rpaths.clone()));
        }
        for (opener, library) in OPENED_AT_RUN_TIME {
            if elf.needed.iter().any(|needed| needed == opener)
                && let Some(needed) = self.library(library, &dirs, &elf)?
            {
                found.push((needed, rpaths.clone()));
            }
        }
        Ok(found)
    }

    /// Finds a library of the right kind in the given directories and the default ones.
    fn library(&mut self, name: &str, dirs: &[String], by: &Elf) -> Result<Option<Needed>, InitrdError> {
        if name.contains('/') {
            return Ok(self.needed(PathBuf::from(name)));
        }
        let multiarch = multiarch_dirs(by);
        let defaults = multiarch.iter().map(String::as_str).chain(DEFAULT_DIRS);
        let all = dirs.iter().map(String::as_str).chain(defaults);
        for dir in all {
            let Some(needed) = self.needed(Path::new(dir).join(name)) else {
                continue;
            };
            // The loader skips libraries of another processor.
            if self
                .parse(&needed.file)?
                .is_some_and(|elf| elf.machine == by.machine)
            {
                return Ok(Some(needed));
            }
        }
        Ok(None)
    }

    /// Returns the needs of a script: the interpreter behind `#!`, and the program of `/usr/bin/env NAME`.
    fn script(&mut self, program: &Needed, file: &Needed) -> Result<Vec<(Needed, Vec<String>)>, InitrdError> {
        let bytes = root::read(&self.root.host(&file.file))?;
        let Some(line) = bytes
            .strip_prefix(b"#!")
            .and_then(|rest| rest.split(|byte| *byte == b'\n').next())
        else {
            return Ok(Vec::new());
        };
        let line = String::from_utf8_lossy(line).into_owned();
        let mut words = line.split_ascii_whitespace();
        let Some(interpreter) = words.next() else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        let needed = self.needed(PathBuf::from(interpreter));
        found.push((
            needed.ok_or_else(|| self.missing(program, interpreter))?,
            Vec::new(),
        ));
        if interpreter.ends_with("/env")
            && let Some(name) = words.find(|word| !word.starts_with('-'))
        {
            let needed = self.program(name);
            found.push((needed.ok_or_else(|| self.missing(program, name))?, Vec::new()));
        }
        Ok(found)
    }

    fn needed(&self, asked: PathBuf) -> Option<Needed> {
        let file = self.root.resolve(&asked)?;
        // Names in an image have no `..`, as in `$ORIGIN/../lib`.
        let asked = if asked.components().any(|part| part == Component::ParentDir) {
            self.root.resolve(asked.parent()?)?.join(asked.file_name()?)
        } else {
            asked
        };
        Some(Needed { asked, file })
    }

    fn parse(&mut self, file: &Path) -> Result<Option<Elf>, InitrdError> {
        if let Some(parsed) = self.parsed.get(file) {
            return Ok(parsed.clone());
        }
        let host = self.root.host(file);
        let parsed = if host.is_file() {
            let bytes = root::read(&host)?;
            // GNU ld scripts and other text files may have the name of a library.
            bytes
                .starts_with(b"\x7fELF")
                .then(|| Elf::parse(&host, &bytes))
                .transpose()?
        } else {
            None
        };
        self.parsed.insert(file.to_owned(), parsed.clone());
        Ok(parsed)
    }

    fn missing(&self, program: &Needed, library: &str) -> InitrdError {
        InitrdError::NoLibrary {
            program: program.asked.display().to_string(),
            library: library.to_owned(),
            root: self.root.dir().to_owned(),
        }
    }
}

/// Adds a file under its real path. Adds a symbolic link if the requested path differs.
pub(crate) fn place(tree: &mut Tree, root: &Root, needed: &Needed) -> Result<(), InitrdError> {
    let (asked, real) = (Tree::place(&needed.asked), Tree::place(&needed.file));
    if !tree.has(&real) {
        tree.file(&real, 0o755, root::read(&root.host(&needed.file))?)?;
    }
    // With links such as `usr/lib64 -> lib` both paths are one place in the golden root and two in the image.
    if asked != real && !tree.has(&asked) {
        tree.symlink(&asked, &format!("/{real}"))?;
    }
    Ok(())
}

/// Directories that are built into Debian's C library.
fn multiarch_dirs(elf: &Elf) -> Vec<String> {
    let triple = match elf.machine {
        (true, object::elf::EM_X86_64) => "x86_64-linux-gnu",
        (false, object::elf::EM_386) => "i386-linux-gnu",
        (true, object::elf::EM_AARCH64) => "aarch64-linux-gnu",
        (false, object::elf::EM_ARM) => "arm-linux-gnueabihf",
        (true, object::elf::EM_RISCV) => "riscv64-linux-gnu",
        (true, object::elf::EM_PPC64) => "powerpc64le-linux-gnu",
        (true, object::elf::EM_S390) => "s390x-linux-gnu",
        _ => return Vec::new(),
    };
    vec![format!("lib/{triple}"), format!("usr/lib/{triple}")]
}

fn read_conf(root: &Root, path: &str, dirs: &mut Vec<String>, budget: &mut usize) {
    let Some(text) = root.text(path) else { return };
    if *budget == 0 {
        return;
    }
    *budget -= 1;
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(pattern) = line.strip_prefix("include ").map(str::trim) {
            let pattern = if pattern.starts_with('/') {
                pattern.to_owned()
            } else {
                format!("etc/{pattern}")
            };
            let (dir, names) = pattern.rsplit_once('/').unwrap_or(("", &pattern));
            for name in root.names(dir) {
                if ka_kmod::matches(names, &name) {
                    read_conf(root, &format!("{dir}/{name}"), dirs, budget);
                }
            }
        } else if line.starts_with('/') {
            dirs.push(line.to_owned());
        }
    }
}
