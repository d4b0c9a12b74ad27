//! Manual pages, as each binary writes its own (`--man`).

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use ka_tests::binaries;
use ka_tests::process::Program;

/// Writes `DIR/ka-*.8`. Section 8 is that of commands for administrators.
pub(crate) fn write(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    for name in [
        "ka",
        "ka-server",
        "ka-client",
        "ka-desc",
        "ka-image",
        "ka-initrd",
        "ka-pxe",
        "ka-status",
    ] {
        let page = Program::new(binaries::path(name)?).arg("--man").run()?;
        let path = dir.join(format!("{name}.8"));
        fs::write(&path, page).with_context(|| format!("writing {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}
