//! Contradictions are refused with one line that names what to change.

use std::time::Duration;

use super::{address, full_config, known, own, pool};
use crate::dhcp::config::{DhcpMode, FullConfig, KnownMachine, Pool, RelayedPool};

fn refusal(change: impl Fn(&mut FullConfig, &mut Vec<KnownMachine>)) -> String {
    let (mut full, mut list) = (full_config(pool(50, 60)), Vec::new());
    change(&mut full, &mut list);
    let faults = full.faults(&list, &own(), "10.0.0.0/24 of eth1");
    assert!(
        faults.iter().all(|fault| fault.lines().count() == 1),
        "{faults:?}"
    );
    faults.into_iter().next().unwrap_or_default()
}

fn behind(first: [u8; 4], last: [u8; 4], prefix: u8) -> RelayedPool {
    RelayedPool {
        pool: Pool {
            first: first.into(),
            last: last.into(),
        },
        prefix,
        router: None,
    }
}

#[test]
fn a_pool_that_cannot_be_is_refused() {
    for (first, last, said) in [
        (
            60,
            50,
            "pool 10.0.0.60-10.0.0.50 ends before it begins: write it 10.0.0.50-10.0.0.60",
        ),
        (
            1,
            9,
            "pool 10.0.0.1-10.0.0.9 contains our own address 10.0.0.1: choose FIRST and LAST beside it",
        ),
        (
            0,
            9,
            "pool 10.0.0.0-10.0.0.9: 10.0.0.0 is the network's or the broadcast address of 10.0.0.0/24 of eth1",
        ),
        (200, 252, ""),
        (
            200,
            255,
            "pool 10.0.0.200-10.0.0.255: 10.0.0.255 is the network's or the broadcast address of 10.0.0.0/24 of eth1",
        ),
        (
            200,
            254,
            "pool 10.0.0.200-10.0.0.254 contains 10.0.0.253, the router or a name server: choose FIRST and LAST beside it",
        ),
    ] {
        let faults = full_config(pool(first, last)).faults(&[], &own(), "10.0.0.0/24 of eth1");
        assert_eq!(faults.first().map_or("", String::as_str), said);
    }
    let outside = refusal(|full, _| full.pool.last = [10, 0, 1, 9].into());
    assert_eq!(
        outside,
        "pool 10.0.0.50-10.0.1.9: 10.0.1.9 is not in 10.0.0.0/24 of eth1"
    );
    let huge = refusal(|full, _| full.pool.last = [10, 200, 1, 9].into());
    assert_eq!(huge, "pool 10.0.0.50-10.200.1.9 has more than 65536 addresses");
}

#[test]
fn every_fault_of_a_configuration_is_a_line_of_its_own() {
    let mut full = full_config(pool(0, 60));
    full.lease_time = Duration::from_secs(1);
    full.domain = Some("a b".to_owned());
    full.router = Some([10, 9, 0, 1].into());
    full.relayed = vec![
        behind([10, 0, 0, 70], [10, 0, 0, 80], 24),
        behind([10, 5, 0, 9], [10, 5, 0, 1], 24),
    ];
    let mut list = vec![known(7, None, None), known(7, None, None), known(8, None, None)];
    list[2].address = Some([10, 7, 0, 3].into());
    list[2].name = Some("a b".to_owned());
    let faults = full.faults(&list, &own(), "10.0.0.0/24 of eth1");
    for part in [
        "10.0.0.0 is the network's",
        "contains our own address 10.0.0.1",
        "router 10.9.0.1 is not in",
        "pool 10.0.0.70-10.0.0.80/24 is in 10.0.0.0/24",
        "pool 10.5.0.9-10.5.0.1 ends before it begins",
        "lease time 1 s",
        "`a b` is no domain name",
        "is listed twice",
        "`a b`, the name of",
        "address 10.7.0.3 of",
    ] {
        let said = faults.iter().filter(|fault| fault.contains(part)).count();
        assert_eq!(said, 1, "{part}: {faults:#?}");
    }
}

#[test]
fn what_goes_with_the_pool_is_held_against_it() {
    assert_eq!(
        refusal(|full, _| full.router = Some([10, 9, 0, 1].into())),
        "router 10.9.0.1 is not in 10.0.0.0/24 of eth1"
    );
    assert!(
        refusal(|full, _| full.lease_time = Duration::from_secs(9))
            .starts_with("lease time 9 s is not between 10 s")
    );
    assert!(refusal(|full, _| full.dns = vec![address(253); 9]).starts_with("9 name servers"));
    assert_eq!(
        refusal(|full, _| full.domain = Some("a..b".to_owned())),
        "`a..b` is no domain name"
    );
    let relayed =
        |pool| refusal(|full, _| full.relayed = vec![behind([10, 1, 0, 5], [10, 1, 0, 9], 24), pool]);
    assert!(relayed(behind([10, 2, 0, 5], [10, 2, 0, 9], 31)).contains("prefix is not between"));
    assert!(relayed(behind([10, 2, 0, 5], [10, 2, 1, 9], 24)).contains("10.2.1.9 is not in 10.2.0.0/24"));
    assert!(relayed(behind([10, 1, 0, 50], [10, 1, 0, 60], 24)).contains("has a pool already"));
    assert!(relayed(behind([10, 0, 0, 70], [10, 0, 0, 80], 24)).contains("has a pool already"));
}

#[test]
fn a_list_of_machines_is_held_against_itself_and_the_wire() {
    let listed = |machines: Vec<KnownMachine>| refusal(|_, list| list.clone_from(&machines));
    let mac = "52:54:00:00:00:01";
    assert_eq!(
        listed(vec![known(1, None, None); 2]),
        format!("machine {mac} is listed twice")
    );
    assert_eq!(
        listed(vec![known(1, Some("a b"), None)]),
        format!("`a b`, the name of {mac}, is no host name")
    );
    assert_eq!(
        listed(vec![known(1, None, Some(address(1)))]),
        format!("address 10.0.0.1 of {mac} is our own")
    );
    assert_eq!(
        listed(vec![known(1, None, Some([10, 7, 0, 1].into()))]),
        format!("address 10.7.0.1 of {mac} is not in 10.0.0.0/24 of eth1")
    );
    assert_eq!(
        listed(vec![
            known(2, None, Some(address(9))),
            known(1, None, Some(address(9)))
        ]),
        format!("address 10.0.0.9 of {mac} belongs to another machine of the list")
    );
}

#[test]
fn the_option_is_read_in_all_its_forms() {
    assert_eq!("proxy".parse(), Ok(DhcpMode::Proxy));
    assert_eq!("off".parse(), Ok(DhcpMode::Off));
    let mut full = FullConfig::new(pool(50, 60));
    assert_eq!(
        "full:10.0.0.50-10.0.0.60".parse(),
        Ok(DhcpMode::Full(full.clone()))
    );
    full.relayed = vec![behind([10, 1, 0, 5], [10, 1, 0, 9], 24)];
    assert_eq!(
        "full:10.0.0.50-10.0.0.60,10.1.0.5-10.1.0.9/24".parse(),
        Ok(DhcpMode::Full(full))
    );
    for wrong in [
        "",
        "full",
        "full:",
        "full:10.0.0.1",
        "full:a-b",
        "Proxy",
        "full:10.0.0.50-10.0.0.60,10.1.0.5-10.1.0.9",
    ] {
        let said = wrong.parse::<DhcpMode>().unwrap_err();
        assert!(said.contains(wrong), "{said}");
    }
}
