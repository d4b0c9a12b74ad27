//! The menus, letter by letter: what firmware reads must change only when somebody means it to.

use std::net::Ipv4Addr;
use std::time::Duration;

use ka_pxe::{Entry, Form, Menu, Origin};

fn menu(default: Entry) -> Menu {
    Menu {
        default,
        timeout: Duration::from_secs(5),
        title: "node1 (52:54:00:00:00:01)".to_owned(),
        origin: Origin {
            addr: Ipv4Addr::new(10, 0, 0, 1),
            http_port: 80,
        },
        kernel: "vmlinuz".to_owned(),
        initrds: vec!["initrd.img".to_owned(), "join.img".to_owned()],
        append: "kamethod ka.server=10.0.0.1 console=ttyS0,115200 ka.name=node1".to_owned(),
    }
}
