//! Bad input of the command line and of desc files: one clear line, the right exit code, nothing written.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use ka_tests::binaries;
use ka_tests::process::{Ended, Program};
use ka_tests::scratch::Scratch;

use crate::kit::Kit;

fn run(binary: &str, args: &[&str]) -> Result<Ended> {
    let state = Scratch::new("options")?;
    let mut program = Program::new(binaries::path(binary)?);
    if binary == "ka-server" {
        program = program.arg("--state-dir").arg(state.path());
    }
    program.args(args).finish()
}

/// Insists on exactly one line that begins with `error: `, beside any other output.
fn expect_one_error_line(ended: &Ended) -> Result<()> {
    let errors = ended
        .stderr
        .lines()
        .filter(|line| line.starts_with("error:"))
        .count();
    ensure!(errors == 1, "{errors} error lines:\n{}", ended.stderr);
    ensure!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    Ok(())
}

#[test]
fn wrong_usage_is_exit_code_two_and_names_the_option() -> Result<()> {
    let cases: [(&str, &[&str], &str); 16] = [
        ("ka-server", &["-n", "0"], "--clients"),
        ("ka-server", &["-n", "many"], "--clients"),
        ("ka-server", &["-p", "sda"], "-p"),
        ("ka-server", &["-p", "sda", "/no/such/desc"], "/no/such/desc"),
        ("ka-server", &["-M", "sda", "/dev/null"], "446"),
        ("ka-server", &["-M", "sda", "/no/such/code"], "/no/such/code"),
        ("ka-server", &["-x", "relative"], "-x"),
        ("ka-server", &["-d", "soon"], "-d"),
        ("ka-server", &["--no-such-option"], "--no-such-option"),
        ("ka-server", &["--root", "/no/such/root"], "/no/such/root"),
        ("ka-client", &[], "--join"),
        ("ka-client", &["--join", "KA1-WRONG"], "--join"),
        ("ka-client", &["--join-file", "/no/such/file"], "/no/such/file"),
        ("ka-client", &["--disk", "sda"], "--disk"),
        ("ka-client", &["--name", "bad name!"], "--name"),
        ("ka-client", &["--name", "n7$(id>/pwned)"], "--name"),
    ];
    for (binary, args, named) in cases {
        let ended = run(binary, args)?;
        ended.expect(2).with_context(|| format!("{binary} {args:?}"))?;
        ended.says(named).with_context(|| format!("{binary} {args:?}"))?;
        expect_one_error_line(&ended).with_context(|| format!("{binary} {args:?}"))?;
    }
    Ok(())
}

#[test]
fn a_hardware_address_is_taken_as_people_and_switches_write_it() -> Result<()> {
    let state = Scratch::new("options-mac")?;
    let pxe = |args: &[&str]| {
        let program = Program::new(binaries::path("ka-pxe")?).args(args);
        program.arg("--state-dir").arg(state.path()).finish()
    };
    for written in [
        "5254.0012.3456",
        "525400123456",
        "52-54-00-12-34-56",
        "52:54:00:12:34:56",
    ] {
        pxe(&["arm", written])?.expect(0)?;
    }
    let listed = pxe(&["list"])?;
    listed.expect(0)?.says("52:54:00:12:34:56")?;
    ensure!(listed.stdout.lines().count() == 1, "{}", listed.stdout);
    let refused = pxe(&["arm", "5254.0012.34"])?;
    refused
        .expect(2)?
        .says("is no MAC address: twelve hex digits")
        .map(drop)
}

#[test]
fn boot_code_must_have_446_bytes() -> Result<()> {
    let scratch = Scratch::new("code")?;
    let file = scratch.path().join("code");
    for size in [445, 447, 512] {
        fs::write(&file, vec![1; size])?;
        run("ka-server", &["-M", "sda", &file.display().to_string()])?
            .expect(2)?
            .says("446")?;
    }
    Ok(())
}

#[test]
fn help_and_version_are_no_errors() -> Result<()> {
    for binary in ["ka-server", "ka-client", "ka-desc", "ka-pxe", "ka-image"] {
        run(binary, &["--help"])?.expect(0)?.says("Usage")?;
        run(binary, &["--version"])?.expect(0)?.says("0.1.0")?;
    }
    Ok(())
}

#[test]
fn man_pages_can_be_written() -> Result<()> {
    for binary in ["ka-server", "ka-client", "ka-desc", "ka-pxe", "ka-image"] {
        run(binary, &["--man"])?.expect(0)?.says(".TH")?;
    }
    Ok(())
}

#[test]
fn a_bad_desc_file_names_file_and_line_and_nothing_is_opened() -> Result<()> {
    let kit = Kit::small("baddesc", 0)?;
    let cases = [
        ("linux 100\nfrobnicate 5\n", "desc:2:"),
        ("linux lots\n", "desc:1:"),
        ("linux fill\nlinux fill\n", "desc:2:"),
        ("linux 90\nlinux 90\nlinux 90\nlinux 90\nlinux 90\n", "desc:5:"),
        ("logical linux 5\n", "desc:1:"),
        ("linux 5 trailing garbage\n", "desc:1:"),
        ("# fine\n\ntype0x 5\n", "desc:3:"),
    ];
    for (text, place) in cases {
        let desc = kit.desc(text)?;
        let ended = kit
            .lab
            .server_program()?
            .args(["-n", "1", "--root"])
            .arg(kit.golden.root())
            .args(desc)
            .finish()?;
        ensure!(
            matches!(ended.code, Some(1 | 2)),
            "{text:?}: {}: {}",
            ended.how(),
            ended.all()
        );
        ended.says(place).with_context(|| format!("{text:?}"))?;
        expect_one_error_line(&ended)?;
    }
    Ok(())
}

#[test]
fn an_unknown_drive_is_refused_with_the_drives_there_are() -> Result<()> {
    let kit = Kit::small("nodrive", 0)?;
    let desc = kit.desc("linux fill\n")?;
    let server = kit
        .lab
        .server_program()?
        .args(["-n", "1", "--root"])
        .arg(kit.golden.root());
    let ended = server.args(["-p", "sdzz", &desc[2]]).finish()?;
    ensure!(matches!(ended.code, Some(1 | 2)), "{}", ended.all());
    ended.says("sdzz")?.says(&kit.golden.disk().name())?;
    expect_one_error_line(&ended)
}

#[test]
fn ka_desc_describes_a_disk_and_checks_a_file() -> Result<()> {
    let kit = Kit::small("kadesc", 0)?;
    let file = kit.lab.scratch().path().join("made");
    let made = run("ka-desc", &[&kit.golden.disk().device().display().to_string()])?;
    made.expect(0)?.says("swap 16")?.says("linux")?;
    fs::write(&file, &made.stdout)?;
    run("ka-desc", &["--check", &file.display().to_string()])?.expect(0)?;
    fs::write(&file, "swap 16\nnonsense\n")?;
    let ended = run("ka-desc", &["--check", &file.display().to_string()])?;
    ensure!(ended.code != Some(0), "a bad desc file passed");
    ended.says(":2:").map(drop)
}

#[test]
fn every_desc_example_is_accepted() -> Result<()> {
    let dir = binaries::workspace().join("desc-examples");
    let mut count = 0;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            continue;
        }
        count += 1;
        run("ka-desc", &["--check", &path.display().to_string()])?
            .expect(0)
            .with_context(|| path.display().to_string())?;
    }
    ensure!(count >= 10, "only {count} examples");
    Ok(())
}

/// One try shows all mistakes: each line names its option, and the next try may succeed.
#[test]
fn everything_that_is_wrong_is_said_in_one_go() -> Result<()> {
    let wrong: [(&[&str], &str); 12] = [
        (&["--pxe", "nosuch0"], "nosuch0"),
        (&["--dhcp", "full:10.77.0.9-10.77.0.3"], "ends before it begins"),
        (&["--boot-files", "/no/such/boot-files"], "/no/such/boot-files"),
        (&["--nodes", "/no/such/list"], "/no/such/list"),
        (&["--client", "/bin/sh"], "/bin/sh"),
        (&["--arm", "all"], "--arm all"),
        (&["--stage2", "/no/such/stage2"], "/no/such/stage2"),
        (&["-x", "tmp"], "-x tmp"),
        (&["-r", "grubb"], "grubb"),
        (&["--spool", "/no/such/spool"], "/no/such/spool"),
        (&["--log-dir", "/proc/version/logs"], "--log-dir"),
        (&["--listen", "192.0.2.7"], "192.0.2.7"),
    ];
    let all: Vec<&str> = wrong.iter().flat_map(|(args, _)| args.iter().copied()).collect();
    for dry in [&[][..], &["--dry-run"]] {
        let ended = run(
            "ka-server",
            &[&all[..], &["--join-file", "/no/such/dir/join"], dry].concat(),
        )?;
        ended.expect(2)?.says("--join-file /no/such/dir/join")?;
        for (_, named) in wrong {
            let line = ended.stderr.lines().find(|line| line.contains(named));
            ensure!(
                line.is_some_and(|line| line.starts_with("error: ")),
                "{named} is not said:\n{}",
                ended.all()
            );
        }
        ensure!(ended.stderr.lines().count() == 13, "{}", ended.all());
    }
    Ok(())
}
