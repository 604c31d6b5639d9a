//! The manual pages `rdbd.8` and `rdbd.toml.5`: the options from the parser, the rest from here.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use roff::{Roff, bold, roman};

use crate::args::Args;

/// Writes both into a directory.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let page = clap_mangen::Man::new(Args::command())
        .section("8")
        .date(DATE)
        .source(concat!("rdb ", env!("CARGO_PKG_VERSION")))
        .manual("rdb");
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    text.write_all(MORE.as_bytes())?;
    std::fs::write(directory.join("rdbd.8"), text)?;
    std::fs::write(directory.join("rdbd.toml.5"), of_settings())
}

/// The page `rdbd.toml.5`.
fn of_settings() -> String {
    let mut page = Roff::new();
    let version = concat!("rdb ", env!("CARGO_PKG_VERSION"));
    page.control("TH", ["rdbd.toml", "5", DATE, version, "rdb"])
        .control("SH", ["NAME"])
        .text([roman("rdbd.toml - settings of the daemon rdbd")])
        .control("SH", ["DESCRIPTION"])
        .text([roman(
            "The file is TOML, and says what only rdb knows, so that drbd.conf can serve kernel nodes and rdb nodes alike. A key that it \
             does not know is an error; `rdbd --check` finds that beforehand. What is given on the command line or in the environment \
             counts more. Without the file every key has its default. On SIGHUP (systemctl kill -s HUP rdbd) it is read again.",
        )])
        .control("SH", ["KEYS"]);
    for key in KEYS {
        page.control("TP", [])
            .text([bold(key.name), roman(format!(" = {}", key.values))])
            .text([roman(format!("{} [default: {}]", key.about, key.default))]);
    }
    page.control("SH", ["EXAMPLES"]).control("nf", []);
    for line in EXAMPLE.lines() {
        page.text([roman(line)]);
    }
    page.control("fi", [])
        .control("SH", ["FILES"])
        .control("TP", [])
        .text([roman(crate::settings::DEFAULT_PATH)])
        .text([roman("The file, unless --config names another one.")])
        .control("SH", ["SEE ALSO"])
        .text([bold("rdbd"), roman("(8), "), bold("rdb.conf"), roman("(5)")]);
    page.render()
}

/// When the texts of the pages were last looked through.
const DATE: &str = "2026-11-29";

/// A key of the settings file.
struct Key {
    name: &'static str,
    values: &'static str,
    default: &'static str,
    about: &'static str,
}

const fn key(
    name: &'static str,
    values: &'static str,
    default: &'static str,
    about: &'static str,
) -> Key {
    Key {
        name,
        values,
        default,
        about,
    }
}

/// All keys, as [`Settings`](crate::settings::Settings) has them.
#[rustfmt::skip]
const KEYS: [Key; 13] = [
    key("frontend", "\"auto\", \"ublk\", \"nbd\", \"fuse\" or \"socket\"", "\"auto\"",
        "How devices are served: by the kernel's ublk driver, by its NBD client, by a loop device over a FUSE file, or by the NBD socket \
         alone, which is there in any case. On a kernel that is known to crash with ublk, auto passes over it and ublk is refused; \
         \"ublk-anyway\" takes it all the same."),
    key("log-level", "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"", "\"info\"", "How much is logged."),
    key("device-links", "true or false", "true with the default run directory, else false",
        "Whether /dev/drbdMINOR and /dev/drbd/by-res/RESOURCE/VOLUME are made."),
    key("busy-poll-us", "NUMBER", "200",
        "Microseconds that the thread of a resource looks for the end of an operation before it sleeps, while it has work. 0 never does: \
         that saves CPU, and a small write takes longer."),
    key("core-dumps", "\"none\", \"without-data\" or \"whole\"", "\"none\"",
        "What is left of a daemon that crashes. Both kinds of core dumps hold the shared secrets; only the last one holds users' data."),
    key("on-no-space", "\"suspend\", \"detach\" or \"pass_on\"", "\"suspend\"",
        "What a write means that finds no space on the backing disk (a thin volume, a sparse file, a quota). suspend: it waits, metadata and \
         what the peer sends too, and is tried again every second until there is space; reads go on; rdbadm status says how many wait. \
         detach: the disk is given up. pass_on: the write fails, and the disk stays. It holds for all disks of the daemon."),
    key("handler-timeout", "SECONDS", "180", "How long a handler may take before it is ended; 0 is for ever."),
    key("nbd-connections", "NUMBER, 1 to 16", "1", "Connections of a new device of the front end nbd."),
    key("questions-group", "\"GROUP\"", "\"rdb\", if there is such a group",
        "The group, by name or number, whose members may ask over the socket for questions. If it does not exist only root can ask."),
    key("questions-mode", "\"0600\", \"0660\" or \"0666\"", "\"0660\"", "The mode of that socket."),
    key("state-dir", "\"DIRECTORY\"", "\"/var/lib/rdb\", and RUN/state with another run directory than the usual one",
        "Where the histories of the resources are kept, which rdbadm split-brain shows. One that cannot be written costs a line of the log \
         and nothing else. Each daemon has its own: one whose directory another live daemon uses does not start."),
    key("http", "\"ADDRESS:PORT\"", "none",
        "Where a page, the state as JSON and metrics are served to whoever reaches that address, such as \"127.0.0.1:9942\"; questions only."),
    key("compat.proc-drbd", "true, false or \"FILE\"", "false",
        "Whether the status file is mounted over /proc/drbd, or over that file, for programs that know the kernel's driver alone. It takes \
         FUSE, root, and the file: /proc/drbd is there while the kernel's module drbd is loaded, which must have no resources of its own. It \
         goes at the end of the daemon."),
];

/// The file that packages install as `/etc/rdb/rdbd.toml`.
const EXAMPLE: &str = include_str!("../../../packaging/rdbd.toml");

/// What the parser does not know.
const MORE: &str = r#".SH LOG
The log goes to standard error. Nothing waits for its reader: lines that nobody takes are counted and left out.
.SH SIGNALS
SIGTERM and SIGINT bring all resources down and end the daemon. A ublk or NBD device that is in use stays: its users wait, and the
next daemon brings its resource up and makes it Primary again by itself. So it does after a crash of the daemon.
.SH EXIT STATUS
0 after an orderly end, 3 if another daemon has the run directory, 2 for a wrong option, and 1 for everything else.
.SH REPLACING THE DAEMON
\fBrdbadm restart\fR has the daemon hand everything over to a new program, in the same process, under the devices in use.
.SH FILES
.TP
/etc/rdb/rdbd.toml
The settings file; see \fBrdbd.toml\fR(5).
.TP
/run/rdb/control.sock
The control socket, for rdbadm and rdbsetup. Only root and the daemon's user may use it.
.TP
/run/rdb/questions.sock
The same for questions: nothing can be changed over it, and no secret is told.
.TP
/run/rdb/status
The state of all resources, as the kernel's driver shows it in /proc/drbd.
.TP
/run/rdb/nbd/\fIRESOURCE\fR.sock
The NBD socket of a resource, while it is primary.
.TP
/run/rdb/rdbd.pid
The process; goes with an orderly end.
.TP
/run/rdb/rdbd.lock
Locked while the daemon runs, and keeps a second one out. Only its owner can open it, and so lock it.
.TP
/run/rdb/rdbd.state
What runs, for the next daemon: configuration, with secrets, and roles. Only its owner can read it.
.TP
/var/lib/rdb/history/\fIRESOURCE\fR.jsonl
What has happened to a resource, a JSON object a line; the older lines are in \fIRESOURCE\fR.jsonl.1.
.SH EXAMPLES
A daemon of another name in a directory of its own, for trying things out, and whether one could run here:
.PP
.nf
rdbd \-\-node alice \-\-run\-dir /tmp/alice \-\-frontend socket
rdbd \-\-check
.fi
.SH SEE ALSO
.BR rdbadm (8),
.BR rdbsetup (8),
.BR rdbd.toml (5),
.BR rdb.conf (5)
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn written(name: &str) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path()).expect("written");
        std::fs::read_to_string(dir.path().join(name)).expect("there")
    }

    #[test]
    fn the_page_names_every_option() {
        let text = written("rdbd.8");
        for word in [
            ".TH rdbd 8",
            "frontend",
            "run\\-dir",
            "node",
            "background",
            "RDB_NODE",
            "check",
            "questions.sock",
            "rdbadm restart",
        ] {
            assert!(text.contains(word), "{word} is missing in {text}");
        }
        assert!(!text.contains("generate"), "{text}");
    }

    /// The keys of the page are those that the daemon knows, in their order.
    #[test]
    fn the_page_of_the_settings_has_every_key() {
        let error = Settings::read(Path::new("rdbd.toml"), b"nonsense = 1\n").expect_err("no key");
        let error = error.to_string();
        let (_, known) = error.split_once("expected one of ").expect("it names them");
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        let first = |key: Key| key.name.split('.').next().unwrap_or_default();
        assert_eq!(known, KEYS.map(first));
        let text = written("rdbd.toml.5");
        for key in KEYS {
            assert!(
                text.contains(&format!("\\fB{}", key.name.replace('-', "\\-"))),
                "{text}"
            );
        }
    }

    /// Each line of the example that begins with `#` and no blank is a key with its default.
    #[test]
    fn the_example_has_every_key_with_a_value_that_is_taken() {
        let keys: Vec<&str> = EXAMPLE
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .collect();
        let keys: Vec<&str> = keys
            .into_iter()
            .filter(|line| !line.starts_with(' '))
            .collect();
        let names: Vec<&str> = keys
            .iter()
            .filter_map(|line| line.split(" =").next())
            .collect();
        assert_eq!(names, KEYS.map(|key| key.name));
        Settings::read(Path::new("rdbd.toml"), keys.join("\n").as_bytes()).expect("a valid file");
        assert!(
            EXAMPLE
                .lines()
                .all(|line| line.is_empty() || line.starts_with('#')),
            "{EXAMPLE}"
        );
    }
}
