//! HTTP as boot programs use it, with curl.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ka_lab::netns::GOLDEN_ADDRESS;

use crate::boot_network::{BootNetwork, bytes, expect_file};

#[test]
fn curl_gets_a_whole_file_its_head_and_its_parts() -> Result<()> {
    let net = BootNetwork::new("http-curl", None)?;
    let server = net.serve(&[])?;
    let content = bytes(2, 3_000_001);
    let to = net.path("got");
    let to_text = to.display().to_string();
    net.http("initrd.img", &["-o", &to_text])?;
    expect_file(&to, &content)?;
    ensure!(
        server
            .said()
            .contains("fetched initrd.img (3000001 bytes by HTTP in "),
        "{}",
        server.said()
    );

    let head = net.http("initrd.img", &["-I"])?.to_lowercase();
    for line in [
        "http/1.1 200 ok",
        "content-length: 3000001",
        "accept-ranges: bytes",
    ] {
        ensure!(head.contains(line), "{line} is not in {head}");
    }
    for (range, part) in [
        ("0-0", 0..1),
        ("1000-1999", 1000..2000),
        ("2999990-", 2_999_990..3_000_001),
        ("-7", 2_999_994..3_000_001),
    ] {
        let head = net
            .http("initrd.img", &["-r", range, "-o", &to_text, "-D", "-"])?
            .to_lowercase();
        let told = format!("content-range: bytes {}-{}/3000001", part.start, part.end - 1);
        ensure!(
            head.contains("206 partial content") && head.contains(&told),
            "{head}"
        );
        expect_file(&to, &content[part]).with_context(|| range.to_owned())?;
    }
    Ok(())
}

/// GRUB looks for `Content-Length: ` in exactly this case. Other programs ignore case, as RFC 9110 §5.1
/// wants.
#[test]
fn headers_are_written_as_boot_programs_compare_them() -> Result<()> {
    let net = BootNetwork::new("http-case", None)?;
    let _server = net.serve(&[])?;
    for (options, wanted) in [
        (
            &["-D", "-", "-o", "/dev/null"][..],
            "\r\nContent-Length: 3000001\r\n",
        ),
        (&["-I"], "\r\nContent-Length: 3000001\r\n"),
        (
            &["-r", "5-9", "-D", "-", "-o", "/dev/null"],
            "\r\nContent-Range: bytes 5-9/3000001\r\n",
        ),
        (
            &["-D", "-", "-o", "/dev/null"],
            "\r\nContent-Type: application/octet-stream\r\n",
        ),
        (&["-D", "-", "-o", "/dev/null"], "\r\nAccept-Ranges: bytes\r\n"),
    ] {
        let head = net.http("initrd.img", options)?;
        ensure!(head.contains(wanted), "{wanted:?} is not in {head:?}");
    }
    for name in ["no-such-file", "ka-http", "boot.ipxe"] {
        let head = net.http(name, &["-D", "-", "-o", "/dev/null"])?;
        ensure!(head.contains("\r\nContent-Length: "), "{name}: {head:?}");
    }
    Ok(())
}

/// RFC 9110 §14.2: Range has a meaning in GET only.
#[test]
fn the_head_of_a_file_has_its_whole_length_whatever_range_is_asked_for() -> Result<()> {
    let net = BootNetwork::new("http-head-range", None)?;
    let _server = net.serve(&[])?;
    for range in [
        "Range: bytes=100-199",
        "Range: bytes=0-",
        "Range: bytes=-5",
        "Range: bytes=9999999-",
    ] {
        let head = net.http("initrd.img", &["-I", "-H", range])?;
        ensure!(
            head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("\r\nContent-Length: 3000001\r\n"),
            "{range}: {head}"
        );
        ensure!(!head.to_lowercase().contains("content-range"), "{range}: {head}");
    }
    Ok(())
}

#[test]
fn a_download_that_was_cut_off_is_continued() -> Result<()> {
    let net = BootNetwork::new("http-continue", None)?;
    let _server = net.serve(&[])?;
    let content = bytes(2, 3_000_001);
    let to = net.path("part");
    std::fs::write(&to, &content[..1_234_567])?;
    net.http("initrd.img", &["-C", "-", "-o", &to.display().to_string()])?;
    expect_file(&to, &content)
}

#[test]
fn what_cannot_be_answered_is_refused_with_its_status() -> Result<()> {
    let net = BootNetwork::new("http-refused", None)?;
    let _server = net.serve(&[])?;
    let status = ["-o", "/dev/null", "-w", "%{http_code}"];
    for (name, options, code) in [
        ("initrd.img", &["-r", "3000001-"][..], "416"),
        ("initrd.img", &["-X", "POST", "-d", "x"], "405"),
        ("initrd.img", &["-X", "DELETE"], "405"),
        ("", &[], "404"),
        ("no-such", &[], "404"),
        ("../../etc/passwd", &[], "404"),
        ("%2e%2e/%2e%2e/etc/passwd", &[], "404"),
        ("..%5c..%5cetc%5cpasswd", &[], "404"),
        ("vmlinuz?x=y", &[], "200"),
        ("%76mlinuz", &[], "200"),
    ] {
        let said = net.http(name, &[&status, options].concat())?;
        ensure!(said == code, "{name}: {said} instead of {code}");
    }
    Ok(())
}

#[test]
fn one_address_cannot_take_every_place_and_a_silent_connection_loses_its_own() -> Result<()> {
    let net = BootNetwork::new("http-places", None)?;
    let _server = net.serve(&[])?;
    let connect = || TcpStream::connect((GOLDEN_ADDRESS, 80));
    let mut open: Vec<TcpStream> = Vec::new();
    for _ in 0..16 {
        open.push(net.node().enter(connect)??);
    }
    let mut one_too_many = net.node().enter(connect)??;
    one_too_many.set_read_timeout(Some(Duration::from_secs(5)))?;
    ensure!(
        matches!(one_too_many.read(&mut [0]), Ok(0) | Err(_)),
        "it was served"
    );
    // Half a request and then silence: the server closes the connection after its time limit.
    let first = &mut open[0];
    first.write_all(b"GET /vmlinuz HTTP/1.1\r\nHost: x\r\n")?;
    first.set_read_timeout(Some(Duration::from_secs(40)))?;
    let mut said = Vec::new();
    first.read_to_end(&mut said).context("it stayed open")?;
    net.http("vmlinuz", &["-o", "/dev/null"])?;
    Ok(())
}

#[test]
fn garbage_stops_nothing() -> Result<()> {
    let net = BootNetwork::new("http-garbage", None)?;
    let _server = net.serve(&[])?;
    for seed in 0..200 {
        let connect = || TcpStream::connect((GOLDEN_ADDRESS, 80));
        let mut stream = net.node().enter(connect)??;
        stream.write_all(&bytes(seed, 3000)).ok();
    }
    net.http("vmlinuz", &["-o", "/dev/null"])?;
    Ok(())
}
