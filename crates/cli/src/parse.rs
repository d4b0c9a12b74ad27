//! Command lines: from words to options, or to an [`Answer`].

use std::ffi::OsString;

use clap::builder::EnumValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, Parser};
use clap_complete::Shell;

use crate::Answer;
use crate::complete;
use crate::manual::manual;

/// Reads a command line. Its first word is the program.
///
/// Every program also takes `--man` (its manual page in roff) and `--completions SHELL`. Both win over other options, as
/// `--help` does, and refuse a subcommand.
///
/// # Errors
/// The answer to a command line that asks for no work: help, version, manual page, completion script, or the
/// fault and what to do.
pub fn parse<O: Parser>(args: impl IntoIterator<Item = impl Into<OsString>>) -> Result<O, Answer> {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let name = O::command().get_name().to_owned();
    // These come before the parser, which would miss the options and subcommands that a program needs.
    match args.get(1..).unwrap_or_default() {
        [option] if option == "--man" => return Err(Answer::Text(manual(command::<O>()))),
        [option, shell] if option == "--completions" => {
            let shell = shell.to_str().and_then(|name| name.parse::<Shell>().ok());
            return Err(shell.map_or_else(|| no_shell(&name), |shell| completions::<O>(shell, &name)));
        }
        // For the scripts only, so no help shows it.
        [option, kind, typed @ ..] if option == "--candidates" => {
            let words = |word: &OsString| word.to_string_lossy().into_owned();
            let typed: Vec<String> = typed.iter().map(words).collect();
            return Err(Answer::Text(complete::candidates(
                &kind.to_string_lossy(),
                &typed,
            )));
        }
        _ => {}
    }
    let mut matches = command::<O>()
        .try_get_matches_from(args)
        .map_err(|error| answer(&error, &O::command()))?;
    let shell = matches.get_one::<Shell>(COMPLETIONS).copied();
    let is_alone = matches.subcommand_name().is_none();
    match shell {
        _ if matches.get_flag(MAN) && is_alone => Err(Answer::Text(manual(command::<O>()))),
        _ if matches.get_flag(MAN) => Err(alone("--man", &name)),
        Some(shell) if is_alone => Err(completions::<O>(shell, &name)),
        Some(_) => Err(alone("--completions", &name)),
        None => O::from_arg_matches_mut(&mut matches).map_err(|error| answer(&error, &O::command())),
    }
}

/// Name of the option for the manual page in the parser.
const MAN: &str = "ka-man";
/// Name of the option for completion scripts in the parser.
const COMPLETIONS: &str = "ka-completions";

/// The program's options, and those that every program has.
fn command<O: Parser>() -> Command {
    let man = Arg::new(MAN)
        .long("man")
        .help("Print the manual page (roff)")
        .action(ArgAction::SetTrue);
    let completions = Arg::new(COMPLETIONS)
        .long("completions")
        .value_name("SHELL")
        .help("Print the completion script of a shell")
        .value_parser(EnumValueParser::<Shell>::new());
    let ours = [man, completions].map(|arg| arg.display_order(DISPLAY_LAST));
    O::command().args(ours)
}

/// Display order behind the program's own options.
const DISPLAY_LAST: usize = 9999;

/// The parser would let a subcommand stand behind it.
fn alone(option: &str, name: &str) -> Answer {
    Answer::Wrong(format!(
        "{option} takes no command: leave it out; see {name} --help"
    ))
}

fn no_shell(name: &str) -> Answer {
    Answer::Wrong(format!(
        "--completions: name bash, zsh, fish, elvish or powershell; see {name} --help"
    ))
}

fn completions<O: Parser>(shell: Shell, name: &str) -> Answer {
    Answer::Text(complete::script(shell, command::<O>(), name))
}

/// Returns `: serve, menu or arm`.
fn one_of(command: &Command) -> String {
    let names: Vec<&str> = command
        .get_subcommands()
        .map(Command::get_name)
        .filter(|name| *name != "help")
        .collect();
    match names.split_last() {
        Some((last, [])) => format!(": {last}"),
        Some((last, others)) => format!(": {} or {last}", others.join(", ")),
        None => String::new(),
    }
}

fn answer(error: &clap::Error, command: &Command) -> Answer {
    let name = command.get_name();
    let rendered = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Answer::Text(rendered),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => Answer::Wrong(
            format!("a command is missing{}; see {name} --help", one_of(command)),
        ),
        _ => Answer::Wrong(usage_line(&rendered, suggestion(error, command).as_deref(), name)),
    }
}

/// Names the option, command or value that was probably meant.
fn suggestion(error: &clap::Error, command: &Command) -> Option<String> {
    suggestion_of_clap(error).or_else(|| swapped(error, command))
}

/// Names the option that differs from the one given by one letter or by two that changed places. clap compares by Jaro
/// similarity, which sees no likeness in short words.
fn swapped(error: &clap::Error, command: &Command) -> Option<String> {
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let given = given.strip_prefix("--")?;
    let options = command.get_arguments().filter(|option| !option.is_hide_set());
    let mut names = options.filter_map(clap::Arg::get_long);
    let name = names.find(|name| strsim::damerau_levenshtein(name, given) == 1)?;
    Some(format!("--{name}"))
}

fn suggestion_of_clap(error: &clap::Error) -> Option<String> {
    let kinds = [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ];
    match kinds.into_iter().find_map(|kind| error.get(kind))? {
        ContextValue::String(one) => Some(one.clone()),
        ContextValue::Strings(several) => several.first().cloned(),
        _ => None,
    }
}

/// Returns one line of clap's several: its first paragraph, the word that was probably meant, and where to
/// read more.
fn usage_line(rendered: &str, suggestion: Option<&str>, name: &str) -> String {
    let paragraph = rendered
        .lines()
        .take_while(|line| !line.is_empty())
        .map(str::trim);
    let message = paragraph.collect::<Vec<_>>().join(" ");
    let message = message.trim_start_matches("error: ");
    let meant = suggestion.map_or_else(String::new, |word| format!("; did you mean {word}?"));
    format!("{message}{meant}; see {name} --help")
}

#[cfg(test)]
mod tests {
    use clap::{Parser, Subcommand};

    use super::{parse, usage_line};
    use crate::Answer;

    /// Do things.
    #[derive(Debug, Parser)]
    #[command(name = "ka-x", version, subcommand_required = true)]
    struct Options {
        #[command(subcommand)]
        command: Things,
    }

    #[derive(Debug, Subcommand)]
    enum Things {
        /// Make it
        Make {
            /// Where
            #[arg(long)]
            place: String,
        },
        /// Break it
        Break,
    }

    fn parsed(line: &str) -> Result<Options, Answer> {
        parse(line.split(' '))
    }

    fn text(line: &str) -> String {
        match parsed(line) {
            Err(Answer::Text(text)) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn wrong(line: &str) -> String {
        match parsed(line) {
            Err(Answer::Wrong(text)) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn options_are_read() {
        let Ok(Options {
            command: Things::Make { place },
        }) = parsed("ka-x make --place here")
        else {
            panic!("not read")
        };
        assert_eq!(place, "here");
        assert!(matches!(
            parsed("ka-x break"),
            Ok(Options {
                command: Things::Break
            })
        ));
    }

    #[test]
    fn wrong_usage_is_one_line_with_what_was_meant() {
        for (line, part) in [
            ("ka-x", "a command is missing: make or break"),
            ("ka-x mak", "did you mean make?"),
            ("ka-x make --plce here", "did you mean --place?"),
            ("ka-x make", "--place"),
            ("ka-x --man break", "--man"),
            ("ka-x --completions tcsh", "bash, zsh, fish"),
            ("ka-x --completions zsh break", "--completions"),
            ("ka-x --completions", "--completions"),
        ] {
            let said = wrong(line);
            assert!(
                said.contains(part) && said.ends_with("; see ka-x --help"),
                "{line}: {said}"
            );
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }

    #[test]
    fn wrong_usage_keeps_the_first_paragraph_of_clap() {
        let rendered = "error: the argument '--a'\n  cannot be used with '--b'\n\nUsage: x\n";
        let line = "the argument '--a' cannot be used with '--b'; see ka-x --help";
        assert_eq!(usage_line(rendered, None, "ka-x"), line);
    }

    #[test]
    fn every_program_has_help_version_manual_and_completions() {
        for (line, parts) in [
            (
                "ka-x --help",
                &["Usage: ka-x", "--man", "--completions <SHELL>"][..],
            ),
            ("ka-x --version", &["ka-x 0."]),
            (
                "ka-x --man",
                &[".TH ka-x 8", "KA-X MAKE", "\\-\\-place", "\\-\\-completions"],
            ),
            ("ka-x --completions bash", &["complete -F", "--place"]),
            ("ka-x --completions zsh", &["#compdef ka-x", "--place"]),
            ("ka-x --completions fish", &["complete -c ka-x", "place"]),
        ] {
            let text = text(line);
            for part in parts {
                assert!(text.contains(part), "{line}: no {part} in\n{text}");
            }
        }
    }
}
