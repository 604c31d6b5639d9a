//! The manual pages, made of the same table as the parser.

use std::fs;
use std::io;
use std::path::Path;

use crate::adm::table;

/// Writes `rdbadm.8` and one page a command, `rdbadm-up.8`, into a directory.
pub(crate) fn write(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let command = table::command("rdbadm").disable_help_subcommand(true);
    page(dir, "rdbadm", command.clone(), MORE)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let name = format!("rdbadm-{}", sub.get_name());
        page(dir, &name, sub.clone().name(name.clone()), "")?;
    }
    Ok(())
}

/// What the table does not know.
const MORE: &str = r#".SH WHO MAY
Root, and the user whom the daemon runs as. Others who may open /run/rdb/questions.sock (members of the group rdb; see
\fBrdbd\fR(8)) get answers to commands that only ask, such as \fBstatus\fR, \fBoverview\fR and \fBproc\fR, without the secrets; what would change
something ends with "permission denied" and exit code 20.
.SH FILES
.TP
/run/rdb/control.sock
How the daemon is told what to do.
.TP
/run/rdb/questions.sock
How it is asked by who may not use that.
.SH SEE ALSO
.BR rdbd (8)
"#;

fn page(dir: &Path, name: &str, command: clap::Command, more: &str) -> io::Result<()> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command)
        .section("8")
        .render(&mut text)?;
    text.extend_from_slice(more.as_bytes());
    fs::write(dir.join(format!("{name}.8")), text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::VERBS;

    #[test]
    fn every_command_that_is_shown_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        let text = fs::read_to_string(dir.path().join("rdbadm.8")).unwrap();
        assert!(text.contains("questions.sock"), "{text}");
        for verb in VERBS
            .iter()
            .filter(|verb| verb.adm.is_some_and(|adm| !adm.is_hidden))
        {
            assert!(
                text.contains(&verb.name.replace('-', "\\-")),
                "{}",
                verb.name
            );
            let page =
                fs::read_to_string(dir.path().join(format!("rdbadm-{}.8", verb.name))).unwrap();
            assert!(page.contains(".TH"), "{page}");
        }
    }
}
