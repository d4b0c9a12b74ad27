//! The verbs of `ka`, the help that lists them, and the way to their programs.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;

use ka_cli::{exit, say};
use ka_host::run::{find, replace_process};

use crate::wrong;

/// A verb of `ka`: `ka NAME …` is `ka-NAME …`.
pub(crate) struct Verb {
    pub(crate) name: &'static str,
    /// Its task, in one line.
    pub(crate) about: &'static str,
}

/// All verbs, in the order in which an evening of cloning needs them.
pub(crate) const VERBS: [Verb; 7] = [
    Verb {
        name: "desc",
        about: "Write the desc file that describes a disk, or explain one",
    },
    Verb {
        name: "server",
        about: "Clone this machine onto every node that joins; with --pxe, boot the nodes too",
    },
    Verb {
        name: "client",
        about: "Turn this machine into a clone: ERASES its disks",
    },
    Verb {
        name: "status",
        about: "Watch nodes while they are cloned, and run commands on them",
    },
    Verb {
        name: "pxe",
        about: "Boot machines from the network: addresses, files and the menu",
    },
    Verb {
        name: "initrd",
        about: "Make the images that nodes boot, or list what is in one",
    },
    Verb {
        name: "image",
        about: "Keep images of golden trees in a store, and take them out again",
    },
];

/// Returns the answer to `ka` alone.
pub(crate) fn first_steps() -> String {
    "\
KA clones this machine onto any number of others. Nothing is written before you say so. Begin here, as root:

  ka desc /dev/sda > desc                    describe the disk; edit sizes where the clones' disks differ
  ka server -n 3 -p sda desc --dry-run       see what would be sent, and what each node would do
  ka server -n 3 -p sda desc                 wait for three nodes, then clone; it prints how nodes join
  ka status 10.0.1.111                       watch a node

To boot the nodes from the network as well: ka server -n 3 -p sda desc --pxe eth1 --dhcp proxy
All verbs: ka help. Everything about one of them: ka help server, man ka-server.
"
    .to_owned()
}

/// Returns the answer to `ka help`: one screen.
pub(crate) fn help() -> String {
    let verbs: String = VERBS
        .iter()
        .map(|verb| format!("  ka {:<8} {}\n", verb.name, verb.about))
        .collect();
    format!(
        "\
KA clones one machine onto any number of others.

Usage: ka VERB [OPTIONS]

{verbs}
ka VERB is the program ka-VERB with the same options. More: ka help VERB, man ka-VERB.

Options:
      --completions SHELL  Print the completion script for bash, zsh or fish
      --man                Print the manual page (roff)
  -h, --help               Print this help
  -V, --version            Print the version

Exit codes: those of the verb; 2 wrong usage.
"
    )
}

/// Returns the manual page in roff, man(7).
pub(crate) fn manual() -> String {
    let verbs: String = VERBS
        .iter()
        .map(|verb| {
            format!(
                ".TP\n\\fBka {0}\\fR\n{1}. See \\fBka\\-{0}\\fR(8).\n",
                verb.name, verb.about
            )
        })
        .collect();
    format!(
        "\
.TH ka 8 \"\" \"ka {version}\"
.SH NAME
ka \\- clone one machine onto any number of others
.SH SYNOPSIS
\\fBka\\fR \\fIVERB\\fR [\\fIOPTIONS\\fR]
.SH DESCRIPTION
\\fBka\\fR \\fIVERB\\fR is the program \\fBka\\-\\fIVERB\\fR with the same options. \\fBka\\fR alone says what to do first;
\\fBka help\\fR lists the verbs.
.SH VERBS
{verbs}.SH EXIT STATUS
The exit status of the verb; 2 wrong usage.
",
        version = env!("CARGO_PKG_VERSION"),
    )
}

/// Becomes the verb's program: the one beside this program, else the one in the search path.
pub(crate) fn run(verb: &OsStr, args: &[OsString]) -> ExitCode {
    let Some(known) = VERBS.iter().find(|known| verb == known.name) else {
        return wrong(&unknown(&verb.to_string_lossy()));
    };
    let name = format!("ka-{}", known.name);
    let Some(program) = program(&name) else {
        say(&format!(
            "error: {name} is neither beside ka nor in PATH: install it"
        ));
        return ExitCode::from(exit::NOTHING_DONE);
    };
    let error = replace_process(&program, args);
    say(&format!("error: starting {}: {error}", program.display()));
    ExitCode::from(exit::NOTHING_DONE)
}

fn program(name: &str) -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.with_file_name(name);
    if beside.is_file() {
        return Some(beside);
    }
    find(name)
}

fn unknown(word: &str) -> String {
    // `ka-server` and `ka ka-server` are the same kind of slip.
    let bare = word.strip_prefix("ka-").unwrap_or(word);
    let near = VERBS
        .iter()
        .map(|verb| (distance(bare, verb.name), verb.name))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    match near {
        Some((_, name)) => format!("no verb {word:?}; did you mean ka {name}?; see ka help"),
        None => format!("no verb {word:?}; see ka help"),
    }
}

/// Returns the number of letters to change, insert or remove until both words are equal (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, against) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *against);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::{VERBS, distance, help, unknown};

    #[test]
    fn the_help_is_one_screen_with_every_verb() {
        let help = help();
        assert!(help.lines().count() <= 24, "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 80 + 12), "{help}");
        for verb in &VERBS {
            assert!(help.contains(&format!("  ka {} ", verb.name)), "{}", verb.name);
        }
    }

    #[test]
    fn a_slip_is_met_with_what_was_meant() {
        for (word, meant) in [
            ("sever", "server"),
            ("ka-server", "server"),
            ("stauts", "status"),
            ("dsc", "desc"),
        ] {
            assert!(
                unknown(word).contains(&format!("did you mean ka {meant}?")),
                "{}",
                unknown(word)
            );
        }
        assert_eq!(unknown("frobnicate"), "no verb \"frobnicate\"; see ka help");
    }

    #[test]
    fn distances_count_letters() {
        assert_eq!(
            [
                distance("", "ab"),
                distance("ab", "ab"),
                distance("kitten", "sitting")
            ],
            [2, 0, 3]
        );
    }
}
