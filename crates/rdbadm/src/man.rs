//! The manual pages, made of the same table as the parser.

use std::fs;
use std::io;
use std::path::Path;

use crate::adm::table;

/// Writes `rdbadm.8` and one page a command, `rdbadm-up.8`, into a directory.
pub(crate) fn write(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let command = table::command("rdbadm").disable_help_subcommand(true);
    page(dir, "rdbadm", command.clone())?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let name = format!("rdbadm-{}", sub.get_name());
        page(dir, &name, sub.clone().name(name.clone()))?;
    }
    Ok(())
}

fn page(dir: &Path, name: &str, command: clap::Command) -> io::Result<()> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command)
        .section("8")
        .render(&mut text)?;
    fs::write(dir.join(format!("{name}.8")), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_is_shown_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        let text = fs::read_to_string(dir.path().join("rdbadm.8")).unwrap();
        for row in table::ROWS.iter().filter(|row| !row.hidden) {
            assert!(text.contains(&row.name.replace('-', "\\-")), "{}", row.name);
            let page =
                fs::read_to_string(dir.path().join(format!("rdbadm-{}.8", row.name))).unwrap();
            assert!(page.contains(".TH"), "{page}");
        }
    }
}
