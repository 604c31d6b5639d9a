//! The manual page `rdbd.8`: the options from the parser, the rest from here.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;

use crate::args::Args;

/// Writes `rdbd.8` into a directory.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let page = clap_mangen::Man::new(Args::command()).section("8");
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    text.write_all(MORE.as_bytes())?;
    std::fs::write(directory.join("rdbd.8"), text)
}

/// What the parser does not know.
const MORE: &str = r#".SH SETTINGS
The settings file is TOML. A key that it does not know is an error. What is given on the command line or in the environment
counts more.
.TP
\fBfrontend\fR = "\fIname\fR"
How devices are served: auto (default), ublk, nbd, fuse or socket. The NBD socket is there in any case. On a kernel that is
known to crash with ublk, auto passes over it and ublk is refused; ublk\-anyway takes it all the same.
.TP
\fBlog\-level\fR = "error", "warn", "info" (default), "debug" or "trace"
How much is logged.
.TP
\fBdevice\-links\fR = true or false
Whether /dev/drbd\fIMINOR\fR, /dev/drbd/by\-res/\fIRESOURCE\fR/\fIVOLUME\fR and /dev/drbd/by\-disk/\fIDISK\fR are made. By
default only with the default run directory.
.TP
\fBbusy\-poll\-us\fR = \fInumber\fR
Microseconds that the thread of a resource looks for the end of an operation before it sleeps, while it has work (200 by
default). 0 never does: that saves CPU, and a small write takes longer.
.TP
\fBquestions\-group\fR = "\fIgroup\fR"
The group, by name or number, whose members may ask over the socket for questions. By default rdb, if there is such a group. If a
group that is named here does not exist only root can ask.
.TP
\fBquestions\-mode\fR = "0600", "0660" (default) or "0666"
The mode of that socket.
.TP
\fBstate\-dir\fR = "\fIdirectory\fR"
Where the histories of the resources are kept, which \fBrdbadm split\-brain\fR shows. By default /var/lib/rdb, and \fIRUN\fR/state for a
daemon with another run directory than the usual one. One that cannot be written costs a line of the log and nothing else.
.TP
\fBon\-no\-space\fR = "suspend" (default), "detach" or "pass_on"
What a write means that finds no space on the backing disk (a thin volume, a sparse file, a quota). suspend: it waits, metadata
and what the peer sends too, and is tried again every second until there is space; reads go on; rdbadm status says how many
wait. detach: the disk is given up. pass_on: the write fails, and the disk stays. It holds for all disks of the daemon.
.TP
\fBcompat.proc\-drbd\fR = true, false (default) or "\fIfile\fR"
Whether the status file is mounted over /proc/drbd, or over that file, for programs that know the kernel's driver alone. It takes
FUSE, root, and the file: /proc/drbd is there while the kernel's module drbd is loaded, which must have no resources of its own. It goes at the
end of the daemon.
.SH LOG
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
The settings file.
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
The process; it is locked while the daemon runs, and goes with an orderly end.
.TP
/run/rdb/rdbd.state
What runs, for the next daemon: configuration, with secrets, and roles. Only its owner can read it.
.TP
/var/lib/rdb/history/\fIRESOURCE\fR.jsonl
What has happened to a resource, a JSON object a line; the older lines are in \fIRESOURCE\fR.jsonl.1.
.SH SEE ALSO
.BR rdbadm (8)
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_option_and_every_setting() {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path()).expect("written");
        let text = std::fs::read_to_string(dir.path().join("rdbd.8")).expect("there");
        for word in [
            ".TH rdbd 8",
            "frontend",
            "run\\-dir",
            "node",
            "background",
            "RDB_NODE",
            "log\\-level",
            "device\\-links",
            "busy\\-poll\\-us",
            "on\\-no\\-space",
            "check",
            "questions\\-group",
            "questions\\-mode",
            "questions.sock",
            "state\\-dir",
            "compat.proc\\-drbd",
            "rdbadm restart",
        ] {
            assert!(text.contains(word), "{word} is missing in {text}");
        }
        assert!(!text.contains("generate"), "{text}");
    }
}
