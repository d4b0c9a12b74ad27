//! Circles between files: files of one crate that name each other, directly or through others.
//!
//! A module and those above or below it may name each other: a parent lists its children, and a child uses what its
//! parent has for all of them. Any other circle means that none of its files can be read, or changed, alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The attribute of an item that is compiled for tests only.
const TESTS: &str = "#[cfg(test)]";

/// A crate's files by the path of their module, from the crate's root: `layout/plan`; the root itself is empty.
#[derive(Debug, Default)]
pub(super) struct Modules {
    /// The modules that each module names.
    named: BTreeMap<String, BTreeSet<String>>,
}

impl Modules {
    /// Reads the files of a crate's `src` directory.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn read(src: &Path) -> Result<Self> {
        let mut texts = BTreeMap::new();
        let mut tests = Vec::new();
        for file in super::rust_files(src)? {
            let relative = file.strip_prefix(src).context("a file of src")?.to_owned();
            let path = relative.with_extension("").display().to_string();
            if path.split('/').any(|part| part.ends_with("tests")) {
                continue;
            }
            let module = path.strip_suffix("/mod").unwrap_or(&path).to_owned();
            let module = if module == "lib" || module == "main" {
                String::new()
            } else {
                module
            };
            let text = fs::read_to_string(&file)?;
            tests.extend(test_modules(&text).into_iter().map(|name| join(&module, name)));
            texts.insert(module, code(&text));
        }
        texts.retain(|module, _| !tests.iter().any(|test| is_within(module, test)));
        let mut modules = Self::default();
        for (module, text) in &texts {
            let named = paths(text)
                .iter()
                .filter_map(|path| resolve(module, path, |name| texts.contains_key(name)))
                .filter(|named| !is_family(module, named))
                .collect();
            modules.named.insert(module.clone(), named);
        }
        Ok(modules)
    }

    /// The circles, each as its modules in order.
    pub(super) fn circles(&self) -> BTreeSet<Vec<String>> {
        let reached: BTreeMap<&String, BTreeSet<&String>> = self
            .named
            .keys()
            .map(|module| (module, self.reached_from(module)))
            .collect();
        let mut circles = BTreeSet::new();
        for (module, reaches) in &reached {
            let mut circle: Vec<String> = reaches
                .iter()
                .filter(|other| reached[*other].contains(module))
                .map(|other| (*other).clone())
                .collect();
            circle.sort();
            if circle.len() > 1 {
                circles.insert(circle);
            }
        }
        circles
    }

    fn reached_from<'a>(&'a self, module: &'a String) -> BTreeSet<&'a String> {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&String> = self.named[module].iter().collect();
        while let Some(module) = next.pop() {
            if reached.insert(module) {
                next.extend(&self.named[module]);
            }
        }
        reached
    }
}

/// True if one module lies within the other.
fn is_family(one: &str, other: &str) -> bool {
    is_within(one, other) || is_within(other, one)
}

/// True if `inner` is `outer` or lies within it.
fn is_within(inner: &str, outer: &str) -> bool {
    outer.is_empty()
        || inner == outer
        || inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.starts_with('/'))
}

/// Returns the path of a module's child.
fn join(module: &str, child: &str) -> String {
    if module.is_empty() {
        child.to_owned()
    } else {
        format!("{module}/{child}")
    }
}

/// Returns the text without comments and tests.
fn code(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    while let Some(line) = lines.next() {
        if line.trim() != TESTS {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        // The item behind it: a module of tests ends the file by custom, anything else is one line.
        let item = lines.find(|line| !line.trim_start().starts_with("#["));
        if item.is_some_and(|item| item.contains("mod ") && item.ends_with('{')) {
            break;
        }
    }
    kept
}

/// Returns the modules that a file declares for tests only.
fn test_modules(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let pairs = lines.windows(2).filter(|pair| pair[0] == TESTS);
    pairs
        .filter_map(|pair| {
            pair[1]
                .strip_suffix(';')?
                .rsplit_once("mod ")
                .map(|(_, name)| name)
        })
        .collect()
}

/// All paths that begin with `crate`, `super` or `self`, with the braces of `use` written out.
fn paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':') {
                continue;
            }
            write_out("", path_at(&code[at..]), &mut paths);
        }
    }
    paths
}

/// The path at the beginning of a text, with its braces if it has some.
fn path_at(text: &str) -> &str {
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | ' ' | '\n' if depth > 0 => {}
            ':' | '_' => {}
            letter if letter.is_alphanumeric() => {}
            _ => return &text[..at],
        }
    }
    text
}

fn write_out(prefix: &str, path: &str, paths: &mut Vec<String>) {
    let path = path.trim();
    let Some((head, rest)) = path.split_once('{') else {
        let name = path.split(" as ").next().unwrap_or(path);
        paths.push(format!("{prefix}{name}"));
        return;
    };
    let prefix = format!("{prefix}{head}");
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let mut depth = 0_usize;
    let parts = inner.split(|letter| {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    });
    for part in parts.filter(|part| !part.trim().is_empty()) {
        write_out(&prefix, part, paths);
    }
}

/// The longest beginning of a path that is a module.
fn resolve(from: &str, path: &str, exists: impl Fn(&str) -> bool) -> Option<String> {
    let mut here: Vec<&str> = from.split('/').filter(|part| !part.is_empty()).collect();
    let mut found = None;
    for part in path.split("::") {
        match part {
            "crate" => here.clear(),
            "super" => drop(here.pop()),
            "self" => {}
            name => {
                here.push(name);
                if !exists(&here.join("/")) {
                    return found;
                }
            }
        }
        let name = here.join("/");
        if exists(&name) {
            found = Some(name);
        }
    }
    found
}

#[test]
fn the_scanner_sees_circles_and_only_circles() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let write = |name: &str, text: &str| fs::write(scratch.path().join(name), text);
    fs::create_dir(scratch.path().join("a"))?;
    write("lib.rs", "mod a; mod b; mod c;")?;
    // A child uses its parent, and its parent uses it: no circle.
    write(
        "a/mod.rs",
        "mod inner; use crate::b::{self, Thing as Other};\nuse self::inner::Deep;",
    )?;
    write("a/inner.rs", "use super::Whole;")?;
    write("b.rs", "use crate::{c::Third, d};")?;
    // Comments and tests do not count.
    write(
        "c.rs",
        "#[cfg(test)]\nmod sim;\n// crate::b\n#[cfg(test)]\nmod tests {\nuse crate::a;\n}",
    )?;
    fs::create_dir(scratch.path().join("c"))?;
    write("c/sim.rs", "use crate::a;")?;
    assert_eq!(Modules::read(scratch.path())?.circles(), BTreeSet::new());
    write("c.rs", "fn f() { super::a::inner::deep() }")?;
    // The files within `a` name nothing else.
    assert_eq!(Modules::read(scratch.path())?.circles(), BTreeSet::new());
    write("c.rs", "fn f() { super::a::whole() }")?;
    let expected = BTreeSet::from([["a", "b", "c"].map(str::to_owned).to_vec()]);
    assert_eq!(Modules::read(scratch.path())?.circles(), expected);
    Ok(())
}
