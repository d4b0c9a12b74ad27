//! The first program of a machine: a BIOS, or UEFI with variables of its own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::scratch::Scratch;

/// Directory of the images of Debian's `ovmf` package. Those with `.ms` hold Microsoft's keys and have Secure
/// Boot on.
const OVMF: &str = "/usr/share/OVMF";

/// The firmware of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// A BIOS: `SeaBIOS`.
    Bios,
    /// UEFI without Secure Boot: OVMF.
    Uefi,
    /// UEFI with Secure Boot on, as a new machine has it: OVMF.
    SecureBoot,
}

impl Firmware {
    /// True if it is UEFI.
    #[must_use]
    pub fn is_uefi(self) -> bool {
        self != Self::Bios
    }

    /// Makes the file of the machine's variables; a BIOS has none.
    ///
    /// # Errors
    /// OVMF is not installed.
    pub(crate) fn variables(self, scratch: &Scratch, name: &str) -> Result<Option<PathBuf>> {
        let pristine = match self {
            Self::Bios => return Ok(None),
            Self::Uefi => "OVMF_VARS_4M.fd",
            Self::SecureBoot => "OVMF_VARS_4M.ms.fd",
        };
        let file = scratch.path().join(format!("{name}.vars"));
        let pristine = Path::new(OVMF).join(pristine);
        fs::copy(&pristine, &file)
            .with_context(|| format!("copying {} (package ovmf)", pristine.display()))?;
        Ok(Some(file))
    }

    /// Returns QEMU's options.
    pub(crate) fn options(self, variables: Option<&Path>) -> Vec<String> {
        let code = match self {
            // The screen is on the serial line, too: `graphics=off` makes SeaBIOS use one.
            Self::Bios => return words("-machine graphics=off"),
            Self::Uefi => "OVMF_CODE_4M.fd",
            Self::SecureBoot => "OVMF_CODE_4M.ms.fd",
        };
        let mut options = vec!["-drive".to_owned()];
        options.push(format!(
            "if=pflash,format=raw,unit=0,readonly=on,file={OVMF}/{code}"
        ));
        if let Some(variables) = variables {
            options.push("-drive".to_owned());
            options.push(format!(
                "if=pflash,format=raw,unit=1,file={}",
                variables.display()
            ));
        }
        // No server answers there, and each try takes a minute before the disk's turn comes.
        options.extend(words("-fw_cfg name=opt/org.tianocore/IPv6PXESupport,string=no"));
        if self == Self::SecureBoot {
            // Variables may be written through system management mode only, or Secure Boot would be worth
            // nothing.
            options.extend(words(
                "-machine smm=on -global driver=cfi.pflash01,property=secure,value=on",
            ));
        }
        options
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}
