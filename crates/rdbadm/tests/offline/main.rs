//! The commands that need no daemon, as a user calls them: metadata on plain files, refusals, exit codes, spellings.

mod metadata;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A node's configuration, disk and run directory. No daemon ever runs in it.
struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Node {
        let node = Node {
            dir: tempfile::tempdir().unwrap(),
        };
        File::create(node.disk())
            .unwrap()
            .set_len(64 << 20)
            .unwrap();
        let disk = node.disk().display().to_string();
        let text = format!(
            "resource r0 {{\n  net {{ protocol C; shared-secret \"hush\"; cram-hmac-alg sha1; }}\n  \
             device /dev/drbd0; disk {disk}; meta-disk internal;\n  \
             on alice {{ address 127.0.0.1:7789; }}\n  on bob {{ address 127.0.0.2:7789; }}\n}}\n"
        );
        std::fs::write(node.conf(), text).unwrap();
        node.let_read(0o600);
        node
    }

    /// Who may read the configuration, which holds a secret.
    fn let_read(&self, mode: u32) {
        use std::os::unix::fs::PermissionsExt;

        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.conf(), mode).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn disk(&self) -> PathBuf {
        self.path("disk")
    }

    fn conf(&self) -> PathBuf {
        self.path("rdb.conf")
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rdbadm"));
        command
            .args(words.split_whitespace())
            .env("RDB_NODE", "alice")
            .env("RDB_CONF", self.conf())
            .env("RDB_RUN_DIR", self.path("run"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &str) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs with an answer on standard input.
    fn answer(&self, words: &str, answer: impl AsRef<[u8]>) -> Output {
        let mut child = self
            .command(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(answer.as_ref())
            .unwrap();
        child.wait_with_output().unwrap()
    }

    #[track_caller]
    fn ok(&self, words: &str) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words}: {output:?}");
        out(&output)
    }

    /// Runs what must fail; the exit status and what is said on standard error.
    #[track_caller]
    fn fails(&self, words: &str) -> (i32, String) {
        let output = self.run(words);
        assert!(!output.status.success(), "{words}: {output:?}");
        (output.status.code().unwrap(), err(&output))
    }
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const FRESH: &str =
    "0000000000000004:0000000000000000:0000000000000000:0000000000000000:0:0:0:0:0:0:0\n";

#[test]
fn a_configuration_that_is_a_pipe_is_not_waited_for() {
    let node = Node::new();
    let fifo = node.path("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let (code, text) = node.fails(&format!("-c {} sh-resources", fifo.display()));
    assert_eq!(code, 10, "{text}");
    assert!(
        text.contains("it is a pipe (FIFO), not a regular file"),
        "{text}"
    );
    std::fs::write(node.conf(), "include \"fifo\";\n").unwrap();
    let (code, text) = node.fails("sh-resources");
    assert_eq!(code, 10, "{text}");
    assert!(
        text.contains("rdb.conf:1: Failed to open include file 'fifo'."),
        "{text}"
    );
}

#[test]
fn without_a_daemon_everything_is_unconfigured() {
    let node = Node::new();
    assert_eq!(node.ok("role r0"), "Unconfigured\n");
    assert_eq!(node.ok("cstate r0"), "Unconfigured\n");
    assert_eq!(node.ok("status"), "");
    assert_eq!(node.ok("status --json"), "[]\n");
    assert_eq!(node.ok("down r0"), "");
    assert_eq!(node.ok("overview"), "");
    let (code, text) = node.fails("status r0");
    assert_eq!((code, text.as_str()), (10, "r0: No such resource\n"));
    let (code, text) = node.fails("secondary r0");
    assert_eq!(
        (code, text.as_str()),
        (
            10,
            "0: Failure: (127) Device minor not allocated\nadditional info from kernel:\nunknown minor\n\
             Hint: resource r0 is not up; run 'rdbadm up r0'.\n\
             Command 'rdbsetup secondary 0' terminated with exit code 10\n"
        )
    );
    for verb in ["disconnect", "net-options"] {
        let (code, text) = node.fails(&format!("{verb} r0"));
        assert_eq!(code, 10);
        assert!(
            text.starts_with("r0: Failure: (162) Invalid configuration request\n"),
            "{text}"
        );
    }
    assert_eq!(node.fails("proc").0, 20);
    assert!(
        !node.path("run").exists(),
        "nothing of this starts a daemon"
    );
}

#[test]
fn a_dry_run_prints_steps_and_touches_nothing() {
    let node = Node::new();
    let disk = node.disk().display().to_string();
    assert_eq!(
        node.ok("-d up r0"),
        format!(
            "rdbsetup new-resource r0\nrdbsetup new-minor r0 0 0\nrdbmeta 0 v08 {disk} internal apply-al\n\
             rdbsetup attach 0 {disk} {disk} internal\nrdbsetup connect r0 ipv4:127.0.0.1:7789 \
             ipv4:127.0.0.2:7789 --protocol=C --shared-secret=hush --cram-hmac-alg=sha1\n"
        )
    );
    for spelling in [
        "-d primary --force r0",
        "-d primary r0 --force",
        "-d primary -o r0/0",
        "-d primary --force minor-0",
    ] {
        assert_eq!(
            node.ok(spelling),
            "rdbsetup primary 0 --force\n",
            "{spelling}"
        );
    }
    for spelling in [
        "-d connect --discard-my-data r0",
        "-d -- --discard-my-data connect r0",
    ] {
        let line = node.ok(spelling);
        assert!(line.ends_with(" --discard-my-data\n"), "{spelling}: {line}");
    }
    assert!(!node.path("run").exists());
}

#[test]
fn links_with_drbds_names_speak_as_drbds_tools() {
    let node = Node::new();
    let link = node.path("drbdadm");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_rdbadm"), &link).unwrap();
    let output = Command::new(&link)
        .args([
            "-c",
            node.conf().to_str().unwrap(),
            "--node",
            "alice",
            "-d",
            "secondary",
            "r0",
        ])
        .output()
        .unwrap();
    assert_eq!(out(&output), "drbdsetup secondary 0\n");
    let output = Command::new(&link).arg("frobnicate").output().unwrap();
    assert_eq!(
        (output.status.code(), err(&output).as_str()),
        (Some(1), "drbdadm: Unknown command 'frobnicate'\n")
    );
}

#[test]
fn wrong_calls_are_told_as_drbdadm_does() {
    let node = Node::new();
    for (words, code, text) in [
        ("frobnicate", 1, "rdbadm: Unknown command 'frobnicate'\n"),
        (
            "shutdown",
            1,
            "rdbadm: Unknown command 'shutdown'\nThere is 'rdbsetup shutdown'.\n",
        ),
        (
            "primary --frobnicate r0",
            1,
            "rdbadm: unrecognized option '--frobnicate'\ntry 'rdbadm help'\n",
        ),
        (
            "metrics r0",
            1,
            "rdbadm: unexpected word 'r0'\ntry 'rdbadm help'\n",
        ),
        (
            "up nosuch",
            1,
            "'nosuch' not defined in your config (for this host).\n",
        ),
        (
            "connect r0/1",
            1,
            "'r0/1' not defined in your config (for this host).\n",
        ),
        (
            "rdbsetup frobnicate 0",
            20,
            "rdbsetup: Unknown command 'frobnicate'\n",
        ),
        (
            "rdbsetup detach x",
            20,
            "rdbsetup: 'x' is not a minor number\n",
        ),
        (
            "rdbsetup primary x",
            10,
            "x: Failure: (158) Unknown resource\nadditional info from kernel:\nunknown resource\n",
        ),
        ("rdbsetup status nosuch", 10, "nosuch: No such resource\n"),
    ] {
        assert_eq!(node.fails(words), (code, text.to_owned()), "{words}");
    }
    let (code, text) = node.fails("primary");
    assert_eq!(code, 1);
    assert!(text.ends_with("No resource names specified\n"), "{text}");
    let (code, text) = node.fails("--node zoe up r0");
    assert_eq!(code, 1);
    assert!(
        text.contains("This host is called 'zoe'; the resource has sections for 'alice', 'bob'."),
        "{text}"
    );
}

#[test]
fn a_bad_configuration_ends_with_its_message_and_10() {
    let node = Node::new();
    std::fs::write(node.conf(), "resource r0 {\n  net { tiemout 5; }\n}\n").unwrap();
    let (code, text) = node.fails("up r0");
    assert_eq!(code, 10);
    assert!(
        text.contains(":2: Parse error:") && text.contains("but got 'tiemout'"),
        "{text}"
    );
    std::fs::remove_file(node.conf()).unwrap();
    let (code, text) = node.fails("up r0");
    assert_eq!(code, 10);
    assert!(
        text.starts_with("Can not open '") && text.contains("No such file or directory"),
        "{text}"
    );
}

#[test]
fn the_configuration_may_come_from_standard_input() {
    let node = Node::new();
    let text = std::fs::read_to_string(node.conf()).unwrap();
    for name in ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"] {
        let output = node.answer(&format!("-c {name} sh-resources"), &text);
        assert_eq!(
            (output.status.code(), out(&output).as_str()),
            (Some(0), "r0\n"),
            "{name}"
        );
        let output = node.answer(&format!("-c {name} sh-resources"), "nonsense");
        assert!(err(&output).starts_with("STDIN:1: "), "{output:?}");
    }
    let latin = [b"# \xe4\n", text.as_bytes()].concat();
    assert_eq!(out(&node.answer("-c - sh-resources", latin)), "r0\n");
    for (bytes, words) in [
        (
            b"\nresource \"\xe4\" { }".to_vec(),
            "STDIN:2: this is not valid UTF-8",
        ),
        (
            vec![b'\n'; (4 << 20) + 1],
            "bytes in one configuration file: more than 4194304",
        ),
    ] {
        let output = node.answer("-c - sh-resources", bytes);
        assert_eq!(output.status.code(), Some(10));
        assert!(err(&output).contains(words), "{output:?}");
    }
}

#[test]
fn facts_of_the_configuration_are_printed_for_scripts() {
    let node = Node::new();
    let disk = format!("{}\n", node.disk().display());
    for (words, text) in [
        ("sh-resources", "r0\n"),
        ("sh-dev r0", "/dev/drbd0\n"),
        ("sh-minor r0", "0\n"),
        ("sh-ll-dev r0", disk.as_str()),
        ("sh-md-dev r0", disk.as_str()),
        ("sh-md-idx r0", "internal\n"),
        ("sh-ip r0", "127.0.0.1\n"),
        ("sh-nop", ""),
    ] {
        assert_eq!(node.ok(words), text, "{words}");
    }
}

#[test]
fn a_secret_that_everybody_may_read_is_told() {
    // Who does what the guide says is told nothing.
    let guide = include_str!("../../../../docs/guide.md");
    assert!(guide.contains("shared-secret") && guide.contains("chmod 600 /etc/drbd.conf"));
    let node = Node::new();
    let warning = "everybody on this machine may read the shared secret: chmod o-r";
    for (mode, told) in [(0o600, 0), (0o640, 0), (0o644, 1), (0o604, 1)] {
        node.let_read(mode);
        let output = node.command("dump r0").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.matches(warning).count(), told, "{mode:o}: {said}");
        assert!(output.status.success());
    }
}

#[test]
fn a_dump_shows_secrets_unless_asked_not_to() {
    let node = Node::new();
    for words in ["dump", "dump r0", "dump-xml r0", "dump --show-secrets r0"] {
        assert!(node.ok(words).contains("hush"), "{words}");
    }
    for words in ["dump --hide-secrets", "dump --hide-secrets r0"] {
        let text = node.ok(words);
        assert!(!text.contains("hush") && text.contains("*****"), "{text}");
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let node = Node::new();
    node.ok("create-md r0");
    for words in [
        "dump-md r0",
        "show-gi r0",
        "dump",
        "completions bash",
        "--help",
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = node
            .command(words)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(
            (output.status.code(), err(&output).as_str()),
            (Some(0), ""),
            "{words}"
        );
    }
}

#[test]
fn completions_and_manual_pages_know_the_commands() {
    let node = Node::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            node.ok(&format!("completions {shell}"))
                .contains("rdbadm --complete"),
            "{shell}"
        );
    }
    assert!(
        node.ok("--complete rdbadm invalidate-")
            .starts_with("invalidate-remote\t")
    );
    assert_eq!(node.ok("--complete drbdadm down r"), "r0\tresource\n");
    let man = node.path("man");
    node.ok(&format!("man {}", man.display()));
    assert!(Path::new(&man.join("rdbadm-create-md.8")).exists());
}

#[test]
fn a_socket_that_nobody_serves_is_no_daemon() {
    let node = Node::new();
    std::fs::create_dir(node.path("run")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(node.path("run/control.sock")).unwrap());
    assert_eq!(node.ok("role r0"), "Unconfigured\n");
}

/// Two resources, of which the first sets something that is not served.
fn with_one_refused(node: &Node) {
    let disk = node.disk().display().to_string();
    let resource = |name: &str, minor: u32, more: &str| {
        format!(
            "resource {name} {{\n  {more}\n  volume 0 {{ device /dev/drbd{minor}; disk {disk}{minor}; meta-disk internal; }}\n  \
             volume 1 {{ device /dev/drbd{}; disk {disk}{0}; meta-disk internal; }}\n  \
             on alice {{ address 127.0.47.1:{}; }}\n  on bob {{ address 127.0.47.2:{1}; }}\n}}\n",
            minor + 1,
            7789 + minor
        )
    };
    let text = resource("r0", 0, "disk { al-updates no; }") + &resource("r1", 2, "");
    std::fs::write(node.conf(), text).unwrap();
}

#[test]
fn one_resource_that_is_not_served_stops_neither_the_others_nor_questions_about_it() {
    let node = Node::new();
    with_one_refused(&node);
    for words in ["-d up all", "-d adjust all", "-d up r0 r1"] {
        let output = node.run(words);
        assert_eq!(output.status.code(), Some(10), "{words}");
        assert!(
            err(&output).contains("r0: disk option 'al-updates' is not served"),
            "{output:?}"
        );
        let steps = out(&output);
        assert!(
            steps.contains("rdbsetup connect r1") && !steps.contains("r0"),
            "{words}: {steps}"
        );
    }
    for (words, text) in [
        ("role r0", "Unconfigured\nUnconfigured\n"),
        ("cstate r0/0", "Unconfigured\n"),
        ("sh-dev r0", "/dev/drbd0\n/dev/drbd1\n"),
        ("sh-ip r0/0", "127.0.47.1\n"),
        ("-d down r0", "rdbsetup down r0\n"),
        ("-d secondary r0/0", "rdbsetup secondary 0\n"),
        ("-d detach r0/0", "rdbsetup detach 0\n"),
        (
            "-d disconnect r0",
            "rdbsetup disconnect ipv4:127.0.47.1:7789 ipv4:127.0.47.2:7789\n",
        ),
    ] {
        assert_eq!(node.ok(words), text, "{words}");
    }
    let disk = node.disk().display().to_string();
    assert_eq!(
        node.ok("-d dstate r0/0"),
        format!("rdbsetup dstate 0\nrdbmeta 0 v08 {disk}0 internal dstate\n")
    );
    let steps = node.ok("-d dump-md r0");
    assert_eq!(steps.lines().count(), 2, "{steps}");
}

#[test]
fn a_command_on_one_volume_leaves_the_others_alone() {
    let node = Node::new();
    with_one_refused(&node);
    let disk = node.disk().display().to_string();
    let up = format!(
        "rdbsetup new-resource r1\nrdbsetup new-minor r1 3 1\nrdbmeta 3 v08 {disk}3 internal apply-al\n\
         rdbsetup attach 3 {disk}3 {disk}3 internal\n\
         rdbsetup connect r1 ipv4:127.0.47.1:7791 ipv4:127.0.47.2:7791\n"
    );
    for words in ["-d up r1/1", "-d up minor-3"] {
        assert_eq!(node.ok(words), up, "{words}");
    }
    for words in [
        "adjust r1/1",
        "adjust-with-progress minor-3",
        "fence-peer r1/1",
        "unfence-peer minor-3",
        "sh-resource r1/1",
        "down minor-3",
        "disconnect minor-3",
        "down r1/1",
        "connect minor-3",
    ] {
        let (code, text) = node.fails(words);
        assert_eq!(code, 1, "{words}");
        assert!(
            text.ends_with("operates on whole resources, but you specified a specific volume!\n"),
            "{text}"
        );
    }
    let (code, text) = node.fails("-d up r1/7");
    assert_eq!(
        (code, text.as_str()),
        (1, "'r1/7' not defined in your config (for this host).\n")
    );
}

#[test]
fn adjust_creates_all_resources_first() {
    let node = Node::new();
    with_one_refused(&node);
    let text = std::fs::read_to_string(node.conf()).unwrap();
    std::fs::write(node.conf(), text.replace("al-updates no", "al-updates yes")).unwrap();
    let steps = node.ok("-d adjust all");
    let begins: Vec<_> = steps.lines().take(3).collect();
    assert_eq!(
        begins,
        [
            "rdbsetup new-resource r0",
            "rdbsetup new-resource r1",
            "rdbsetup new-minor r0 0 0"
        ]
    );
}

#[test]
fn an_address_of_another_machine_is_refused_before_anything_is_done() {
    let node = Node::new();
    let text = std::fs::read_to_string(node.conf()).unwrap();
    let text = text.replace("127.0.0.1", "192.0.2.1");
    std::fs::write(node.conf(), &text).unwrap();
    for words in ["up r0", "up all", "connect r0", "adjust all"] {
        let (code, message) = node.fails(words);
        assert_eq!(code, 10, "{words}");
        let conf = node.conf().display().to_string();
        assert!(
            message.starts_with(&format!(
                "{conf}:4: in resource r0, on alice:\n\tIP 192.0.2.1 not found on this host.\n"
            )),
            "{message}"
        );
        assert!(!node.path("run").exists(), "{words} has started something");
    }
    // A dry run is for looking at another host's steps, too.
    assert!(node.ok("-d up r0").contains("ipv4:192.0.2.1:7789"));
    assert_eq!(node.ok("sh-ip r0"), "192.0.2.1\n");
    let text = format!("global {{ disable-ip-verification; }}\n{text}");
    std::fs::write(node.conf(), text).unwrap();
    let (_, message) = node.fails("connect r0");
    assert!(!message.contains("not found on this host"), "{message}");
}

#[test]
fn a_file_without_a_resource_for_this_host_can_be_printed() {
    let node = Node::new();
    let conf = node.conf();
    std::fs::write(
        &conf,
        "global { usage-count no; }\ncommon { net { protocol C; } }\n",
    )
    .unwrap();
    for words in ["dump", "dump all"] {
        assert!(node.ok(words).contains("common {\n    net {\n"), "{words}");
    }
    assert!(node.ok("dump-xml").starts_with("<config file="));
    assert_eq!(node.ok("sh-resources"), "");
    let (code, text) = node.fails("up all");
    assert_eq!((code, text.as_str()), (1, "no resources defined!\n"));
    let text = "resource far { device /dev/drbd0; disk /dev/a; meta-disk internal;
                on carol { address 127.0.0.1:1; } on dave { address 127.0.0.2:1; } }";
    std::fs::write(&conf, text).unwrap();
    assert!(
        node.ok("dump")
            .contains("# resource far on alice: ignored, not stacked")
    );
    assert_eq!(node.ok("sh-resources"), "");
}

#[test]
fn the_configuration_is_printed_as_xml() {
    let node = Node::new();
    let all = node.ok("dump-xml");
    assert!(
        all.starts_with("<config file=") && all.ends_with("</config>\n"),
        "{all}"
    );
    let one = node.ok("dump-xml r0");
    assert!(one.starts_with("<resource name=\"r0\""), "{one}");
    assert_eq!(node.fails("dump-xml nosuch").0, 1);
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let node = Node::new();
    for words in ["dump", "sh-dev r0", "-d up r0", "--help"] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = node.command(words).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(
            err(&output).contains("can not write to standard output: No space left on device"),
            "{words}: {output:?}"
        );
    }
}

#[test]
fn a_dry_run_prints_the_victim_as_this_node_sees_it() {
    let node = Node::new();
    let text = std::fs::read_to_string(node.conf()).unwrap();
    for (victim, word) in [("alice", "discard-local"), ("bob", "discard-remote")] {
        let victim = format!("protocol C; after-sb-0pri discard-node-{victim};");
        std::fs::write(node.conf(), text.replace("protocol C;", &victim)).unwrap();
        let steps = node.ok("-d connect r0");
        assert!(
            steps.contains(&format!("--after-sb-0pri={word}")),
            "{steps}"
        );
    }
}
