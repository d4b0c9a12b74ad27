//! The manual page of a program.

use clap::Command;
use clap_mangen::Man;

/// Section of administrators' commands, man(1).
const SECTION: &str = "8";

/// Returns the manual page in roff: the program's own page, and the description and options of each
/// subcommand.
pub(crate) fn manual(mut command: Command) -> String {
    command.build();
    let mut page = Vec::new();
    // Writing to memory does not fail.
    Man::new(command.clone()).section(SECTION).render(&mut page).ok();
    let program = command.get_name().to_uppercase();
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        page.extend(format!(".SH \"{program} {}\"\n", sub.get_name().to_uppercase()).bytes());
        let man = Man::new(sub.clone());
        man.render_synopsis_section(&mut page).ok();
        man.render_description_section(&mut page).ok();
        man.render_options_section(&mut page).ok();
    }
    String::from_utf8_lossy(&page).into_owned()
}
