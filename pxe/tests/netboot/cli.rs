//! `ka-pxe` as the operator sees it: errors that say what to do, a clean end, the preview.

use std::net::{TcpListener, UdpSocket};

use anyhow::{Result, ensure};
use ka_lab::netns::GOLDEN_ADDRESS;
use ka_lab::process::{Ended, Program};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::boot_network::BootNetwork;

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
    let net = BootNetwork::new("cli-errors", None)?;
    let missing = net.path("missing").display().to_string();
    let plain = |args: &[&str]| net.program().args(args).finish();
    let nodes = net.path("nodes");
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
            net.serve_program(&["--nodes", &nodes]).finish()?,
            1,
            ["nodes:2:", "MAC"],
        ),
        (
            net.serve_program(&["--boot-files", &missing]).finish()?,
            2,
            ["--boot-files", "ka-pxe --help"],
        ),
        (
            net.serve_program(&["--arm", "all"]).finish()?,
            1,
            ["--arm all", "-n NUM"],
        ),
        (
            net.serve_program(&["--append", "a\nb"]).finish()?,
            1,
            ["--append", "line break"],
        ),
        (
            net.serve_program(&["--append", "x=${y}"]).finish()?,
            1,
            ["--append", "${"],
        ),
        (
            net.serve_program(&["--dhcp", "proxy", "--router", "10.0.0.1"])
                .finish()?,
            1,
            ["--router", "full"],
        ),
        (
            net.serve_program(&["--dhcp", "some"]).finish()?,
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
    let net = BootNetwork::new("cli-ports", None)?;
    let golden = net.network.golden();
    let tftp = golden.enter(|| UdpSocket::bind((GOLDEN_ADDRESS, 69)))??;
    let ended = net.serve_program(&[]).finish()?;
    ended
        .expect(1)?
        .says("TFTP port 10.77.0.1:69")?
        .says("--tftp-port")?;
    drop(tftp);
    let _http = golden.enter(|| TcpListener::bind((GOLDEN_ADDRESS, 80)))??;
    let ended = net.serve_program(&[]).finish()?;
    ended
        .expect(1)?
        .says("HTTP port 10.77.0.1:80")?
        .says("--http-port")?;
    let _server = net.serve(&["--http-port", "8080"])?;
    ensure!(
        net.http(
            "ipxe/52-54-00-00-00-01.ipxe",
            &["--connect-to", "::10.77.0.1:8080"]
        )?
        .contains("http://10.77.0.1:8080/vmlinuz")
    );
    Ok(())
}

#[test]
fn without_root_it_says_so() -> Result<()> {
    let net = BootNetwork::new("cli-root", None)?;
    net.network
        .golden()
        .run("sysctl -qw net.ipv4.ip_unprivileged_port_start=1024")?;
    let state = tempfile::tempdir()?;
    nix::unistd::chown(state.path(), Some(65534.into()), None)?;
    // Other users may be unable to read the test's own directory, so the program runs from a copy that
    // everyone can read.
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
        .inside(net.network.golden())
        .finish()?;
    ended.expect(1)?.says("permission denied")?.says("root")?;
    expect_one_error_line(&ended)
}

#[test]
fn ctrl_c_ends_it_cleanly_and_the_ports_are_free_again() -> Result<()> {
    let net = BootNetwork::new("cli-stop", None)?;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let server = net.serve(&[])?;
        kill(Pid::from_raw(i32::try_from(server.pid())?), signal)?;
        let ended = server.wait()?;
        ended.expect(0)?.says("stopped")?;
        ensure!(ended.stderr.is_empty(), "{}", ended.stderr);
    }
    Ok(())
}

#[test]
fn the_menu_of_a_machine_is_printed_in_every_form_and_takes_no_place() -> Result<()> {
    let net = BootNetwork::new("cli-menu", None)?;
    let menu = |args: &[&str]| -> Result<String> {
        let program = net
            .program()
            .args(["menu", "52:54:00:00:00:01", "--iface", "eth0", "--state-dir"]);
        program
            .arg(net.path("state"))
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
    let listed = net
        .program()
        .args(["list", "--state-dir"])
        .arg(net.path("state"))
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
