//! The programs of the comparison that send to all nodes at once: udpcast and uftp.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use ka_tests::netns::node_address;

use crate::bench::peers::{Job, Prepared, Proto, sent_by, wait_listening};

/// UDP port of `udp-receiver`.
const UDPCAST_PORT: u16 = 9000;
/// UDP port of `uftpd`.
const UFTP_PORT: u16 = 1044;
/// Part of the line's rate that uftp is told to send at, in hundredths. Its headers come on top.
const UFTP_PERCENT: u64 = 92;
/// Rate that uftp is told to send at on an unshaped line, in bits a second.
const UFTP_UNSHAPED: u64 = 2_000_000_000;
/// Time in which the receivers' joins reach the switch.
const JOINED: Duration = Duration::from_millis(300);

impl Job<'_> {
    pub(super) fn udpcast(&self) -> Result<Prepared> {
        let words = "--interface eth0 --nokbd --no-progress --nosync --rcvbuf 4194304 --file";
        let mut receivers = Vec::new();
        for number in 1..=self.nodes() {
            let receiver = self
                .on_node(number, "udp-receiver")
                .args(words.split(' '))
                .arg(self.sink(number))
                .spawn()?;
            wait_listening(&receiver, UDPCAST_PORT, Proto::Udp)?;
            receivers.push(receiver);
        }
        thread::sleep(JOINED);
        // Without a hello interval the sender looks at its receivers only every 2 s.
        let words = "--interface eth0 --nokbd --no-progress --rexmit-hello-interval 20 --min-receivers";
        let sender = self
            .on_golden("udp-sender")
            .args(words.split(' '))
            .arg(self.nodes().to_string());
        Ok(sent_by(sender.arg("--file").arg(&self.source), receivers))
    }

    /// Prepares uftp, with the options of `bench/lab.sh`. Each `uftpd` writes a file of the same name into a
    /// directory of its own. A script that it runs at the end puts it in its place and ends the daemon, whose exit
    /// code then says only that it was ended: a receiver without the script's mark has failed.
    pub(super) fn uftp(&self) -> Result<Prepared> {
        let mut receivers = Vec::new();
        for number in 1..=self.nodes() {
            let dir = self.work.join(format!("uftp{number}"));
            fs::create_dir_all(&dir)?;
            let done = dir.join("done");
            let (from, to) = (dir.join("f"), self.sink(number));
            let (from, to) = (from.display(), to.display());
            let whole = dir.join("whole").display().to_string();
            let place = format!("if [ -c {to} ]; then rm {from}; else mv {from} {to}; fi");
            // The daemon has 50 ms to confirm the end to the sender, which would wait for it otherwise.
            let script = format!("#!/bin/sh\n{place}\ntouch {whole}\nsleep 0.05\nkill $PPID\n");
            fs::write(&done, script)?;
            fs::set_permissions(&done, fs::Permissions::from_mode(0o700))?;
            let daemon = format!(
                "uftpd -d -q -B 4194304 -I eth0 -D {} -s {}",
                dir.display(),
                done.display()
            );
            let receiver = self
                .on_node(number, "sh")
                .args(["-c", &format!("{daemon}; rm {whole}")])
                .spawn()?;
            wait_listening(&receiver, UFTP_PORT, Proto::Udp)?;
            receivers.push(receiver);
        }
        thread::sleep(JOINED);
        let kbit = self.rate.unwrap_or(UFTP_UNSHAPED) / 1000 * UFTP_PERCENT / 100;
        let ids = (1..=self.nodes()).map(uftp_id).collect::<Result<Vec<_>>>()?;
        let words = "-B 4194304 -b 1420 -I eth0 -r 0.01:0.002:1 -D f -R";
        let sender = self
            .on_golden("uftp")
            .args(words.split(' '))
            .arg(kbit.to_string())
            .args(["-H", &ids.join(",")])
            .arg(&self.source);
        Ok(sent_by(sender, receivers))
    }
}

/// Returns the identity of a node's `uftpd`: its IPv4 address in hexadecimal digits.
fn uftp_id(number: usize) -> Result<String> {
    let address: std::net::Ipv4Addr = node_address(number).parse()?;
    Ok(format!("0x{:08X}", address.to_bits()))
}
