//! `rdb.conf(5)`: the options from the table of `rdb-config`, with a sentence on each.

use rdb_config::Section;
use rdb_config::options::{OptionDef, Served, Type, all};

use super::option_texts::about;
use super::page::Page;

/// `rdb.conf(5)`.
pub(super) fn page() -> Page {
    let mut page = Page::new(
        "rdb.conf",
        "5",
        "the configuration of replicated block devices",
    );
    page.section("SYNOPSIS")
        .text("/etc/rdb.conf, else /etc/drbd.conf");
    page.section("DESCRIPTION").text(
        "The file describes resources: on which nodes, with which disks and addresses. It is the same on both nodes, and the same as \
         DRBD's drbd.conf: files for DRBD 0.6 to 8.4, and those of DRBD 9 for two hosts, are understood. /etc/rdb.conf counts if it \
         exists, so that both can be set up on one machine. `rdbadm dump` prints the file as it was understood, `rdbadm adjust all` \
         puts a change into effect. Secrets stand in it, so only root should be able to read it.",
    );
    page.section("EXAMPLES");
    page.example(
        "global { usage-count no; }\nresource r0 {\n    net { protocol C; cram-hmac-alg sha1; shared-secret \"a long one\"; }\n    disk { resync-rate 100M; }\n    device /dev/drbd0;\n    disk /dev/vg/data;\n    meta-disk internal;\n    on alice { address 10.0.0.1:7789; }\n    on bob   { address 10.0.0.2:7789; }\n}",
    );
    statements(&mut page);
    for section in std::iter::once(Section::Global).chain(Section::IN_RESOURCE) {
        let served: Vec<_> = options(section).filter(|def| is_served(def)).collect();
        let others: Vec<_> = options(section).filter(|def| !is_served(def)).collect();
        page.section(&format!(
            "THE SECTION {} {{ }}",
            section.as_str().to_uppercase()
        ));
        for def in served {
            page.item(
                &format!("`{}` {}", def.name, values(def)),
                about(def).unwrap_or_default(),
            );
        }
        unserved(&mut page, &others);
    }
    page.section("NUMBERS").text(
        "`s` is 512 bytes, `K`, `M` and `G` are powers of 1024. Rates and sizes with a suffix are bytes, without one in the unit that \
         stands with the option; counts and times are multiplied.",
    );
    page.section("FILES");
    page.item("/etc/rdb.conf, /etc/drbd.conf", "The configuration.");
    page.item(
        "/etc/drbd.d/",
        "Files that /etc/drbd.conf includes, by custom.",
    );
    page.item(
        "/etc/rdb/rdbd.toml",
        "What only rdb knows: see rdbd.toml(5).",
    );
    page.see_also(&["rdbadm(8)", "rdbd(8)", "rdbd.toml(5)"]);
    page
}

fn statements(page: &mut Page) {
    page.section("STATEMENTS");
    for (word, text) in [
        (
            "`include` \"GLOB\";",
            "Reads other files, relative to this one. A pattern that no file matches is an error unless it has a wildcard.",
        ),
        (
            "`skip` { ... }",
            "Is passed over; so is any section or statement behind the word.",
        ),
        ("`global` { ... }", "What holds for the commands."),
        (
            "`common` { ... }",
            "What all resources have, unless they say otherwise: the sections below.",
        ),
        (
            "`resource` NAME { ... }",
            "A set of volumes with the connection to the peer.",
        ),
        (
            "`on` HOST ... { ... }",
            "What is particular to a host; HOST is what `uname -n` prints.",
        ),
        (
            "`floating` ADDRESS { ... }",
            "A host that is known by its address and not by its name.",
        ),
        (
            "`volume` N { ... }",
            "One volume of several; what stands outside of any is volume 0.",
        ),
        (
            "`device` /dev/drbdN; or `device minor` N;",
            "The device that users open.",
        ),
        (
            "`disk` PATH; or `disk none;`",
            "The backing device; none is a node without one.",
        ),
        (
            "`meta-disk internal;`, PATH; or PATH[INDEX];",
            "Where the metadata is: at the disk's end, on all of another device, or in a part of it.",
        ),
        (
            "`address` [`ipv4`|`ipv6`] IP:PORT;",
            "Where the host listens and calls from.",
        ),
    ] {
        page.item(word, text);
    }
}

fn options(section: Section) -> impl Iterator<Item = &'static OptionDef> {
    all().filter(move |def| def.section == section)
}

fn is_served(def: &OptionDef) -> bool {
    matches!(def.served, Served::Served | Served::ServedBut(_))
}

/// Options without an effect: who has them in a file finds them here.
fn unserved(page: &mut Page, defs: &[&OptionDef]) {
    let is_refused = |def: &&&OptionDef| matches!(def.served, Served::Refused(_));
    for (text, refused) in [
        ("Known, and without an effect; a warning says so:", false),
        (
            "Not served: a resource that sets one of them to something else than its default is refused:",
            true,
        ),
    ] {
        let names = defs.iter().filter(|def| is_refused(def) == refused);
        let names: Vec<_> = names.map(|def| format!("`{}`", def.name)).collect();
        if !names.is_empty() {
            page.text(&format!("{text} {}.", names.join(", ")));
        }
    }
}

/// What an option may be set to, and what it is if it is not set.
fn values(def: &OptionDef) -> String {
    match def.ty {
        Type::Number {
            min,
            default,
            max,
            unit,
        } => {
            let unit = match unit.name() {
                "count" => String::new(),
                unit => format!(", in {unit}"),
            };
            format!("{min} to {max}{unit} [default: {default}]")
        }
        Type::Bool { default } => {
            format!("yes | no [default: {}]", if default { "yes" } else { "no" })
        }
        Type::Words { words, default } => format!("{} [default: {default}]", words.join(" | ")),
        Type::Text { max_len } => format!("TEXT of at most {max_len} bytes"),
        Type::Hosts => "HOST ... | both".to_owned(),
        Type::ResourceRef => "RES".to_owned(),
        Type::Words9 => "...".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::man::option_texts::TEXTS;

    #[test]
    fn every_option_that_has_an_effect_is_explained_and_no_other() {
        for def in all() {
            let text = about(def);
            assert_eq!(
                text.is_some(),
                is_served(def),
                "{:?} {}",
                def.section,
                def.name
            );
            assert!(text.is_none_or(|text| text.ends_with('.')), "{}", def.name);
        }
        for (section, name, _) in TEXTS {
            assert!(
                rdb_config::options::find(*section, name).is_some(),
                "{name}"
            );
        }
    }
}
