//! Everything beyond its files that a clone needs to boot as itself: the boot loader, its own identity,
//! hooks, the beacon of its first boot.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::GoldenBoot;

/// The changes to the restored system before its first boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootSpec {
    /// The first word of `-r`: the boot loader to install. `None` means the one that the golden node has.
    pub loader: Option<String>,
    /// The other words of `-r`: options of the tool that makes the initial RAM disk.
    pub initrd_options: Vec<String>,
    /// True if the clone keeps the golden node's names, keys and machine-id (`--keep-identity`).
    pub keep_identity: bool,
    /// The beacon of a clone's first boot; `None` sends none (`--no-beacon`).
    pub beacon: Option<BeaconSpec>,
    /// True if the clone may name a device as the kernel does (`/dev/sda2`), as the golden node does
    /// (`--kernel-names`). Otherwise such a name becomes one that lasts: `UUID=`.
    pub kernel_names: bool,
    /// True if the clone runs the executables of `/etc/ka/hooks.d`.
    pub hooks: bool,
    /// MAC addresses of the golden node's own network cards. Empty if they are not known, because the golden
    /// node is a directory and not the machine that the server runs on.
    pub golden_cards: Vec<String>,
    /// The golden node's way to boot.
    pub golden: GoldenBoot,
}

/// The destination of the beacon of a clone's first boot, and the proof that it belongs to this run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeaconSpec {
    /// The server's addresses, with the UDP port of discovery.
    pub addrs: Vec<SocketAddr>,
    /// Key of this run's beacons: random, of no use for anything else.
    pub token: [u8; 32],
}

impl BootSpec {
    /// Takes over the value of `-r`: `grub --with=ata_piix`. An empty text means the same as none.
    #[must_use]
    pub fn with_loader_option(mut self, option: Option<&str>) -> Self {
        let mut words = option.unwrap_or_default().split_whitespace().map(str::to_owned);
        self.loader = words.next();
        self.initrd_options = words.collect();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::InstallSpec;

    #[test]
    fn the_first_word_of_r_is_the_loader_and_the_others_are_the_initrd_tools() {
        let boot = BootSpec::default().with_loader_option(Some(" grub --with=ata_piix  -v "));
        assert_eq!(boot.loader.as_deref(), Some("grub"));
        assert_eq!(boot.initrd_options, ["--with=ata_piix", "-v"]);
        assert_eq!(
            BootSpec::default().with_loader_option(Some("  ")),
            BootSpec::default()
        );
    }

    #[test]
    fn a_spec_without_a_boot_part_is_refused() {
        let spec = InstallSpec::empty("golden".to_owned());
        let mut json: serde_json::Value = serde_json::from_slice(&spec.to_json().unwrap()).unwrap();
        json.as_object_mut().unwrap().remove("boot").unwrap();
        let error = InstallSpec::from_json(json.to_string().as_bytes()).unwrap_err();
        assert!(error.to_string().contains("boot"), "{error}");
    }

    #[test]
    fn a_boot_part_comes_back_as_it_went() {
        let boot = BootSpec {
            keep_identity: true,
            hooks: true,
            beacon: Some(BeaconSpec {
                addrs: vec![
                    "10.0.1.9:30765".parse().unwrap(),
                    "[fe80::1]:30765".parse().unwrap(),
                ],
                token: [7; 32],
            }),
            ..BootSpec::default().with_loader_option(Some("lilo"))
        };
        let spec = InstallSpec {
            boot,
            ..InstallSpec::empty("golden".to_owned())
        };
        assert_eq!(InstallSpec::from_json(&spec.to_json().unwrap()).unwrap(), spec);
    }
}
