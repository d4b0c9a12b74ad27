//! The paths of a source that do not travel, as a tree of names beside the walk: no path is built per file.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::tree::{SendOptions, TreeSource};

/// Kernel file systems and state of the running system; never golden content, whether mounted or not.
const NEVER: [&str; 4] = ["proc", "sys", "dev", "run"];

/// The treatment of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// The directory travels, its contents do not.
    Empty,
    /// It does not travel at all.
    Skip,
}

/// Rules for a directory's entries and what lies beneath them.
#[derive(Debug, Default)]
pub(super) struct Rules {
    beneath: HashMap<Vec<u8>, Self>,
    action: Option<Action>,
}

impl Rules {
    /// Returns the rules that concern `source`.
    pub(super) fn new(source: &TreeSource, options: &SendOptions) -> Self {
        let mut rules = Self::default();
        let root = resolve(&source.root);
        let never = NEVER.iter().map(|name| options.golden_root.join(name));
        for path in options.excluded.iter().cloned().chain(never) {
            rules.add(&root, &resolve(&path), Action::Empty);
        }
        for path in &options.skip {
            rules.add(&root, &resolve_parent(path), Action::Skip);
        }
        rules
    }

    fn add(&mut self, root: &Path, path: &Path, action: Action) {
        let Ok(beneath_root) = path.strip_prefix(root) else {
            return;
        };
        let mut rules = self;
        for component in beneath_root {
            rules = rules.beneath.entry(component.as_bytes().to_vec()).or_default();
        }
        rules.action = Some(action);
    }

    /// Returns the rules beneath the entry `name`, if any path there has one.
    pub(super) fn beneath(&self, name: &[u8]) -> Option<&Self> {
        self.beneath.get(name)
    }

    /// Returns the treatment of this path itself.
    pub(super) const fn action(&self) -> Option<Action> {
        self.action
    }
}

/// Without symbolic links where it exists; as written where it does not exist yet.
fn resolve(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| resolve_parent(path))
}

/// Resolves all but the last component. A rule about a symbolic link means the link itself.
fn resolve_parent(path: &Path) -> PathBuf {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return path.to_path_buf();
    };
    parent
        .canonicalize()
        .unwrap_or_else(|_| parent.to_path_buf())
        .join(OsStr::new(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excluded_skipped_and_kernel_directories_are_found_by_name() {
        let source = TreeSource {
            mount_id: 0,
            root: "/nonexistent/golden".into(),
        };
        let options = SendOptions {
            golden_root: "/nonexistent/golden".into(),
            excluded: vec!["/nonexistent/golden/var/cache/".into(), "/elsewhere".into()],
            skip: vec!["/nonexistent/golden/swapfile".into()],
            ..SendOptions::default()
        };
        let rules = Rules::new(&source, &options);
        let action = |name: &str| rules.beneath(name.as_bytes()).and_then(Rules::action);
        assert_eq!(action("proc"), Some(Action::Empty));
        assert_eq!(action("swapfile"), Some(Action::Skip));
        assert_eq!(action("var"), None);
        let cache = rules.beneath(b"var").unwrap().beneath(b"cache").unwrap();
        assert_eq!(cache.action(), Some(Action::Empty));
        assert!(rules.beneath(b"elsewhere").is_none());
    }

    #[test]
    fn a_source_that_is_itself_excluded_keeps_only_its_root() {
        let source = TreeSource {
            mount_id: 1,
            root: "/nonexistent/home".into(),
        };
        let options = SendOptions {
            excluded: vec!["/nonexistent/home".into()],
            ..SendOptions::default()
        };
        assert_eq!(Rules::new(&source, &options).action(), Some(Action::Empty));
    }
}
