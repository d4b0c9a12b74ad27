//! Files that several parts change, each a little: read once, written once.

use std::collections::BTreeMap;

use crate::error::PostError;
use crate::files::Files;
use crate::plan::{Action, Plan};

/// Configuration files of a clone, as they are going to be.
pub(super) struct Editor<'a> {
    files: &'a dyn Files,
    open: BTreeMap<String, Edited>,
}

struct Edited {
    text: String,
    /// False if each character stands for one byte (Latin-1), so that bytes which are not UTF-8 go back as
    /// they came.
    is_utf8: bool,
    changes: Vec<String>,
}

impl<'a> Editor<'a> {
    /// Returns an editor of the files of this system, on top of the writes of `plan`.
    pub(super) fn new(files: &'a dyn Files, plan: &Plan) -> Self {
        let mut open = BTreeMap::new();
        for action in &plan.actions {
            if let Action::Write { path, bytes, .. } = action {
                open.insert(path.clone(), Edited::new(bytes));
            }
        }
        Self { files, open }
    }

    /// Returns the files themselves.
    pub(super) fn files(&self) -> &'a dyn Files {
        self.files
    }

    /// Returns the text of a file as it is by now; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn text(&mut self, path: &str) -> Result<Option<String>, PostError> {
        if let Some(edited) = self.open.get(path) {
            return Ok(Some(edited.text.clone()));
        }
        let Some(bytes) = self.files.read(path).map_err(PostError::reading(path))? else {
            return Ok(None);
        };
        let edited = self.open.entry(path.to_owned()).or_insert(Edited::new(&bytes));
        Ok(Some(edited.text.clone()))
    }

    /// Sets a new text for a file that was read.
    pub(super) fn replace(&mut self, path: &str, text: String, changes: impl IntoIterator<Item = String>) {
        if let Some(edited) = self.open.get_mut(path) {
            edited.text = text;
            edited.changes.extend(changes);
        }
    }

    /// Changes each line of a file. `change` returns the new line (without its end), or nothing to keep it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn lines(
        &mut self,
        path: &str,
        mut change: impl FnMut(&str) -> Option<String>,
    ) -> Result<(), PostError> {
        let Some(old) = self.text(path)? else {
            return Ok(());
        };
        let mut changes = Vec::new();
        let mut new = String::with_capacity(old.len());
        for line in old.split_inclusive('\n') {
            let bare = line.trim_end_matches(['\n', '\r']);
            match change(bare).filter(|changed| changed != bare) {
                Some(changed) => {
                    changes.push(format!("{} becomes {}", bare.trim(), changed.trim()));
                    new.push_str(&changed);
                    new.push_str(&line[bare.len()..]);
                }
                None => new.push_str(line),
            }
        }
        if !changes.is_empty() {
            self.replace(path, new, changes);
        }
        Ok(())
    }

    /// Plans to write the changed files.
    pub(super) fn finish(self, plan: &mut Plan) {
        for (path, edited) in self.open {
            if !edited.changes.is_empty() {
                let (bytes, changes) = edited.into_bytes();
                plan.write(path, bytes, changes);
            }
        }
    }
}

impl Edited {
    fn new(bytes: &[u8]) -> Self {
        let (text, is_utf8) = match std::str::from_utf8(bytes) {
            Ok(text) => (text.to_owned(), true),
            Err(_) => (bytes.iter().map(|byte| char::from(*byte)).collect(), false),
        };
        Self {
            text,
            is_utf8,
            changes: Vec::new(),
        }
    }

    fn into_bytes(self) -> (Vec<u8>, Vec<String>) {
        let bytes = if self.is_utf8 {
            self.text.into_bytes()
        } else {
            // The inserted text is ASCII; all other characters came from a byte.
            self.text
                .chars()
                .map(|c| u8::try_from(c).unwrap_or(b'?'))
                .collect()
        };
        (bytes, self.changes)
    }
}
