//! The text files of `lib/modules/RELEASE`, as depmod(8) writes them (modules.dep(5)).

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::{KmodError, ModuleName};

/// Largest index file, in bytes. The largest of a distribution's generic kernel, `modules.alias`, has 1.3 MB.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// One line of `modules.dep`: a file and its dependencies.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DepLine {
    pub(crate) line: usize,
    pub(crate) path: String,
    pub(crate) name: ModuleName,
    pub(crate) needs: Vec<String>,
}

/// One line of `modules.softdep`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SoftLine {
    pub(crate) name: ModuleName,
    pub(crate) pre: Vec<String>,
    pub(crate) post: Vec<String>,
}

/// A text file with its path, for errors that name file and line.
pub(crate) struct Text {
    path: PathBuf,
    text: String,
}

impl Text {
    /// Reads a file. Returns `None` if it does not exist.
    pub(crate) fn read(path: PathBuf) -> Result<Option<Self>, KmodError> {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(KmodError::Read { path, source }),
        };
        let mut bytes = Vec::new();
        if let Err(source) = file.take(MAX_INDEX_BYTES + 1).read_to_end(&mut bytes) {
            return Err(KmodError::Read { path, source });
        }
        if bytes.len() as u64 > MAX_INDEX_BYTES {
            return Err(KmodError::TooLarge {
                path,
                limit: MAX_INDEX_BYTES,
            });
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(Self { path, text })),
            Err(err) => {
                let good = &err.as_bytes()[..err.utf8_error().valid_up_to()];
                let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
                Err(line_error(&path, line, "not UTF-8".to_owned()))
            }
        }
    }

    /// Reads a file that depmod always writes.
    pub(crate) fn required(path: PathBuf) -> Result<Self, KmodError> {
        match Self::read(path.clone())? {
            Some(text) => Ok(text),
            None => Err(KmodError::NoIndex { path }),
        }
    }

    /// An error at a line of the file.
    pub(crate) fn error(&self, line: usize, what: String) -> KmodError {
        line_error(&self.path, line, what)
    }

    /// Parses `modules.dep`: `PATH: PATH…`.
    pub(crate) fn dependencies(&self) -> Result<Vec<DepLine>, KmodError> {
        let mut lines = Vec::new();
        for (line, text) in self.lines() {
            let Some((path, needs)) = text.split_once(':') else {
                return Err(self.error(line, "expected MODULE: DEPENDENCIES".to_owned()));
            };
            let name = self.checked(line, path)?;
            let needs: Vec<String> = needs.split_ascii_whitespace().map(str::to_owned).collect();
            for need in &needs {
                self.checked(line, need)?;
            }
            lines.push(DepLine {
                line,
                path: path.to_owned(),
                name,
                needs,
            });
        }
        Ok(lines)
    }

    /// Parses `modules.alias`: `alias PATTERN MODULE`.
    pub(crate) fn aliases(&self) -> Result<Vec<(String, ModuleName)>, KmodError> {
        let mut aliases = Vec::new();
        for (line, text) in self.lines() {
            // A pattern may contain spaces (DMI names do), so the module is the last word.
            let words = text.strip_prefix("alias ").map(str::trim);
            let pair = words.and_then(|words| words.rsplit_once(|c: char| c.is_ascii_whitespace()));
            let Some((pattern, module)) = pair else {
                return Err(self.error(line, "expected alias PATTERN MODULE".to_owned()));
            };
            aliases.push((pattern.trim_end().to_owned(), ModuleName::new(module)));
        }
        Ok(aliases)
    }

    /// Parses `modules.softdep`: `softdep MODULE pre: MODULE… post: MODULE…`. Names before `pre:` and `post:`
    /// are ignored, as modprobe does.
    pub(crate) fn soft_dependencies(&self) -> Result<Vec<SoftLine>, KmodError> {
        let mut lines = Vec::new();
        for (line, text) in self.lines() {
            let mut words = text.split_ascii_whitespace();
            let (Some("softdep"), Some(name)) = (words.next(), words.next()) else {
                return Err(self.error(line, "expected softdep MODULE pre: … post: …".to_owned()));
            };
            let mut soft = SoftLine {
                name: ModuleName::new(name),
                pre: Vec::new(),
                post: Vec::new(),
            };
            let mut side = None;
            for word in words {
                match (word, side) {
                    ("pre:" | "post:", _) => side = Some(word),
                    (_, Some("pre:")) => soft.pre.push(word.to_owned()),
                    (_, Some(_)) => soft.post.push(word.to_owned()),
                    (_, None) => {}
                }
            }
            lines.push(soft);
        }
        Ok(lines)
    }

    /// Parses `modules.weakdep`: `weakdep MODULE MODULE…`. These modules may be requested at run time, so an
    /// image needs them.
    pub(crate) fn weak_dependencies(&self) -> Result<Vec<(ModuleName, Vec<String>)>, KmodError> {
        let mut lines = Vec::new();
        for (line, text) in self.lines() {
            let mut words = text.split_ascii_whitespace();
            let (Some("weakdep"), Some(name)) = (words.next(), words.next()) else {
                return Err(self.error(line, "expected weakdep MODULE MODULE…".to_owned()));
            };
            lines.push((ModuleName::new(name), words.map(str::to_owned).collect()));
        }
        Ok(lines)
    }

    /// Parses `modules.builtin` and `modules.order`: one path a line.
    pub(crate) fn paths(&self) -> Result<Vec<(String, ModuleName)>, KmodError> {
        self.lines()
            .map(|(line, path)| Ok((path.to_owned(), self.checked(line, path)?)))
            .collect()
    }

    /// Parses `modules.builtin.modinfo`: `MODULE.KEY=VALUE`, each ended by NUL.
    pub(crate) fn builtin_info(&self) -> impl Iterator<Item = (ModuleName, &str, &str)> {
        self.text.split('\0').filter_map(|record| {
            let (key, value) = record.split_once('=')?;
            let (module, key) = key.split_once('.')?;
            Some((ModuleName::new(module), key, value))
        })
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines
            .map(|(index, line)| (index + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    }

    /// Name of the module at a path. Fails if the path leads out of the modules' directory.
    fn checked(&self, line: usize, path: &str) -> Result<ModuleName, KmodError> {
        if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            let what = format!("{path} lies outside of {}", self.directory().display());
            return Err(self.error(line, what));
        }
        ModuleName::of_path(path).ok_or_else(|| {
            self.error(
                line,
                format!("{path} is no module (.ko, .ko.xz, .ko.zst, .ko.gz)"),
            )
        })
    }

    fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }
}

fn line_error(path: &Path, line: usize, what: String) -> KmodError {
    KmodError::Line {
        path: path.to_owned(),
        line,
        what,
    }
}
