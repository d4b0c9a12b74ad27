//! Completion scripts: options from the parser's own declarations, and values from files of this machine.
//!
//! A value is completed by its name in the help (`SESSION`, `DRIVE` and so on). The scripts ask the program
//! for candidates, with `--candidates KIND` and the words typed so far. Nothing is asked over the network.

mod local;

use clap::builder::{PossibleValuesParser, Resettable};
use clap::{Arg, Command};
use clap_complete::Shell;

use local::Kind;

/// Returns the candidates for a value of that kind, one a line. Empty for an unknown kind.
pub(crate) fn candidates(kind: &str, typed: &[String]) -> String {
    let found = Kind::by_name(kind).map_or_else(Vec::new, |kind| kind.candidates(typed));
    found.iter().map(|word| format!("{word}\n")).collect()
}

/// Returns the completion script of a program for a shell.
pub(crate) fn script(shell: Shell, mut command: Command, name: &str) -> String {
    command.build();
    let mut marked = marked(command.clone());
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut marked, name, &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if shell == Shell::Zsh {
        script = script.replacen(LOCAL_IN_ZSH, &format!("{LOCAL_IN_ZSH}{WORDS_IN_ZSH}"), 1);
    }
    for kind in Kind::ALL {
        script = match shell {
            Shell::Bash => in_bash(&script, name, kind),
            Shell::Zsh => in_zsh(&script, name, kind),
            Shell::Fish => in_fish(&script, name, kind),
            _ => script.replace(mark(kind), ""),
        };
    }
    if shell == Shell::Fish {
        script += &fish_positionals(&command, name);
    }
    script
}

/// Returns the mark in a generated script that stands for the candidates of a kind.
const fn mark(kind: Kind) -> &'static str {
    match kind {
        Kind::Sessions => "KA-CANDIDATES-SESSIONS",
        Kind::Nodes => "KA-CANDIDATES-NODES",
        Kind::Drives => "KA-CANDIDATES-DRIVES",
        Kind::Partitions => "KA-CANDIDATES-PARTITIONS",
    }
}

/// Returns the kind of this argument's value, by its name in the help.
fn kind_of(arg: &Arg) -> Option<Kind> {
    let names = arg.get_value_names()?;
    Kind::of_value(names.first()?.as_str())
}

/// Returns the command with a mark as the only possible value of each argument that has candidates. It cannot
/// parse.
fn marked(command: Command) -> Command {
    let subcommands: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    let command = command.mut_args(|arg| match kind_of(&arg) {
        Some(kind) => arg
            .value_parser(PossibleValuesParser::new([mark(kind)]))
            .default_value(Resettable::Reset),
        None => arg,
    });
    subcommands
        .into_iter()
        .fold(command, |command, name| command.mut_subcommand(name, marked))
}

/// Fills in a script for bash(1). The mark stands in a word list in double quotes.
fn in_bash(script: &str, name: &str, kind: Kind) -> String {
    let asked = format!(
        "$({name} --candidates {} \"${{COMP_WORDS[@]}}\" 2> /dev/null)",
        kind.name()
    );
    script.replace(mark(kind), &asked)
}

/// The line of a script for zsh behind which its own variables are declared.
const LOCAL_IN_ZSH: &str = "    local ret=1\n";
/// The whole command line. `_arguments` shortens `words` to the positional arguments before it evaluates the action of one.
const WORDS_IN_ZSH: &str = "    local -a ka_words\n    ka_words=(\"${(@)words}\")\n";

/// Fills in a script for zsh. An action in braces is evaluated, zshcompsys(1). If an option has two values,
/// the second is a file.
fn in_zsh(script: &str, name: &str, kind: Kind) -> String {
    let mark = format!("({})", mark(kind));
    let asked = format!(
        "{{compadd -- ${{(f)\"$({name} --candidates {} \"${{(@)ka_words}}\" 2>/dev/null)\"}}}}",
        kind.name()
    );
    let mut script = script.to_owned();
    for value in kind.values() {
        let twice = format!(":{value}:{mark}:{value}:{mark}");
        script = script.replace(&twice, &format!(":{value}:{mark}:FILE:_files"));
    }
    script.replace(&mark, &asked)
}

/// Fills in a script for fish. The argument of `-a` is evaluated, complete(1). The generator's condition that no command
/// stands before the option parses the line, and fails on an option that still lacks its value: it goes from these lines.
fn in_fish(script: &str, name: &str, kind: Kind) -> String {
    let marked = format!("{}\\t''", mark(kind));
    let condition = format!("-n \"__fish_{}_needs_command\" ", name.replace('-', "_"));
    let lines = script.lines().map(|line| {
        if line.contains(&marked) {
            line.replace(&condition, "")
                .replace(&marked, &asked_in_fish(name, kind))
        } else {
            line.to_owned()
        }
    });
    lines.flat_map(|line| [line, "\n".to_owned()]).collect()
}

fn asked_in_fish(name: &str, kind: Kind) -> String {
    format!(
        "({name} --candidates {} (commandline -opc) 2>/dev/null)",
        kind.name()
    )
}

/// Returns the completions of positional arguments for fish. The generator has none.
fn fish_positionals(command: &Command, name: &str) -> String {
    let kinds = command.get_positionals().filter_map(kind_of);
    kinds
        .map(|kind| format!("complete -c {name} -a \"{}\"\n", asked_in_fish(name, kind)))
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};
    use clap_complete::Shell;

    use super::script;

    fn command() -> Command {
        let session = Arg::new("session")
            .short('s')
            .long("session")
            .value_name("SESSION")
            .default_value("x");
        let partitions = Arg::new("partitions")
            .short('p')
            .num_args(2)
            .value_names(["DRIVE", "DESC"]);
        let node = Arg::new("node").value_name("NODE");
        Command::new("ka-x").args([session, partitions, node])
    }

    #[test]
    fn scripts_ask_the_program_for_values_that_it_knows() {
        for (shell, parts) in [
            (
                Shell::Bash,
                &["compgen -W \"$(ka-x --candidates sessions \"${COMP_WORDS[@]}\" 2> /dev/null)\""][..],
            ),
            (
                Shell::Zsh,
                &[
                    ":SESSION:{compadd -- ${(f)\"$(ka-x --candidates sessions",
                    ":DRIVE:{compadd -- ${(f)\"$(ka-x --candidates drives",
                    ":FILE:_files",
                ],
            ),
            (
                Shell::Fish,
                &[
                    "-a \"(ka-x --candidates sessions (commandline -opc) 2>/dev/null)\"",
                    "complete -c ka-x -a \"(ka-x --candidates nodes",
                ],
            ),
            (Shell::Elvish, &[]),
        ] {
            let script = script(shell, command(), "ka-x");
            for part in parts {
                assert!(script.contains(part), "{shell}: no {part} in\n{script}");
            }
            assert!(!script.contains("KA-CANDIDATES"), "{shell}:\n{script}");
        }
    }
}
