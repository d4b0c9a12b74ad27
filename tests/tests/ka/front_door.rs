//! The front door: every program has the same help, manual page, completions and errors, and `ka` leads to
//! all of them.

use anyhow::{Result, ensure};
use ka_tests::binaries;
use ka_tests::process::{Ended, Program};
use ka_tests::scratch::Scratch;
use ka_tests::terminal::Terminal;

/// The verbs of `ka`.
const VERBS: [&str; 7] = ["desc", "server", "client", "status", "pxe", "initrd", "image"];

fn run(program: &str, args: &[&str]) -> Result<Ended> {
    Program::new(binaries::path(program)?).args(args).finish()
}

#[test]
fn every_program_answers_the_same_questions() -> Result<()> {
    for verb in VERBS {
        let program = format!("ka-{verb}");
        run(&program, &["--help"])?
            .expect(0)?
            .says(&format!("Usage: {program}"))?
            .says("--completions <SHELL>")?;
        run(&program, &["--version"])?
            .expect(0)?
            .says(&format!("{program} 0."))?;
        let page = run(&program, &["--man"])?;
        page.expect(0)?
            .says(&format!(".TH {program} 8"))?
            .says(".SH OPTIONS")?;
        for (shell, part) in [
            ("bash", "complete -F"),
            ("zsh", "#compdef"),
            ("fish", "complete -c"),
        ] {
            run(&program, &["--completions", shell])?.expect(0)?.says(part)?;
        }
    }
    Ok(())
}

#[test]
fn a_slip_is_one_line_with_what_was_probably_meant() -> Result<()> {
    for (program, args, meant) in [
        ("ka-server", &["--dry-rn"][..], "--dry-run"),
        ("ka-client", &["--sesion", "x"], "--session"),
        ("ka-desc", &["--chek", "f"], "--check"),
        ("ka-status", &["--vai", "x"], "--via"),
        ("ka-pxe", &["sreve"], "serve"),
        ("ka-initrd", &["stage3"], "stage"),
        ("ka-image", &["lst"], "list"),
        ("ka", &["sever"], "ka server"),
        ("ka", &["ka-status"], "ka status"),
    ] {
        let ended = run(program, args)?;
        ended.expect(2)?;
        let said = ended.stderr.trim_end();
        ensure!(
            said.lines().count() == 1
                && said.contains(&format!("did you mean {meant}"))
                && ended.stdout.is_empty(),
            "{program} {args:?}: {said}"
        );
    }
    Ok(())
}

#[test]
fn ka_leads_to_every_program_and_says_where_to_begin() -> Result<()> {
    run("ka", &[])?.expect(0)?.says("ka server -n 3 -p sda desc")?;
    let help = run("ka", &["help"])?;
    help.expect(0)?;
    ensure!(
        help.stdout.lines().count() <= 24,
        "more than one screen:\n{}",
        help.stdout
    );
    for verb in VERBS {
        help.says(&format!("  ka {verb} "))?;
        let (short, long) = (
            run("ka", &[verb, "--help"])?,
            run(&format!("ka-{verb}"), &["--help"])?,
        );
        short.expect(0)?;
        ensure!(short.stdout == long.stdout, "ka {verb}:\n{}", short.stdout);
        ensure!(
            run("ka", &["help", verb])?.stdout == long.stdout,
            "ka help {verb}"
        );
    }
    // The exit code and the errors are the program's own.
    run("ka", &["desc", "--check", "/nonexistent"])?
        .expect(1)?
        .says("/nonexistent")?;
    run("ka", &["server", "--nonsense"])?
        .expect(2)?
        .says("see ka-server --help")?;
    Ok(())
}

/// Returns the search path with the directory of the programs in front.
fn path() -> Result<String> {
    let dir = binaries::dir()?;
    Ok(format!("{}:{}", dir.display(), std::env::var("PATH")?))
}

/// Starts a shell in a real terminal, with the completions of `ka` and its programs, as its packages would
/// set them up.
fn shell(scratch: &Scratch, name: &str) -> Result<Terminal> {
    let home = scratch.path().display().to_string();
    let env = [("PATH", &*path()?), ("HOME", &home), ("PS1", "$ ")];
    let (command, set_up) = match name {
        "bash" => (
            "bash --norc --noprofile",
            "PS1='$ '; for p in ka ka-server ka-status ka-pxe; do source <($p --completions bash); done",
        ),
        "zsh" => (
            "zsh -f",
            "PS1='$ '; autoload -U compinit; compinit -u -D; for p in ka ka-server ka-status ka-pxe; do eval \"$($p --completions zsh)\"; done",
        ),
        _ => (
            "fish --no-config",
            "function fish_prompt; echo '$ '; end; for p in ka ka-server ka-status ka-pxe; $p --completions fish | source; end",
        ),
    };
    let terminal = Terminal::start(scratch, (160, 40), command, &env)?;
    terminal.types(&format!("{set_up}; clear; echo READ''Y"))?;
    terminal.presses("Enter")?;
    terminal.wait_for("the shell", |line| line == "READY")?;
    Ok(terminal)
}

/// The name of a disk of this machine, all of it but its last letter, and whether that is enough to complete it.
fn some_drive() -> Result<Option<(String, String)>> {
    let found = run("ka-server", &["--candidates", "drives"])?;
    let drives: Vec<&str> = found.stdout.lines().collect();
    let alone = |drive: &&&str| {
        let stem = &drive[..drive.len() - 1];
        drives.iter().filter(|other| other.starts_with(stem)).count() == 1
    };
    let drive = drives.iter().find(alone);
    Ok(drive.map(|drive| (drive[..drive.len() - 1].to_owned(), (*drive).to_owned())))
}

#[test]
fn sessions_nodes_and_drives_are_completed_from_files_of_this_machine() -> Result<()> {
    let scratch = Scratch::new("values")?;
    let state = scratch.dir("state")?;
    std::fs::write(state.join("join-room77"), "")?;
    std::fs::write(state.join("nodes-room77"), "node-of-room77\n")?;
    let state = state.display();
    let mut cases = vec![
        (
            format!("ka-server --state-dir {state} -s roo"),
            " room77".to_owned(),
        ),
        (
            format!("ka server --state-dir {state} --session roo"),
            " room77".to_owned(),
        ),
        (
            format!("ka-status --state-dir {state} node-o"),
            " node-of-room77".to_owned(),
        ),
    ];
    if let Some((stem, drive)) = some_drive()? {
        cases.push((format!("ka-server -m {stem}"), format!("-m {drive}")));
        cases.push((format!("ka-server -p {stem}"), format!("-p {drive}")));
    }
    for name in ["bash", "zsh", "fish"] {
        for (typed, completed) in &cases {
            let terminal = shell(&scratch, name)?;
            terminal.types(typed)?;
            terminal.presses("Tab")?;
            terminal.wait_for(&format!("{name}: {typed:?} completed"), |line| {
                line.contains(completed.as_str())
            })?;
        }
    }
    Ok(())
}

#[test]
fn completions_work_in_the_real_shells() -> Result<()> {
    let scratch = Scratch::new("shells")?;
    for name in ["bash", "zsh", "fish"] {
        for (typed, completed) in [
            ("ka ser", "ka server"),
            ("ka-server --dry-r", "ka-server --dry-run"),
            ("ka server --dry-r", "ka server --dry-run"),
            ("ka-pxe disa", "ka-pxe disarm"),
            ("ka pxe disa", "ka pxe disarm"),
        ] {
            let terminal = shell(&scratch, name)?;
            terminal.types(typed)?;
            terminal.presses("Tab")?;
            terminal.wait_for(&format!("{name}: {typed:?} completed"), |line| {
                line.contains(completed)
            })?;
        }
    }
    Ok(())
}
