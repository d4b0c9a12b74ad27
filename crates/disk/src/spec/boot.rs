//! What a clone needs beyond its files to boot as itself: the boot loader, its own identity, hooks, the beacon of its
//! first boot. Issue 3 §3.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::GoldenBoot;

/// What becomes of the restored system before its first boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootSpec {
    /// The first word of `-r`: the boot loader to install. None: the one that the golden node has.
    pub loader: Option<String>,
    /// The other words of `-r`: options of the tool that makes the initial RAM disk.
    pub initrd_options: Vec<String>,
    /// The clone keeps the golden node's names, keys and machine-id (`--keep-identity`).
    pub keep_identity: bool,
    /// How a clone tells at its first boot that it came back; none: not at all (`--no-beacon`).
    pub beacon: Option<BeaconSpec>,
    /// Where the golden node names a device as the kernel does (`/dev/sda2`), so does the clone (`--kernel-names`). Else
    /// such a name becomes one that lasts: `UUID=`. A server of before does not say.
    #[serde(default)]
    pub kernel_names: bool,
    /// Run the executables of `/etc/ka/hooks.d`.
    pub hooks: bool,
    /// The golden node's own network cards, by their hardware addresses; none where they are not known (it is a directory, not
    /// the machine that the server runs on).
    #[serde(default)]
    pub golden_cards: Vec<String>,
    /// How the golden node boots.
    #[serde(default)]
    pub golden: GoldenBoot,
}

/// Where a clone's first boot is told, and the proof that it belongs to this run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeaconSpec {
    /// The server's addresses with the UDP port of discovery.
    pub addrs: Vec<SocketAddr>,
    /// Key of this run's beacons: random, of no use for anything else.
    pub token: [u8; 32],
}

impl BootSpec {
    /// Reads `-r`: `grub --with=ata_piix`. An empty text means the same as none.
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
    fn a_spec_without_a_boot_part_is_still_understood() {
        let spec = InstallSpec::empty("golden".to_owned());
        let mut json: serde_json::Value = serde_json::from_slice(&spec.to_json().unwrap()).unwrap();
        json.as_object_mut().unwrap().remove("boot").unwrap();
        assert_eq!(InstallSpec::from_json(json.to_string().as_bytes()).unwrap(), spec);
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
