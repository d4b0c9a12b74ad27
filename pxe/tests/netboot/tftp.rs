//! TFTP with three real clients (tftp-hpa, atftp, curl), on a good wire and on a lossy one.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use ka_lab::netns::GOLDEN_ADDRESS;
use ka_lab::process::Program;

use crate::boot_network::{BootNetwork, expect_file};
use crate::proxy::BadWire;

/// File sizes in bytes: around the edges of blocks, and one of many blocks.
const SIZES: [usize; 8] = [0, 1, 511, 512, 513, 1468, 2 * 1468, 400_000];

/// Function that fetches NAME from HOST and PORT into TO with one client.
type Fetch = fn(&BootNetwork, &str, u16, &str, &Path) -> Program;

fn tftp_hpa(net: &BootNetwork, host: &str, port: u16, name: &str, to: &Path) -> Program {
    let client = net
        .on_node("tftp")
        .args(["-m", "binary", host, &port.to_string()]);
    client.args(["-c", "get", name]).arg(to)
}

fn atftp(net: &BootNetwork, host: &str, port: u16, name: &str, to: &Path) -> Program {
    let client = net
        .on_node("atftp")
        .args(["--get", "--option", "blksize 1468"])
        .args(["--option", "windowsize 8", "--option", "tsize"])
        .args(["--remote-file", name, "--local-file"]);
    client.arg(to).args([host, &port.to_string()])
}

fn curl(net: &BootNetwork, host: &str, port: u16, name: &str, to: &Path) -> Program {
    let client = net
        .on_node("curl")
        .args(["-sS", "--tftp-blksize", "1024", "-o"])
        .arg(to);
    client.arg(format!("tftp://{host}:{port}/{name}"))
}

fn curl_plain(net: &BootNetwork, host: &str, port: u16, name: &str, to: &Path) -> Program {
    let client = net
        .on_node("curl")
        .args(["-sS", "--tftp-no-options", "-o"])
        .arg(to);
    client.arg(format!("tftp://{host}:{port}/{name}"))
}

const CLIENTS: [(&str, Fetch); 3] = [("tftp-hpa", tftp_hpa), ("atftp", atftp), ("curl", curl)];

#[test]
fn three_real_clients_fetch_files_of_every_size() -> Result<()> {
    let net = BootNetwork::new("tftp-clients", None)?;
    let contents: Vec<(String, Vec<u8>)> = SIZES
        .iter()
        .map(|size| {
            let name = format!("file{size}");
            net.put(&name, *size as u64, *size).map(|content| (name, content))
        })
        .collect::<Result<_>>()?;
    let server = net.serve(&[])?;
    for (client, fetch) in CLIENTS {
        // curl 7.88 fails on an empty file by itself ("getpeername() failed"), with any server.
        let skipped = usize::from(client == "curl");
        for (name, content) in &contents[skipped..] {
            let to = net.path(&format!("{client}-{name}"));
            let fetched = fetch(&net, GOLDEN_ADDRESS, 69, name, &to).run();
            fetched.with_context(|| format!("{client} {name}"))?;
            // tftp-hpa creates no file if the content is empty.
            if !content.is_empty() || to.exists() {
                expect_file(&to, content)?;
            }
        }
    }
    ensure!(
        server
            .said()
            .contains("fetched file400000 (400000 bytes by TFTP in "),
        "{}",
        server.said()
    );
    Ok(())
}

#[test]
fn three_real_clients_get_every_byte_through_a_wire_that_loses_and_reorders() -> Result<()> {
    let net = BootNetwork::new("tftp-badwire", None)?;
    let content = net.put("large", 7, 150_000)?;
    let _server = net.serve(&[])?;
    // curl starts anew at a late OACK, and hangs. It asks without options here.
    let clients = [
        ("tftp-hpa", tftp_hpa as Fetch),
        ("atftp", atftp),
        ("curl", curl_plain),
    ];
    for (index, (client, fetch)) in clients.into_iter().enumerate() {
        let wire = BadWire::new(net.node(), 41 + index as u64)?;
        let to = net.path(client);
        let fetched = fetch(&net, "127.0.0.1", wire.port, "large", &to).run();
        fetched.with_context(|| format!("{client}, {} packets lost", wire.dropped()))?;
        expect_file(&to, &content).with_context(|| client.to_owned())?;
        ensure!(
            wire.dropped() > 5,
            "{client}: the wire lost {} packets only",
            wire.dropped()
        );
    }
    Ok(())
}

#[test]
fn block_numbers_roll_over_in_a_file_of_more_than_65535_blocks() -> Result<()> {
    let net = BootNetwork::new("tftp-rollover", None)?;
    let small = net.put("small-blocks", 3, 70_000 * 8 + 5)?;
    let large = net.put("large", 4, 65_540 * 512 + 100)?;
    let _server = net.serve(&[])?;
    let to = net.path("by-curl");
    let client = net
        .on_node("curl")
        .args(["-sS", "--tftp-blksize", "8", "-o"])
        .arg(&to);
    client
        .arg(format!("tftp://{GOLDEN_ADDRESS}/small-blocks"))
        .run()?;
    expect_file(&to, &small)?;
    let to = net.path("by-tftp-hpa");
    tftp_hpa(&net, GOLDEN_ADDRESS, 69, "large", &to).run()?;
    expect_file(&to, &large)
}

#[test]
fn nothing_but_the_table_can_be_named() -> Result<()> {
    let net = BootNetwork::new("tftp-escape", None)?;
    let _server = net.serve(&[])?;
    for name in [
        "/etc/passwd",
        "../../../../etc/passwd",
        "..\\..\\..\\etc\\passwd",
        "pxelinux.0/../../etc/passwd",
        "pxelinux.cfg/../../../etc/passwd",
        "boot/../kernel",
        "kernel",
    ] {
        let to = net.path("escaped");
        let client = net.on_node("curl").args(["-sS", "--path-as-is", "-o"]).arg(&to);
        let ended = client.arg(format!("tftp://{GOLDEN_ADDRESS}/{name}")).finish()?;
        // Exit code of curl for "remote file not found".
        ended.expect(68).with_context(|| name.to_owned())?;
    }
    Ok(())
}

#[test]
fn firmware_spellings_of_a_name_find_the_file_and_writing_is_refused() -> Result<()> {
    let net = BootNetwork::new("tftp-names", None)?;
    let content = net.put("pxelinux.0", 5, 30_000)?;
    let _server = net.serve(&[])?;
    for name in ["/pxelinux.0", "//pxelinux.0", "\\PXELINUX.0", "./pxelinux.0"] {
        let to = net.path("spelled");
        tftp_hpa(&net, GOLDEN_ADDRESS, 69, name, &to).run()?;
        expect_file(&to, &content).with_context(|| name.to_owned())?;
    }
    let put = net
        .on_node("tftp")
        .args(["-m", "binary", GOLDEN_ADDRESS, "-c", "put"]);
    put.arg(net.path("kernel"))
        .arg("pxelinux.0")
        .finish()?
        .says("read only")?;
    let to = net.path("after");
    tftp_hpa(&net, GOLDEN_ADDRESS, 69, "pxelinux.0", &to).run()?;
    expect_file(&to, &content)
}

#[test]
fn text_is_sent_as_netascii_to_who_asks_for_it() -> Result<()> {
    let net = BootNetwork::new("tftp-netascii", None)?;
    std::fs::write(net.boot_files().join("text"), "one\ntwo\r\nthree\r")?;
    let _server = net.serve(&[])?;
    let to = net.path("text");
    let client = net
        .on_node("tftp")
        .args(["-m", "ascii", GOLDEN_ADDRESS, "-c", "get", "text"]);
    client.arg(&to).run()?;
    expect_file(&to, b"one\ntwo\r\nthree\r")
}
