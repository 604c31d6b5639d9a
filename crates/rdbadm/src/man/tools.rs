//! `rdbsetup(8)` and `rdbmeta(8)`.

use super::page::Page;
use crate::setup::GLOBALS;
use crate::step::MetaCommand;
use crate::verbs::{VERBS, Verb};

/// `rdbsetup(8)`.
pub(super) fn setup() -> Page {
    let mut page = Page::new(
        "rdbsetup",
        "8",
        "take one step on the resources of the daemon",
    );
    page.section("SYNOPSIS").text(
        "`rdbsetup` [`--run-dir` DIR] [`--node` NAME] [`--cmd-timeout` SECONDS] COMMAND ARGUMENTS [OPTIONS]",
    );
    page.section("DESCRIPTION").text(
        "rdbsetup asks the daemon for one step, and reads no configuration. `rdbadm` plans these steps from the configuration, and is \
         what administrators type; with `-d` it prints them. `drbdsetup` is the same program. RES is a resource's name, MINOR a \
         number, `minor-N` or /dev/drbdN; LOCAL and PEER are addresses, `ipv4:10.0.0.1:7789`. The order of DRBD 8.3, OBJECT COMMAND, is \
         understood, too.",
    );
    page.section("OPTIONS");
    for (name, value) in GLOBALS {
        let text = match name {
            "--run-dir" => "Directory of the control socket [default: /run/rdb].",
            "--node" => "The node whose daemon is meant; another one refuses.",
            _ => {
                "Give the command up after so long; 0 is never [default: 5 s for questions and settings, 121 s for the others]."
            }
        };
        page.item(&format!("`{name}` {value}"), text);
    }
    page.section("COMMANDS");
    for verb in VERBS {
        if let Some(setup) = &verb.setup {
            let mut usage = format!("`{}`", verb.name);
            if !setup.args.is_empty() {
                usage += &format!(" {}", setup.args);
            }
            for own in setup.own {
                usage += &format!(" [`--{own}`]");
            }
            if let Some(section) = setup.section {
                usage += &format!(" [`--`OPTION-OF-{}=VALUE ...]", section.as_str());
            }
            page.item(&usage, &about(verb));
        }
    }
    page.text(
        "The options of a section are those of `rdb.conf`(5), as `--name=value`. What is not given stays as it is, or, with \
         `--set-defaults`, becomes the default.",
    );
    page.section("EXIT STATUS");
    page.item("0", "It is done.");
    page.item(
        "5",
        "The time of a wait is over, or outdating is impossible.",
    );
    page.item(
        "10",
        "The daemon refuses; the message has the number and the reason.",
    );
    page.item(
        "11, 16, 17",
        "A rule of the states forbids it; no disk; no UpToDate data.",
    );
    page.item(
        "20",
        "The command line is wrong, or the daemon could not be asked.",
    );
    page.item("30", "It is not known what runs.");
    page.section("EXAMPLES");
    page.example(
        "rdbsetup role 0\nrdbsetup status r0 --verbose --statistics\nrdbsetup disk-options 0 --resync-rate=100M\nrdbsetup net-options ipv4:10.0.0.1:7789 ipv4:10.0.0.2:7789 --protocol=A",
    );
    files(&mut page);
    page.see_also(&["rdbadm(8)", "rdbd(8)", "rdb.conf(5)"]);
    page
}

/// What the commands of `rdbsetup` do that `rdbadm` has not, or has with a wider meaning.
const TEXTS: [(&str, &str); 6] = [
    ("del-resource", "Delete a resource that has no volumes."),
    ("del-minor", "Delete a volume that has no disk."),
    (
        "show",
        "Print what runs, in the words of the configuration.",
    ),
    (
        "events",
        "Print what happens, in the lines of drbdsetup 8.4, until it is interrupted.",
    ),
    ("shutdown", "End the daemon, once it has no resources."),
    ("down", "Demote, disconnect, detach and delete a resource."),
];

/// `rdbmeta(8)`.
pub(super) fn meta() -> Page {
    let mut page = Page::new("rdbmeta", "8", "work on the metadata of one disk");
    page.section("SYNOPSIS")
        .text("`rdbmeta` [`--force`] {N|/dev/drbdN|-} `v08` DEVICE {`internal`|`flex-external`|INDEX} COMMAND");
    page.section("DESCRIPTION").text(
        "rdbmeta writes, reads and changes the metadata of a disk that the daemon does not use. N is the minor number of its device, or \
         `-` for none: then nothing tells whether it is in use. `v08` is the format, that of DRBD 8.4. DEVICE is where the metadata is: \
         the disk itself with `internal`, another device with `flex-external` (all of it) or an INDEX (128 MiB each). `drbdmeta` is the \
         same program, and `rdbadm` calls it for `create-md` and the other commands on metadata.",
    );
    page.section("OPTIONS");
    page.item("`--force`, `-f`", "Do it without asking.");
    page.section("COMMANDS");
    for command in MetaCommand::all(false) {
        let operand = command.operand().map(|word| format!(" {word}"));
        let operand = operand.unwrap_or_default();
        page.item(
            &format!("`{}`{operand}", command.name()),
            meta_about(command),
        );
    }
    page.section("EXIT STATUS");
    page.item("0", "It is done.");
    page.item(
        "1",
        "The command line is wrong, the question was answered with no, or there is no metadata.",
    );
    page.item("20", "The disk is in use, or can not be read or written.");
    page.item("40", "`create-md` would have destroyed data.");
    page.section("EXAMPLES");
    page.example(
        "rdbmeta 0 v08 /dev/vg/data internal create-md\nrdbmeta - v08 /dev/vg/data internal dump-md\nrdbmeta 5 v08 /dev/vg/meta 0 apply-al",
    );
    files(&mut page);
    page.see_also(&["rdbadm(8)", "rdbsetup(8)"]);
    page
}

fn files(page: &mut Page) {
    page.section("FILES");
    page.item("/run/rdb/control.sock", "How the daemon is asked.");
    page.item(
        "/run/rdb/questions.sock",
        "How it is asked by members of the group `rdb`, who may change nothing.",
    );
}

fn about(verb: &Verb) -> String {
    let own = TEXTS.iter().find(|(name, _)| *name == verb.name);
    match (own, verb.adm) {
        (Some((_, text)), _) => (*text).to_owned(),
        (None, Some(adm)) => format!("{}.", adm.about),
        (None, None) => String::new(),
    }
}

fn meta_about(command: MetaCommand) -> &'static str {
    match command {
        MetaCommand::CreateMd { .. } => {
            "Write fresh metadata. A disk that holds data where it would be is refused."
        }
        MetaCommand::WipeMd { .. } => "Remove it.",
        MetaCommand::ApplyAl => "Mark in the bitmap what the activity log of a crashed node names.",
        MetaCommand::DumpMd => "Print everything, as text that DRBD's drbdmeta reads, too.",
        MetaCommand::GetGi => "Print the generation identifiers.",
        MetaCommand::ShowGi => "Print the generation identifiers with explanations.",
        MetaCommand::GiJson => "Print the generation identifiers as JSON.",
        MetaCommand::SetGi { .. } => "Write these generation identifiers.",
        MetaCommand::RestoreMd { .. } => {
            "Write the metadata that a file has, as dump-md or DRBD's drbdmeta has printed it; - is standard input."
        }
        MetaCommand::VerifyDump => "Look whether restore-md would take a file, and write nothing.",
        MetaCommand::Dstate => "Print the disk state.",
        MetaCommand::Outdate => "Mark the data outdated: the node is not promoted with them.",
        MetaCommand::Invalidate => "Mark the data bad: the next sync copies everything.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_rdbsetup_says_what_it_does() {
        for verb in VERBS.iter().filter(|verb| verb.setup.is_some()) {
            assert!(about(verb).ends_with('.'), "{}", verb.name);
        }
        for (name, _) in TEXTS {
            let verb = crate::verbs::of_setup(name);
            assert!(verb.is_some_and(|verb| verb.name == name), "{name}");
        }
    }
}
