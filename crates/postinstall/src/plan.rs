//! What a part decided to do, as a value: printed, tested, then carried out beneath the restored root.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use ka_host::run::{RunError, Tool};

use crate::chroot::Chroot;
use crate::labels;
use crate::root::Root;

/// What is told of a program's output: enough for a hook that says what it does.
const MAX_OUTPUT_LINES: usize = 50;

/// One thing to do in the clone. Paths are absolute in the clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Give a file this content.
    Write {
        /// The file.
        path: String,
        /// All of its content.
        bytes: Vec<u8>,
        /// Mode bits, should it be new.
        mode: u32,
        /// What changes, one line each; empty says no more than the path.
        changes: Vec<String>,
    },
    /// Remove a file.
    Remove {
        /// The file.
        path: String,
        /// Why.
        why: &'static str,
    },
    /// Make a symbolic link.
    Link {
        /// The link.
        path: String,
        /// What it names.
        target: String,
    },
    /// Run a program of the clone in the clone.
    Run(Command),
}

/// A program to be run in the clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What for, as gerund and object.
    pub description: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables of its environment.
    pub env: Vec<(String, String)>,
    /// How long it may take.
    pub limit: Duration,
}

/// What a part is going to do, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The actions.
    pub actions: Vec<Action>,
    /// What the operator should know and could do something about.
    pub warnings: Vec<String>,
}

/// An action that failed.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// A file of the clone could not be read or changed.
    #[error("{doing} the clone's {path}: {source}")]
    File {
        /// "reading", "writing"…
        doing: &'static str,
        /// The file.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A mount for the programs could not be made or undone.
    #[error(transparent)]
    Host(#[from] ka_host::HostError),
    /// A line of fstab has nothing to name.
    #[error(transparent)]
    Fstab(#[from] crate::fstab::FstabError),
    /// The kernel modules of the clone could not be read.
    #[error(transparent)]
    Modules(#[from] ka_kmod::KmodError),
    /// Something is not as it has to be.
    #[error("{0}")]
    Wrong(String),
}

impl PostError {
    pub(crate) fn reading(path: &str) -> impl FnOnce(io::Error) -> Self {
        Self::file("reading", path)
    }

    pub(crate) fn file(doing: &'static str, path: &str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }
}

impl Plan {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// Whether a program is to be run: that needs a [`Chroot`].
    #[must_use]
    pub fn runs_programs(&self) -> bool {
        self.actions.iter().any(|action| matches!(action, Action::Run(_)))
    }

    /// What is going to change, one line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.actions.iter().flat_map(Action::lines).collect()
    }

    pub(crate) fn write(&mut self, path: impl Into<String>, bytes: impl Into<Vec<u8>>, changes: Vec<String>) {
        self.write_mode(path, bytes, 0o644, changes);
    }

    pub(crate) fn write_mode(
        &mut self,
        path: impl Into<String>,
        bytes: impl Into<Vec<u8>>,
        mode: u32,
        changes: Vec<String>,
    ) {
        self.actions.push(Action::Write {
            path: path.into(),
            bytes: bytes.into(),
            mode,
            changes,
        });
    }

    pub(crate) fn remove(&mut self, path: impl Into<String>, why: &'static str) {
        self.actions.push(Action::Remove {
            path: path.into(),
            why,
        });
    }

    pub(crate) fn link(&mut self, path: impl Into<String>, target: &str) {
        self.actions.push(Action::Link {
            path: path.into(),
            target: target.to_owned(),
        });
    }

    /// Whether a file goes.
    pub(crate) fn removes(&self, file: &str) -> bool {
        let mut actions = self.actions.iter();
        actions.any(|action| matches!(action, Action::Remove { path, .. } if path == file))
    }

    pub(crate) fn run(&mut self, description: impl Into<String>, limit: Duration, argv: &[&str]) {
        self.actions.push(Action::Run(Command {
            description: description.into(),
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            env: Vec::new(),
            limit,
        }));
    }

    /// Sets a variable for the program that was added last.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        if let Some(Action::Run(command)) = self.actions.last_mut() {
            command.env.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Carries it out. `told` hears of each action before it is done. What its programs leave running in the clone ends with
    /// it: it would go on writing there, and keep the disk busy.
    ///
    /// # Errors
    /// The first that fails; those before it stay done.
    pub fn apply(&self, clone: &Clone<'_>, told: &mut dyn FnMut(&str)) -> Result<(), PostError> {
        let applied = self.apply_actions(clone, told);
        if let Some(chroot) = clone.chroot.filter(|_| self.runs_programs()) {
            let left = chroot.end_programs();
            if !left.is_empty() {
                told(&format!(
                    "left running by a program of the clone, and ended: {}",
                    left.join(", ")
                ));
            }
        }
        applied
    }

    fn apply_actions(&self, clone: &Clone<'_>, told: &mut dyn FnMut(&str)) -> Result<(), PostError> {
        let mut replaced = Vec::new();
        for action in &self.actions {
            for line in action.lines() {
                told(&line);
            }
            if let Action::Remove { path, .. } = action {
                let path = Path::new(path);
                replaced.extend(labels::label(clone.root, path).map(|label| (path, label)));
            }
            action.apply(clone, told)?;
        }
        // What a program has made again in the place of a file is what that was.
        for (path, label) in replaced {
            if labels::label(clone.root, path).is_none()
                && let Err(error) = labels::set_label(clone.root, path, &label)
            {
                tracing::debug!(path = %path.display(), %error, "no label");
            }
        }
        Ok(())
    }
}

/// Where a plan is carried out.
#[derive(Debug, Clone, Copy)]
pub struct Clone<'a> {
    /// Its files.
    pub root: &'a Root,
    /// Where its programs run; a plan without any needs none.
    pub chroot: Option<&'a Chroot>,
}

impl Action {
    /// What it changes, one line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Write { path, changes, .. } if changes.is_empty() => vec![format!("{path} written")],
            Self::Write { path, changes, .. } => {
                changes.iter().map(|change| format!("{path}: {change}")).collect()
            }
            Self::Remove { path, why } => vec![format!("{path} removed: {why}")],
            Self::Link { path, target } => vec![format!("{path} -> {target}")],
            Self::Run(command) => vec![command.argv.join(" ")],
        }
    }

    fn apply(&self, clone: &Clone<'_>, told: &mut dyn FnMut(&str)) -> Result<(), PostError> {
        match self {
            Self::Write {
                path, bytes, mode, ..
            } => clone
                .root
                .write(Path::new(path), bytes, *mode)
                .map_err(PostError::file("writing", path)),
            Self::Remove { path, .. } => clone
                .root
                .remove(Path::new(path))
                .map_err(PostError::file("removing", path)),
            Self::Link { path, target } => clone
                .root
                .link(target, Path::new(path))
                .map_err(PostError::file("making the link", path)),
            Self::Run(command) => {
                let output = command.run(clone.chroot)?;
                let lines = output.lines().filter(|line| !line.trim().is_empty());
                lines
                    .take(MAX_OUTPUT_LINES)
                    .for_each(|line| told(&format!("| {line}")));
                Ok(())
            }
        }
    }
}

impl Command {
    /// Runs it and returns what it said.
    ///
    /// # Errors
    /// [`PostError::Run`]; [`PostError::Wrong`] without a chroot.
    pub fn run(&self, chroot: Option<&Chroot>) -> Result<String, PostError> {
        let (Some(chroot), Some((program, args))) = (chroot, self.argv.split_first()) else {
            return Err(PostError::Wrong(format!(
                "{}: nowhere to run it",
                self.description
            )));
        };
        let mut tool: Tool = chroot.tool(program).args(args).describe(&self.description);
        for (name, value) in &self.env {
            tool = tool.env(name, value);
        }
        Ok(tool.timeout(self.limit).run()?.text())
    }
}

impl fmt::Display for Plan {
    /// One line an action, then the warnings.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.lines() {
            writeln!(f, "{line}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod fixture {
    //! What a test wants to know of a plan.

    use super::{Action, Plan};

    /// The programs, with their arguments.
    pub(crate) fn commands(plan: &Plan) -> Vec<String> {
        let run = |action: &Action| match action {
            Action::Run(command) => Some(command.argv.join(" ")),
            _ => None,
        };
        plan.actions.iter().filter_map(run).collect()
    }

    /// The text that a file gets.
    pub(crate) fn written(plan: &Plan, file: &str) -> String {
        let found = plan.actions.iter().find_map(|action| match action {
            Action::Write { path, bytes, .. } if path == file => {
                Some(String::from_utf8_lossy(bytes).into_owned())
            }
            _ => None,
        });
        found.unwrap_or_else(|| panic!("{file} is not written:\n{plan}"))
    }
}
