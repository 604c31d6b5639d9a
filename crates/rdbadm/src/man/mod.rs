//! The manual pages: commands and options come from the tables that the parsers are made of, the rest stands here.

mod conf;
mod monitor;
mod option_texts;
mod page;
mod tools;

use std::fs;
use std::io;
use std::path::Path;

use self::page::Page;
use crate::adm::table;

/// Writes `rdbadm.8`, one page a command, `rdbadm-up.8`, and the pages of `rdbsetup`, `rdbmeta`, `rdbmon` and `rdb.conf` into a directory.
pub(crate) fn write(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let command = table::command("rdbadm").disable_help_subcommand(true);
    let mut names = ["rdbd(8)", "rdbmon(8)", "rdb.conf(5)"]
        .map(str::to_owned)
        .to_vec();
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let name = format!("rdbadm-{}", sub.get_name());
        names.push(format!("{name}(8)"));
        let mut more = Page::bare();
        more.see_also(&["rdbadm(8)", "rdb.conf(5)"]);
        let page = sub
            .clone()
            .name(name.clone())
            .bin_name(format!("rdbadm {}", sub.get_name()));
        by_parser(dir, &name, page, &more)?;
    }
    by_parser(dir, "rdbadm", command, &of_rdbadm(&names))?;
    fs::write(dir.join("rdbsetup.8"), tools::setup().source())?;
    fs::write(dir.join("rdbmeta.8"), tools::meta().source())?;
    fs::write(dir.join("rdbmon.8"), monitor::page().source())?;
    fs::write(dir.join("rdb.conf.5"), conf::page().source())
}

/// The files that [`write()`] makes.
pub(crate) fn names() -> Vec<String> {
    let command = table::command("rdbadm").disable_help_subcommand(true);
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    let mut names: Vec<String> = shown
        .map(|sub| format!("rdbadm-{}.8", sub.get_name()))
        .collect();
    names.extend(
        [
            "rdbadm.8",
            "rdbsetup.8",
            "rdbmeta.8",
            "rdbmon.8",
            "rdb.conf.5",
        ]
        .map(str::to_owned),
    );
    names
}

/// What the parser does not know of `rdbadm`.
fn of_rdbadm(see_also: &[String]) -> Page {
    let mut page = Page::bare();
    page.section("WHICH OBJECTS");
    page.text(
        "Commands work on resources of the configuration (`RES`), on single volumes (`RES/N` or `minor-N`), or on `all` resources \
         of this node. `drbdadm` is the same program: what DRBD 8.4's understands it understands, the older spelling \
         `drbdadm -- --OPTION COMMAND RES` as well.",
    );
    page.section("WHO MAY").text(
        "Root, and the user whom the daemon runs as. Others who may open /run/rdb/questions.sock (members of the group `rdb`) get \
         answers to commands that only ask, such as `status`, `overview` and `proc`, without the secrets; what would change \
         something ends with \"permission denied\" and 20.",
    );
    page.section("EXIT STATUS");
    for (code, text) in EXIT_CODES {
        page.item(code, text);
    }
    page.section("EXAMPLES");
    page.text("A new resource, on both nodes, and then on the one that is to hold the data:");
    page.example(
        "rdbadm create-md r0\nrdbadm up r0\n\nrdbadm primary --force r0\nmkfs.ext4 /dev/drbd0\nmount /dev/drbd0 /mnt",
    );
    page.text("To the other node:");
    page.example("umount /mnt\nrdbadm secondary r0\n\nrdbadm primary r0\nmount /dev/drbd0 /mnt");
    page.text("What runs is to agree with the file; what is not well; another program in the daemon's place:");
    page.example("rdbadm adjust all\nrdbadm status --check\nrdbadm restart");
    page.section("ENVIRONMENT");
    page.item("RDB_CONF", "The configuration file, as `--config-file`.");
    page.item("RDB_NODE", "This node's name, as `--node`.");
    page.item("RDB_RUN_DIR", "The run directory, as `--run-dir`.");
    page.item("NO_COLOR", "If it is set, states are not coloured.");
    page.section("FILES");
    page.item(
        "/etc/rdb.conf, /etc/drbd.conf",
        "The configuration. The first one that is there is read.",
    );
    page.item(
        "/etc/rdb/promoter.toml",
        "What `promoter` starts; rdb-doc has promoter.md about it.",
    );
    page.item(
        "/run/rdb/control.sock",
        "How the daemon is told what to do.",
    );
    page.item(
        "/run/rdb/questions.sock",
        "How it is asked by who may not use that.",
    );
    let see_also: Vec<&str> = see_also.iter().map(String::as_str).collect();
    page.see_also(&see_also);
    page
}

/// How a command of `rdbadm` ends, as `docs/commands.md` has it.
const EXIT_CODES: [(&str, &str); 12] = [
    ("0", "It is done, or was so already."),
    (
        "1",
        "The command line is wrong, there is no such resource, a question was answered with no, or a step of `up` or `adjust` has failed.",
    ),
    ("3", "`promoter --status`: no promoter runs."),
    (
        "5",
        "The time of a wait is over, or outdating is impossible.",
    ),
    ("10", "The configuration is wrong, or the daemon refuses."),
    ("11", "A rule of the states forbids it."),
    ("16", "There is no disk."),
    ("17", "A promotion without UpToDate data."),
    (
        "20",
        "The daemon could not be asked, it is that of another node, or it was not done within its time.",
    ),
    (
        "30",
        "It is not known what runs: a daemon is there, or was, and does not say.",
    ),
    ("40", "`create-md` would have destroyed data."),
    ("other", "That of a handler that was called by its name."),
];

/// A page with the sections that come from the parser, and more.
fn by_parser(dir: &Path, name: &str, command: clap::Command, more: &Page) -> io::Result<()> {
    let version = concat!("rdb ", env!("CARGO_PKG_VERSION"));
    let page = clap_mangen::Man::new(command)
        .section("8")
        .date(page::DATE)
        .source(version)
        .manual("rdb");
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    page.render_subcommands_section(&mut text)?;
    // Breaks around an empty line, which is one already.
    let text = String::from_utf8_lossy(&text).replace("\n.br\n\n.br\n", "\n.sp\n");
    fs::write(dir.join(format!("{name}.8")), text + &more.source())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::VERBS;

    #[test]
    fn every_command_that_is_shown_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        let mut made: Vec<String> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut told = names();
        made.sort();
        told.sort();
        assert_eq!(made, told, "what --dry-run says is what is written");
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        let text = read("rdbadm.8");
        assert!(text.contains("questions.sock"), "{text}");
        let of_setup = read("rdbsetup.8");
        for verb in VERBS {
            let name = verb.name.replace('-', "\\-");
            if verb.adm.is_some_and(|adm| !adm.is_hidden) {
                assert!(text.contains(&name), "{}", verb.name);
                let page = read(&format!("rdbadm-{}.8", verb.name));
                assert!(page.contains(".TH"), "{page}");
            }
            if verb.setup.is_some() {
                assert!(of_setup.contains(&name), "{}", verb.name);
            }
        }
        for command in crate::step::MetaCommand::all(false) {
            let name = command.name().replace('-', "\\-");
            assert!(read("rdbmeta.8").contains(&name), "{name}");
        }
    }
}
