//! The golden node's own steps: executables in `/etc/ka/hooks.d`, run in the clone at named points.
//!
//! A name ends with its point: `10-license.post-restore`, `90-register.pre-boot`. They run in the order of
//! their names. docs/node-hooks.md is for authors of hooks.

use std::fmt;
use std::time::Duration;

use crate::facts::Facts;
use crate::files::{Files, Kind};
use crate::plan::{Action, Command, Plan};

/// The directory of hooks.
pub const DIR: &str = "/etc/ka/hooks.d";
/// Longest time of a hook. One that needs longer hangs.
const HOOK_LIMIT: Duration = Duration::from_secs(1800);
/// More hooks than this are no hooks but a mistake.
const MAX_HOOKS: usize = 100;

/// The moment at which a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The tree is complete and has its own identity; the initramfs and the boot loader are still to come.
    PostRestore,
    /// All steps are done, except unmounting and writing the final partition table.
    PreBoot,
}

impl Point {
    const ALL: [Self; 2] = [Self::PostRestore, Self::PreBoot];

    /// Returns the point that a hook's name ends with.
    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| {
            name.strip_suffix(&known.to_string())
                .is_some_and(|rest| rest.ends_with('.'))
        })
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PostRestore => "post-restore",
            Self::PreBoot => "pre-boot",
        })
    }
}

/// Returns true if a file of this name is run where it may be: its name ends with a point.
pub(crate) fn has_point(name: &str) -> bool {
    Point::of(name).is_some()
}

/// Plans the hooks of one point. `is_executable` tells if a path of the clone may be run.
#[must_use]
pub fn plan(files: &dyn Files, facts: &Facts, point: Point, is_executable: &dyn Fn(&str) -> bool) -> Plan {
    let mut plan = Plan::default();
    if !facts.boot.hooks {
        return plan;
    }
    for name in files.names(DIR) {
        let path = format!("{DIR}/{name}");
        let runnable = matches!(files.kind(&path), Some(Kind::File | Kind::Link)) && is_executable(&path);
        if !runnable {
            continue;
        }
        match Point::of(&name) {
            Some(found) if found == point && plan.actions.len() < MAX_HOOKS => {
                plan.actions.push(Action::Run(Command {
                    description: format!("running the hook {name}"),
                    argv: vec![path],
                    env: environment(facts, point),
                    limit: HOOK_LIMIT,
                }))
            }
            Some(found) if found == point => plan.warnings.push(format!(
                "{path} is not run: there are more than {MAX_HOOKS} hooks"
            )),
            Some(_) => {}
            // Said once, at the first point.
            None if point == Point::PostRestore => plan.warnings.push(format!(
                "{path} is not run: its name ends with no point (.post-restore or .pre-boot)"
            )),
            None => {}
        }
    }
    plan
}

/// Returns the node's facts, as variables.
fn environment(facts: &Facts, point: Point) -> Vec<(String, String)> {
    let root = facts.mount_of("/");
    let device = |of: fn(&crate::facts::MountFact) -> Option<String>| root.and_then(of).unwrap_or_default();
    let disks: Vec<String> = facts
        .disks
        .iter()
        .map(|disk| format!("{}={}", disk.drive, disk.path))
        .collect();
    [
        ("KA_POINT", point.to_string()),
        ("KA_NODE", facts.node_name.clone()),
        ("KA_MAC", facts.mac.clone().unwrap_or_default()),
        ("KA_GOLDEN", facts.golden_host.clone()),
        ("KA_SERVER", facts.server.clone()),
        ("KA_SESSION", facts.session.clone()),
        ("KA_FIRMWARE", facts.firmware.name().to_owned()),
        ("KA_DISKS", disks.join(" ")),
        ("KA_ROOT_DEVICE", device(|root| Some(root.device.path.clone()))),
        ("KA_ROOT_UUID", device(|root| root.device.uuid.clone())),
        (
            "KA_KEEP_IDENTITY",
            if facts.boot.keep_identity { "yes" } else { "no" }.to_owned(),
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::tests::facts;
    use crate::files::fixture::Texts;

    fn files() -> Texts {
        Texts::new(&[
            ("/etc/ka/hooks.d/20-b.post-restore", ""),
            ("/etc/ka/hooks.d/10-a.post-restore", ""),
            ("/etc/ka/hooks.d/50-c.pre-boot", ""),
            ("/etc/ka/hooks.d/README", ""),
            ("/etc/ka/hooks.d/30-d", ""),
            ("/etc/ka/hooks.d/lib/x.pre-boot", ""),
        ])
    }

    fn names(plan: &Plan) -> Vec<String> {
        plan.lines()
            .iter()
            .map(|line| line.trim_start_matches("/etc/ka/hooks.d/").to_owned())
            .collect()
    }

    #[test]
    fn hooks_run_at_their_point_in_the_order_of_their_names() {
        let mut facts = facts();
        facts.boot.hooks = true;
        let executable = |path: &str| !path.ends_with("README");
        let restored = plan(&files(), &facts, Point::PostRestore, &executable);
        assert_eq!(names(&restored), ["10-a.post-restore", "20-b.post-restore"]);
        assert_eq!(restored.warnings.len(), 1, "{restored}");
        assert!(restored.warnings[0].contains("30-d is not run"), "{restored}");
        let boot = plan(&files(), &facts, Point::PreBoot, &executable);
        assert_eq!(names(&boot), ["50-c.pre-boot"]);
        let Action::Run(command) = &boot.actions[0] else {
            panic!("{boot}")
        };
        let has = |name: &str, value: &str| command.env.contains(&(name.to_owned(), value.to_owned()));
        assert!(has("KA_NODE", "n7") && has("KA_POINT", "pre-boot") && has("KA_DISKS", "sda=/dev/nvme0n1"));
        assert!(has("KA_ROOT_UUID", "aaaaaaaa-0003-4000-8000-000000000003") && has("KA_FIRMWARE", "bios"));
    }

    #[test]
    fn without_hooks_nothing_is_run() {
        let plan = plan(&files(), &facts(), Point::PreBoot, &|_| true);
        assert!(plan.is_empty());
    }
}
