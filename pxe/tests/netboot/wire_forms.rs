//! Requests byte by byte, as boot programs of packages send them, and variants of each that RFC 9112 and RFC
//! 2347 allow. The requests are from the programs' sources and were seen on the wire.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ka_lab::netns::GOLDEN_ADDRESS;

use crate::boot_network::{BootNetwork, bytes};

/// Time limit of each answer. An answer that needs a time-out of the client is as bad as none.
const AT_ONCE: Duration = Duration::from_secs(5);

/// The server's answer to these bytes, until it closes or the body is complete.
fn asked(net: &BootNetwork, request: &[u8], closes_its_side: bool, wanted: usize) -> Result<Vec<u8>> {
    let mut stream = net.node().enter(|| TcpStream::connect((GOLDEN_ADDRESS, 80)))??;
    stream.set_read_timeout(Some(AT_ONCE))?;
    stream.write_all(request)?;
    if closes_its_side {
        stream.shutdown(Shutdown::Write)?;
    }
    let (mut said, mut piece) = (Vec::new(), [0; 65536]);
    while !is_whole(&said, wanted) {
        let got = stream.read(&mut piece).with_context(|| {
            format!(
                "after {} bytes: {:?}",
                said.len(),
                String::from_utf8_lossy(&said[..said.len().min(400)])
            )
        })?;
        if got == 0 {
            break;
        }
        said.extend(&piece[..got]);
    }
    Ok(said)
}

fn is_whole(said: &[u8], wanted: usize) -> bool {
    body_of(said).is_some_and(|body| body.len() >= wanted)
}

fn body_of(said: &[u8]) -> Option<&[u8]> {
    let end = said.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(&said[end + 4..])
}

#[test]
fn each_spelling_of_a_request_gets_the_same_bytes_at_once() -> Result<()> {
    let net = BootNetwork::new("http-forms", None)?;
    let _server = net.serve(&[])?;
    let content = bytes(1, 1_000_000);
    let requests = [
        // GRUB 2.06 and 2.12.
        "GET /vmlinuz HTTP/1.1\r\nHost: 10.77.0.1\r\nUser-Agent: GRUB 2.06-13+deb12u2\r\n\r\n",
        // iPXE.
        "GET /vmlinuz HTTP/1.1\r\nConnection: keep-alive\r\nUser-Agent: iPXE/1.0.0+\r\nHost: 10.77.0.1\r\n\r\n",
        // lpxelinux.
        "GET /vmlinuz HTTP/1.0\r\nHost: 10.77.0.1\r\nUser-Agent: Syslinux/6.04\r\nConnection: close\r\n\r\n",
        // EDK II.
        "GET /vmlinuz HTTP/1.1\r\nHost: 10.77.0.1\r\nAccept: */*\r\nUser-Agent: UefiHttpBoot/1.0\r\n\r\n",
        // With the port, and in the absolute form that a client uses for a proxy.
        "GET /vmlinuz HTTP/1.1\r\nHost: 10.77.0.1:80\r\n\r\n",
        "GET http://10.77.0.1/vmlinuz HTTP/1.1\r\nHost: 10.77.0.1\r\n\r\n",
        "GET http://10.77.0.1:80//vmlinuz HTTP/1.1\r\nHost: 10.77.0.1:80\r\n\r\n",
        // Slashes, case, percent-encoding, a query.
        "GET //vmlinuz HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /./vmlinuz HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /VMLINUZ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /%76mlinuz HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /%56%4dlinu%7a HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /%2Fvmlinuz HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /\\vmlinuz HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /vmlinuz?mac=52-54-00 HTTP/1.1\r\nHost: x\r\n\r\n",
        // Headers in any case, with any space behind the colon, and no headers at all.
        "GET /vmlinuz HTTP/1.1\r\nHOST:10.77.0.1\r\nCONNECTION:\tClose\r\n\r\n",
        "GET /vmlinuz HTTP/1.1\r\n\r\n",
        "GET /vmlinuz HTTP/1.0\r\n\r\n",
        "GET /vmlinuz HTTP/1.1\nHost: x\n\n",
        "\r\nGET /vmlinuz HTTP/1.1\r\nHost: x\r\n\r\n",
        // For a range that is malformed the answer is the whole file (RFC 9110 section 14.2).
        "GET /vmlinuz HTTP/1.1\r\nHost: x\r\nRANGE: bytes=9-1\r\n\r\n",
        "GET /vmlinuz HTTP/1.1\r\nHost: x\r\nRange: pages=1-2\r\n\r\n",
        // A body, which this server ignores.
        "GET /vmlinuz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    ];
    for request in requests {
        for closes_its_side in [false, true] {
            let began = Instant::now();
            let said = asked(&net, request.as_bytes(), closes_its_side, content.len())
                .with_context(|| format!("{request:?}, closes its side: {closes_its_side}"))?;
            let head = String::from_utf8_lossy(&said[..said.len().min(300)]).into_owned();
            ensure!(
                head.starts_with("HTTP/1.") && head.contains(" 200 OK\r\n"),
                "{request:?}, closes its side: {closes_its_side}: {head:?}"
            );
            ensure!(
                head.contains("\r\nContent-Length: 1000000\r\n"),
                "{request:?}: {head:?}"
            );
            ensure!(body_of(&said) == Some(&content[..]), "{request:?}: another body");
            ensure!(began.elapsed() < AT_ONCE, "{request:?}: {:?}", began.elapsed());
        }
    }
    Ok(())
}

/// GRUB continues after a seek (`Range: bytes=N-`). Firmware sizes a file by HEAD and fetches it over the
/// same connection.
#[test]
fn parts_and_heads_follow_each_other_on_one_connection() -> Result<()> {
    let net = BootNetwork::new("http-follow", None)?;
    let _server = net.serve(&[])?;
    let content = bytes(1, 1_000_000);
    let mut stream = net.node().enter(|| TcpStream::connect((GOLDEN_ADDRESS, 80)))??;
    stream.set_read_timeout(Some(AT_ONCE))?;
    let follows: [(&str, usize, &[u8]); 4] = [
        ("HEAD /vmlinuz HTTP/1.1\r\nHost: x\r\n\r\n", 1_000_000, b""),
        (
            "GET /vmlinuz HTTP/1.1\r\nrange: bytes=999990-\r\nhost: x\r\n\r\n",
            10,
            &content[999_990..],
        ),
        ("GET /no-such HTTP/1.1\r\nHost: x\r\n\r\n", 13, b"no such file\n"),
        (
            "GET /vmlinuz HTTP/1.1\r\nHost: x\r\nRange: bytes=5-6\r\n\r\n",
            2,
            &content[5..7],
        ),
    ];
    for (request, length, body) in follows {
        // In two packets, as small TCP stacks send.
        let (first, second) = request.as_bytes().split_at(11);
        stream.write_all(first)?;
        std::thread::sleep(Duration::from_millis(20));
        stream.write_all(second)?;
        let (mut said, mut byte) = (Vec::new(), [0]);
        while !said.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).with_context(|| request.to_owned())?;
            said.extend(byte);
        }
        let head = String::from_utf8_lossy(&said);
        ensure!(
            head.contains(&format!("\r\nContent-Length: {length}\r\n")),
            "{request:?}: {head}"
        );
        let mut got = vec![0; body.len()];
        stream.read_exact(&mut got).with_context(|| request.to_owned())?;
        ensure!(got == body, "{request:?}: another body");
    }
    Ok(())
}

/// A text that is no HTTP gets an error status or a closed connection at once, so that no client waits for a
/// time-out.
#[test]
fn what_is_no_request_is_refused_at_once() -> Result<()> {
    let net = BootNetwork::new("http-none", None)?;
    let _server = net.serve(&[])?;
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(9000));
    for request in [
        "GET\r\n\r\n",
        "GET grub/grub.cfg HTTP/1.1\r\n\r\n",
        "GET /vmlinuz HTTP/9.9\r\n\r\n",
        "GET /vmlinuz SIP/2.0\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\u{7f}\x03\x03",
        &long,
    ] {
        let began = Instant::now();
        let said = asked(&net, request.as_bytes(), false, usize::MAX)
            .with_context(|| format!("{:?}", &request[..request.len().min(40)]))?;
        ensure!(
            !String::from_utf8_lossy(&said).contains(" 200 "),
            "{:?}: {:?}",
            &request[..request.len().min(40)],
            String::from_utf8_lossy(&said)
        );
        ensure!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    }
    Ok(())
}

/// Options of a read request as each program writes them, and the granted options letter by letter.
#[test]
fn each_spelling_of_a_tftp_request_gets_what_it_asked_for() -> Result<()> {
    let net = BootNetwork::new("tftp-forms", None)?;
    let _server = net.serve(&[])?;
    let data = |block: usize| [&[0, 3, 0, 1][..], &bytes(1, 1_000_000)[..block]].concat();
    let oack = |text: &str| [&[0, 6][..], text.replace('|', "\0").as_bytes()].concat();
    let requests: [(&str, Vec<u8>); 13] = [
        // PXELINUX 6 (both), GRUB, iPXE, Intel's ROM, EDK II (before and since windows), U-Boot, tftp-hpa.
        (
            "vmlinuz|octet|tsize|0|blksize|1408|",
            oack("tsize|1000000|blksize|1408|"),
        ),
        (
            "vmlinuz|octet|blksize|1024|tsize|0|",
            oack("tsize|1000000|blksize|1024|"),
        ),
        (
            "vmlinuz|octet|blksize|1432|tsize|0|multicast||",
            oack("tsize|1000000|blksize|1432|"),
        ),
        ("vmlinuz|octet|blksize|1456|", oack("blksize|1456|")),
        (
            "vmlinuz|octet|tsize|0|blksize|1468|",
            oack("tsize|1000000|blksize|1468|"),
        ),
        (
            "vmlinuz|octet|blksize|1468|windowsize|4|",
            oack("blksize|1468|windowsize|4|"),
        ),
        (
            "vmlinuz|octet|timeout|5|tsize|0|blksize|1468|",
            oack("timeout|5|tsize|1000000|blksize|1468|"),
        ),
        (
            "vmlinuz|octet|tsize|0|blksize|512|rollover|0|",
            oack("tsize|1000000|blksize|512|"),
        ),
        // Unknown options, in any case and place; no options; a path as DHCP gave it.
        (
            "vmlinuz|OCTET|TSIZE|0|BLKSIZE2|1024|utimeout|100|",
            oack("tsize|1000000|"),
        ),
        ("/vmlinuz|octet|", data(512)),
        ("\\vmlinuz|octet|", data(512)),
        ("//VmLinuz|octet|x|y|", data(512)),
        ("./vmlinuz|netascii|tsize|x|", Vec::new()),
    ];
    for (request, granted) in requests {
        let socket = net.socket()?;
        let packet = [&[0, 1][..], request.replace('|', "\0").as_bytes()].concat();
        let began = Instant::now();
        socket.send_to(&packet, (GOLDEN_ADDRESS, 69))?;
        let mut answer = [0; 2048];
        let (length, from) = socket
            .recv_from(&mut answer)
            .with_context(|| request.to_owned())?;
        if granted.is_empty() {
            ensure!(answer[..4] == [0, 3, 0, 1], "{request}: {:?}", &answer[..20]);
        } else {
            ensure!(
                same_options(&answer[..length], &granted),
                "{request}: {:?}",
                String::from_utf8_lossy(&answer[..length.min(100)])
            );
        }
        ensure!(began.elapsed() < AT_ONCE, "{request}: {:?}", began.elapsed());
        socket.send_to(&[0, 5, 0, 8, 0], from)?;
    }
    Ok(())
}

/// Compares two packets byte by byte. The options of an OACK may stand in any order (RFC 2347).
fn same_options(answer: &[u8], wanted: &[u8]) -> bool {
    let pairs = |packet: &[u8]| {
        let fields: Vec<Vec<u8>> = packet[2..].split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        let mut pairs: Vec<_> = fields.chunks(2).map(<[Vec<u8>]>::to_vec).collect();
        pairs.sort();
        pairs
    };
    answer == wanted || (answer[..2] == [0, 6] && wanted[..2] == [0, 6] && pairs(answer) == pairs(wanted))
}
