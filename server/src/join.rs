//! The line that an operator pastes on a node.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use ka_proto::SessionName;
use ka_transport::{CONTROL_PORT, JoinCode, LocalAddrs};

/// The form of the join code in the line.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shown<'a> {
    /// The code itself. Every reader of the line may let nodes in.
    Code(&'a JoinCode),
    /// The file that holds it.
    File(&'a Path),
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "--join {code}"),
            Self::File(path) => write!(f, "--join-file {}", quoted(&path.display().to_string())),
        }
    }
}

/// Returns `ka-client -s kainstall --join KA1-…`, with `-h` if a node's broadcast would not find the server.
pub(crate) fn join_line(
    session: &SessionName,
    shown: &Shown<'_>,
    local: &LocalAddrs,
    listen: Option<IpAddr>,
) -> String {
    format!(
        "ka-client{} -s {} {shown}",
        host_option(local, listen),
        quoted(session.as_str())
    )
}

fn host_option(local: &LocalAddrs, listen: Option<IpAddr>) -> String {
    let port = local.control.port();
    let chosen = listen.filter(|addr| !addr.is_unspecified());
    match chosen.or_else(|| {
        (port != CONTROL_PORT)
            .then(|| local.reachable.first().copied())
            .flatten()
    }) {
        None => String::new(),
        Some(addr) if port == CONTROL_PORT => format!(" -h {addr}"),
        Some(IpAddr::V4(addr)) => format!(" -h {addr}:{port}"),
        Some(IpAddr::V6(addr)) => format!(" -h [{addr}]:{port}"),
    }
}

/// Returns the text quoted as one word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@%+,".contains(c);
    if text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use ka_proto::SessionName;
    use ka_transport::{JoinCode, LocalAddrs};

    use super::{Shown, join_line};

    fn line(session: &str, port: u16, listen: Option<&str>) -> String {
        let local = LocalAddrs {
            control: ([0, 0, 0, 0], port).into(),
            data: ([0, 0, 0, 0], 30764).into(),
            reachable: vec![[10, 0, 1, 9].into()],
        };
        let code = JoinCode {
            fingerprint: [1; 32],
            secret: [2; 16],
        };
        let session = SessionName::new(session).unwrap();
        let listen = listen.map(|addr| addr.parse().unwrap());
        let named = join_line(&session, &Shown::File("/a b/join".as_ref()), &local, listen);
        assert!(named.ends_with(" --join-file '/a b/join'"), "{named}");
        let line = join_line(&session, &Shown::Code(&code), &local, listen);
        line.replace(&code.to_string(), "CODE")
    }

    #[test]
    fn the_line_to_paste_is_the_documented_one() {
        assert_eq!(
            line("kainstall", 30765, None),
            "ka-client -s kainstall --join CODE"
        );
    }

    #[test]
    fn a_server_that_a_broadcast_would_not_find_is_named() {
        assert_eq!(
            line("k", 30765, Some("127.0.0.2")),
            "ka-client -h 127.0.0.2 -s k --join CODE"
        );
        assert_eq!(
            line("k", 4000, None),
            "ka-client -h 10.0.1.9:4000 -s k --join CODE"
        );
        assert_eq!(
            line("k", 4000, Some("::1")),
            "ka-client -h [::1]:4000 -s k --join CODE"
        );
        assert_eq!(line("k", 30765, Some("0.0.0.0")), "ka-client -s k --join CODE");
    }

    #[test]
    fn a_session_name_with_spaces_survives_the_shell() {
        assert_eq!(
            line("room 12's", 30765, None),
            r"ka-client -s 'room 12'\''s' --join CODE"
        );
    }
}
