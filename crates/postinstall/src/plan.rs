//! A plan as a value: made by a part, printed, tested, then carried out beneath the restored root.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use ka_host::run::Tool;

use crate::chroot::Chroot;
use crate::error::PostError;
use crate::root::Root;

/// Most lines of a program's output that are shown. They are enough for a hook that describes its work.
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
        /// The changes, one line each; without any, only the path is told.
        changes: Vec<String>,
    },
    /// Remove a file.
    Remove {
        /// The file.
        path: String,
        /// The reason for the removal.
        why: &'static str,
    },
    /// Make a symbolic link.
    Link {
        /// The link.
        path: String,
        /// The link's target.
        target: String,
    },
    /// Run a program of the clone in the clone.
    Run(Command),
}

/// A program to be run in the clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The purpose, as gerund and object.
    pub description: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables of its environment.
    pub env: Vec<(String, String)>,
    /// The most time that it may take.
    pub limit: Duration,
}

/// The actions of one part, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The actions.
    pub actions: Vec<Action>,
    /// The warnings, about which the operator could do something.
    pub warnings: Vec<String>,
}

impl Plan {
    /// True if there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// True if the plan runs a program: that needs a [`Chroot`].
    #[must_use]
    pub fn runs_programs(&self) -> bool {
        self.actions.iter().any(|action| matches!(action, Action::Run(_)))
    }

    /// Returns the changes, one line each.
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

    /// True if the plan removes the file.
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

    /// Carries the plan out. `told` gets each action before it is done. Programs that its programs leave
    /// running in the clone are ended: they would go on writing there, and keep the disk busy.
    ///
    /// # Errors
    /// The first action that fails. Those before it stay done.
    pub fn apply(&self, clone: &Destination<'_>, told: &mut dyn FnMut(&str)) -> Result<(), PostError> {
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

    fn apply_actions(&self, clone: &Destination<'_>, told: &mut dyn FnMut(&str)) -> Result<(), PostError> {
        let mut replaced = Vec::new();
        for action in &self.actions {
            for line in action.lines() {
                told(&line);
            }
            if let Action::Remove { path, .. } = action {
                let path = Path::new(path);
                replaced.extend(clone.root.label(path).map(|label| (path, label)));
            }
            action.apply(clone, told)?;
        }
        // What a program has made again in the place of a file is what that was.
        for (path, label) in replaced {
            if clone.root.label(path).is_none()
                && let Err(error) = clone.root.set_label(path, &label)
            {
                tracing::debug!(path = %path.display(), %error, "no label");
            }
        }
        Ok(())
    }
}

/// The clone in which a plan is carried out.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    /// The clone's files.
    pub root: &'a Root,
    /// The place where the clone's programs run; a plan that runs none needs none.
    pub chroot: Option<&'a Chroot>,
}

impl Action {
    /// Returns the changes, one line each.
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

    fn apply(&self, clone: &Destination<'_>, told: &mut dyn FnMut(&str)) -> Result<(), PostError> {
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
    /// Runs the program and returns its output.
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
    //! Questions of a test about a plan.

    use super::{Action, Plan};

    /// Returns the programs, with their arguments.
    pub(crate) fn commands(plan: &Plan) -> Vec<String> {
        let run = |action: &Action| match action {
            Action::Run(command) => Some(command.argv.join(" ")),
            _ => None,
        };
        plan.actions.iter().filter_map(run).collect()
    }

    /// Returns the text that a file gets.
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
