//! `modprobe` for the boot image. The kernel calls it for features in modules (a file system, a code page of
//! vfat, a cipher), and `ka_host` calls it before it mounts.
//!
//! `modprobe [-q] [-a] [-b] [--] NAME|ALIAS…`. Not here: options in modprobe.d, removing.

use std::process::ExitCode;

use ka_cli::say;
use ka_kmod::ModuleName;

use super::drivers::Drivers;

/// Loads the modules that the arguments name. Exit code 1 if there is no such module, or it cannot be loaded.
pub(super) fn run(args: impl Iterator<Item = String>) -> ExitCode {
    let request = match Request::parse(args) {
        Ok(request) => request,
        Err(option) => {
            say(&format!(
                "error: modprobe: {option} is not known to this small modprobe of the KA boot image"
            ));
            return ExitCode::from(1);
        }
    };
    match load(&request) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !request.quiet {
                say(&format!("error: modprobe: {error:#}"));
            }
            ExitCode::from(1)
        }
    }
}

fn load(request: &Request) -> anyhow::Result<()> {
    let mut drivers = Drivers::open()?;
    for word in &request.words {
        let names: Vec<ModuleName> = drivers.resolve(word);
        if names.is_empty() && !drivers.has_builtin(word) {
            anyhow::bail!("no module {word} in this boot image");
        }
        drivers.load(&names).into_result()?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Request {
    quiet: bool,
    words: Vec<String>,
}

impl Request {
    fn parse(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut request = Self {
            quiet: false,
            words: Vec::new(),
        };
        let mut options = true;
        for arg in args {
            match arg.as_str() {
                "--" if options => options = false,
                "-q" | "--quiet" if options => request.quiet = true,
                // Load all of them; respect the kernel's blacklist; log to syslog; be verbose. All is done
                // anyhow.
                "-a" | "-b" | "-s" | "-v" if options => {}
                option if options && option.starts_with('-') => return Err(arg),
                _ => request.words.push(arg),
            }
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Request, String> {
        Request::parse(args.iter().map(|arg| (*arg).to_owned()))
    }

    #[test]
    fn the_kernels_own_call_is_understood() {
        let request = parse(&["-q", "--", "fs-vfat"]).unwrap();
        assert!(request.quiet);
        assert_eq!(request.words, ["fs-vfat"]);
        assert_eq!(parse(&["-a", "ext4", "xfs"]).unwrap().words, ["ext4", "xfs"]);
    }

    #[test]
    fn removing_is_refused_and_names_behind_the_dashes_are_names() {
        assert_eq!(parse(&["-r", "ext4"]), Err("-r".to_owned()));
        assert_eq!(parse(&["--", "-r"]).unwrap().words, ["-r"]);
    }
}
