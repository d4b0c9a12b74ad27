//! `ka-pxe` as the operator sees it: errors that say what to do, a clean end, the preview.

use std::net::{TcpListener, UdpSocket};

use anyhow::{Result, ensure};
use ka_tests::netns::GOLDEN_ADDRESS;
use ka_tests::process::{Ended, Program};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::kit::Kit;

fn expect_one_error_line(ended: &Ended) -> Result<()> {
    let lines: Vec<&str> = ended.stderr.lines().collect();
    ensure!(
        matches!(lines[..], [line] if line.starts_with("error: ")),
        "{lines:?}"
    );
    Ok(())
}

#[test]
fn what_keeps_it_from_starting_is_said_in_one_line_with_the_way_out() -> Result<()> {
    let kit = Kit::new("cli-errors", None)?;
    let missing = kit.path("missing").display().to_string();
    let plain = |args: &[&str]| kit.program().args(args).finish();
    let nodes = kit.path("nodes");
    std::fs::write(&nodes, "\n52:54 x\n")?;
    let nodes = nodes.display().to_string();
    for (ended, code, parts) in [
        (
            plain(&["serve", "--iface", "eth7", "--kernel", &missing])?,
            1,
            ["eth7", "eth0, lo"],
        ),
        (
            plain(&["serve", "--iface", "eth0", "--kernel", &missing])?,
            1,
            ["missing", "No such file"],
        ),
        (
            kit.serve_program(&["--nodes", &nodes]).finish()?,
            1,
            ["nodes:2:", "MAC"],
        ),
        (
            kit.serve_program(&["--boot-files", &missing]).finish()?,
            2,
            ["--boot-files", "ka-pxe --help"],
        ),
        (
            kit.serve_program(&["--arm", "all"]).finish()?,
            1,
            ["--arm all", "-n NUM"],
        ),
        (
            kit.serve_program(&["--append", "a\nb"]).finish()?,
            1,
            ["--append", "line break"],
        ),
        (
            kit.serve_program(&["--append", "x=${y}"]).finish()?,
            1,
            ["--append", "${"],
        ),
        (
            kit.serve_program(&["--dhcp", "proxy", "--router", "10.0.0.1"])
                .finish()?,
            1,
            ["--router", "full"],
        ),
        (
            kit.serve_program(&["--dhcp", "some"]).finish()?,
            2,
            ["--dhcp", "proxy"],
        ),
    ] {
        ended.expect(code)?;
        expect_one_error_line(&ended)?;
        for part in parts {
            ended.says(part)?;
        }
    }
    Ok(())
}

#[test]
fn a_port_that_is_taken_is_named_with_the_option_that_changes_it() -> Result<()> {
    let kit = Kit::new("cli-ports", None)?;
    let golden = kit.network.golden();
    let tftp = golden.enter(|| UdpSocket::bind((GOLDEN_ADDRESS, 69)))??;
    let ended = kit.serve_program(&[]).finish()?;
    ended
        .expect(1)?
        .says("TFTP port 10.77.0.1:69")?
        .says("--tftp-port")?;
    drop(tftp);
    let _http = golden.enter(|| TcpListener::bind((GOLDEN_ADDRESS, 80)))??;
    let ended = kit.serve_program(&[]).finish()?;
    ended
        .expect(1)?
        .says("HTTP port 10.77.0.1:80")?
        .says("--http-port")?;
    let _server = kit.serve(&["--http-port", "8080"])?;
    ensure!(
        kit.http(
            "ipxe/52-54-00-00-00-01.ipxe",
            &["--connect-to", "::10.77.0.1:8080"]
        )?
        .contains("http://10.77.0.1:8080/vmlinuz")
    );
    Ok(())
}

#[test]
fn without_root_it_says_so() -> Result<()> {
    let kit = Kit::new("cli-root", None)?;
    kit.network
        .golden()
        .run("sysctl -qw net.ipv4.ip_unprivileged_port_start=1024")?;
    let state = tempfile::tempdir()?;
    nix::unistd::chown(state.path(), Some(65534.into()), None)?;
    // The test's own directory may be nobody's business: the program is run from where everyone can read it.
    let copy = state.path().join("ka-pxe");
    std::fs::copy(env!("CARGO_BIN_EXE_ka-pxe"), &copy)?;
    for name in ["pxelinux.0", "ldlinux.c32", "kernel"] {
        std::fs::write(state.path().join(name), name)?;
    }
    let ended = Program::new("setpriv")
        .args(["--reuid", "65534", "--clear-groups"])
        .arg(&copy)
        .args(["serve", "--iface", "eth0", "--kernel"])
        .arg(state.path().join("kernel"))
        .arg("--boot-files")
        .arg(state.path())
        .arg("--state-dir")
        .arg(state.path())
        .inside(kit.network.golden())
        .finish()?;
    ended.expect(1)?.says("permission denied")?.says("root")?;
    expect_one_error_line(&ended)
}

#[test]
fn ctrl_c_ends_it_cleanly_and_the_ports_are_free_again() -> Result<()> {
    let kit = Kit::new("cli-stop", None)?;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let server = kit.serve(&[])?;
        kill(Pid::from_raw(i32::try_from(server.pid())?), signal)?;
        let ended = server.wait()?;
        ended.expect(0)?.says("stopped")?;
        ensure!(ended.stderr.is_empty(), "{}", ended.stderr);
    }
    Ok(())
}

#[test]
fn the_menu_of_a_machine_is_printed_in_every_form_and_takes_no_place() -> Result<()> {
    let kit = Kit::new("cli-menu", None)?;
    let menu = |args: &[&str]| -> Result<String> {
        let program = kit
            .program()
            .args(["menu", "52:54:00:00:00:01", "--iface", "eth0", "--state-dir"]);
        program
            .arg(kit.path("state"))
            .args(["--arm", "all", "-n", "1"])
            .args(args)
            .run()
    };
    let all = menu(&[])?;
    for part in [
        "LABEL kamethod",
        "#!ipxe",
        "menuentry 'kamethod",
        "set default=kamethod",
        "BOOTIF=$net_default_mac",
    ] {
        ensure!(all.contains(part), "{part} is not in\n{all}");
    }
    for (form, has, has_not) in [
        ("pxelinux", "IPAPPEND 2", "#!ipxe"),
        ("ipxe", "#!ipxe", "LABEL"),
        ("grub", "menuentry", "#!ipxe"),
    ] {
        let one = menu(&["--form", form])?;
        ensure!(one.contains(has) && !one.contains(has_not), "{form}:\n{one}");
    }
    let listed = kit
        .program()
        .args(["list", "--state-dir"])
        .arg(kit.path("state"))
        .run()?;
    ensure!(listed.is_empty(), "{listed}");
    Ok(())
}

#[test]
fn help_version_and_the_man_page_are_no_errors() -> Result<()> {
    let run = |args: &[&str]| Program::new(env!("CARGO_BIN_EXE_ka-pxe")).args(args).finish();
    run(&["--help"])?.expect(0)?.says("Usage")?;
    run(&["--version"])?.expect(0)?.says("0.1.0")?;
    let page = run(&["--man"])?;
    page.expect(0)?;
    for part in [".TH", "KA\\-PXE SERVE", "\\-\\-boot\\-files", "\\-\\-form"] {
        ensure!(
            page.stdout.replace("KA-PXE", "KA\\-PXE").contains(part),
            "{part} is not in the page"
        );
    }
    Ok(())
}
