//! The commands and options of drbdadm that scripts use and people do not, as drbdadm 8.4 (drbd-utils 9.22) does them; no daemon runs.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A configuration with a normal resource of one volume, one of two, and a stacked one.
const CONF: &str = "\
global { usage-count no; }
resource r0 {
  startup { become-primary-on alice; }
  on alice { device /dev/drbd0; disk DISK; meta-disk internal; address 10.0.0.1:7789; }
  on bob { device /dev/drbd0; disk DISK; meta-disk internal; address 10.0.0.2:7789; }
}
resource r1 {
  volume 0 { device /dev/drbd1; disk /dev/sda8; meta-disk internal; }
  volume 1 { device /dev/drbd2; disk /dev/sda9; meta-disk internal; }
  on alice { address 10.0.0.1:7790; }
  on bob { address 10.0.0.2:7790; }
}
resource up {
  stacked-on-top-of r0 { device /dev/drbd10; address 10.0.0.3:7791; }
  on carol { device /dev/drbd10; disk /dev/sda9; meta-disk internal; address 10.0.0.4:7791; }
}
";

struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Node {
        let node = Node {
            dir: tempfile::tempdir().unwrap(),
        };
        let disk = node.path("disk");
        File::create(&disk).unwrap().set_len(64 << 20).unwrap();
        let text = CONF.replace("DISK", &disk.display().to_string());
        std::fs::write(node.path("conf"), text).unwrap();
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What a command says, both ways, and its exit status.
    fn says(&self, words: &str) -> (String, i32) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rdbadm"));
        let output = command
            .args(words.split_whitespace())
            .env("RDB_NODE", "alice")
            .env("RDB_CONF", self.path("conf"))
            .env("RDB_RUN_DIR", self.path("run"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        // (Of the configuration, wherever options are looked at.)
        let is_warning = |line: &&str| line.contains("'become-primary-on' has no effect");
        let said = said.split_inclusive('\n').filter(|line| !is_warning(line));
        let said: String = said.collect();
        (said, output.status.code().unwrap())
    }
}

#[test]
fn stacked_mode_finds_nothing_stacked_as_drbdadm_does() {
    let node = Node::new();
    let nothing = "WARN: nothing stacked for this host (alice), nothing to do in stacked mode!\n";
    let normal = "'r0' is a normal resource, and not available in stacked mode.\n";
    let unserved = "'up' is a stacked resource, and rdb does not serve such resources yet.\n";
    for (words, said, code) in [
        ("-S sh-resources", "", 0),
        ("-S sh-nop", "", 0),
        ("--stacked wait-con-int", "", 0),
        ("-S role r0", normal, 1),
        ("role -S minor-0", normal, 1),
        ("-S sh-dev r0", normal, 1),
        ("-S status all", nothing, 1),
        ("-S -d up all", nothing, 1),
        ("-S up up", unserved, 1),
        (
            "-S up nosuch",
            "'nosuch' not defined in your config (for this host).\n",
            1,
        ),
        (
            "-S proc",
            "rdbadm: proc is about all resources; it has no stacked mode\n",
            1,
        ),
        (
            "up up",
            "'up' is a stacked resource, and not available in normal mode.\n",
            1,
        ),
    ] {
        assert_eq!(node.says(words), (said.to_owned(), code), "{words}");
    }
}

#[test]
fn a_further_file_is_checked_with_the_configuration_and_not_used() {
    let node = Node::new();
    let further = |name: &str, text: &str| {
        std::fs::write(node.path(name), text).unwrap();
        node.path(name).display().to_string()
    };
    let hosts =
        "on alice { device /dev/drbd9; disk /dev/sdx; meta-disk internal; address 10.0.0.1:7799; }
        on bob { device /dev/drbd9; disk /dev/sdx; meta-disk internal; address 10.0.0.2:7799; }";
    let good = further("new.res", &format!("resource r9 {{ {hosts} }}"));
    let used = further(
        "used.res",
        &format!("resource r9 {{ {} }}", hosts.replace("7799", "7789")),
    );
    // A name that a pattern of include would be, too.
    let odd = further("a[1]*.res", &format!("resource r9 {{ {hosts} }}"));
    let broken = further("broken.res", "resource r9 {\n devise /dev/drbd9;\n}\n");
    for file in [&good, &odd] {
        assert_eq!(node.says(&format!("-t {file} sh-nop")), (String::new(), 0));
    }
    let (said, code) = node.says(&format!("-t {good} dump"));
    assert!(
        said.contains("resource r0") && !said.contains("r9"),
        "{said}"
    );
    assert_eq!(code, 0);
    let (said, code) = node.says(&format!("--config-to-test={used} sh-nop"));
    assert!(
        said.starts_with(&format!(
            "{used}:1: conflicting use of IP '10.0.0.1:7789' ...\n"
        )),
        "{said}"
    );
    assert_eq!(code, 10);
    let (said, code) = node.says(&format!("-t {broken} sh-nop"));
    assert!(
        said.starts_with(&format!("{broken}:2: Parse error: ")),
        "{said}"
    );
    assert_eq!(code, 10);
    for (words, said, code) in [
        (
            format!("-t {good} sh-dev r0"),
            "The --config-to-test (-t) option is only allowed with the dump and sh-nop commands\n"
                .to_owned(),
            1,
        ),
        (
            "-t nosuch sh-nop".to_owned(),
            "Can not open 'nosuch': No such file or directory (os error 2)\n".to_owned(),
            20,
        ),
    ] {
        assert_eq!(node.says(&words), (said, code), "{words}");
    }
}

#[test]
fn steps_are_done_by_the_programs_that_are_named() {
    let node = Node::new();
    let program = node.path("setup");
    std::fs::write(&program, "#!/bin/sh\necho \"called $*\"\nexit 17\n").unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let setup = program.display();
    assert_eq!(
        node.says(&format!("-s {setup} -d primary r0")),
        (format!("{setup} primary 0\n"), 0)
    );
    assert_eq!(
        node.says(&format!("--drbdsetup={setup} primary r0")),
        (
            format!("called primary 0\nCommand '{setup} primary 0' terminated with exit code 17\n"),
            17
        )
    );
    assert_eq!(
        node.says(&format!("-m {setup} -d dump-md r1/1")),
        (format!("{setup} 2 v08 /dev/sda9 internal dump-md\n"), 0)
    );
    for letter in ["-s", "-m", "-p"] {
        assert_eq!(
            node.says(&format!("{letter} /nonexistent -d primary r0")),
            ("Can not find command (drbdsetup/drbdmeta)\n".to_owned(), 20)
        );
    }
    // Taken and without effect, as with drbdadm.
    assert_eq!(
        node.says("-n VAR sh-dev r0"),
        ("/dev/drbd0\n".to_owned(), 0)
    );
}

#[test]
fn a_minor_is_its_resource_where_that_has_no_other() {
    let node = Node::new();
    for (words, said) in [
        ("-d role minor-2", "rdbsetup role 2\n"),
        ("-d down minor-0", "rdbsetup down r0\n"),
        (
            "-d down minor-1",
            "down operates on whole resources, but you specified a specific volume!\n",
        ),
    ] {
        assert_eq!(node.says(words).0, said, "{words}");
    }
}

#[test]
fn identifiers_are_written_as_they_are_read() {
    let node = Node::new();
    assert_eq!(node.says("create-md --force r0").1, 0);
    let gi = "1234567890ABCDEF:2222222222222222:3:4:1:1:0:0:0:0:0";
    let disk = node.path("disk");
    let disk = disk.display();
    for words in [
        format!("-d -- {gi} set-gi r0"),
        format!("-d -W {gi} set-gi r0"),
        format!("-d set-gi {gi} r0"),
    ] {
        let line = format!("rdbmeta 0 v08 {disk} internal set-gi {gi}\n");
        assert_eq!(node.says(&words), (line, 0), "{words}");
    }
    // Nobody is there to say yes.
    let (said, code) = node.says(&format!("set-gi {gi} r0"));
    assert!(said.contains("Write new GI to disk?\n"), "{said}");
    assert!(said.contains("Operation canceled.\n"), "{said}");
    assert_eq!(code, 0);
    let (said, code) = node.says(&format!("set-gi --force {gi} r0"));
    let set = "set GI to  1234567890ABCDEF:2222222222222222:0000000000000003:0000000000000004:1:1:0:0:0:0:0\n";
    assert!(said.contains(set), "{said}");
    assert_eq!(code, 0);
    let (said, _) = node.says("get-gi r0");
    assert_eq!(
        said,
        "1234567890ABCDEF:2222222222222222:0000000000000003:0000000000000004:1:1:0:0:0:0:0\n"
    );
    let (said, code) = node.says("set-gi --force :xyz r0");
    assert!(said.contains("xyz") && code == 10, "{code}: {said}");
    assert!(
        node.says("set-gi r0")
            .0
            .contains("No resource names specified")
    );
}

#[test]
fn a_dry_run_names_each_resource_and_each_way_as_drbdadm_does() {
    let node = Node::new();
    let disk = node.path("disk");
    let disk = disk.display();
    for (words, said) in [
        (
            "-d status",
            "rdbsetup status r0\nrdbsetup status r1\n".to_owned(),
        ),
        ("-d status r1", "rdbsetup status r1\n".to_owned()),
        (
            "-d show-gi r0",
            format!("rdbsetup show-gi 0\nrdbmeta 0 v08 {disk} internal show-gi\n"),
        ),
        (
            "-d outdate r0",
            format!("rdbsetup outdate 0\nrdbmeta 0 v08 {disk} internal outdate\n"),
        ),
    ] {
        assert_eq!(node.says(words), (said, 0), "{words}");
    }
    let unknown = "'nosuch' not defined in your config (for this host).\n";
    assert_eq!(node.says("-d status nosuch"), (unknown.to_owned(), 1));
}

#[test]
fn json_has_what_the_texts_say() {
    let node = Node::new();
    let value = |words: &str| -> serde_json::Value {
        let (said, code) = node.says(words);
        assert_eq!(code, 0, "{said}");
        serde_json::from_str(&said).unwrap()
    };
    node.says("create-md --force r0");
    let gi = value("show-gi --json r0");
    assert_eq!(gi["minor"], 0);
    assert_eq!(gi["current"], "0000000000000004");
    assert_eq!(gi["consistent"], false);
    let all = value("dump --json");
    assert_eq!(all["global"]["usage-count"], "no");
    let r0 = &all["resources"][0];
    assert_eq!(r0["name"], "r0");
    assert_eq!(
        (&r0["ignored"], &r0["stacked"]),
        (&false.into(), &false.into())
    );
    assert_eq!(r0["sections"]["startup"]["become-primary-on"], "alice");
    let alice = &r0["hosts"][0];
    assert_eq!(
        (&alice["names"][0], &alice["address"]["port"]),
        (&"alice".into(), &7789.into())
    );
    assert_eq!(alice["volumes"][0]["device"], "/dev/drbd0");
    let r1 = value("dump --json r1");
    assert_eq!(r1[0]["hosts"][1]["volumes"][1]["disk"], "/dev/sda9");
    let (said, code) = node.says("get-gi --json r0");
    assert!(
        said.contains("unrecognized option '--json'") && code == 1,
        "{said}"
    );
}

#[test]
fn promotions_at_the_start_are_those_that_the_file_names() {
    let node = Node::new();
    assert_eq!(
        node.says("-d sh-b-pri all"),
        ("rdbsetup primary 0\n".to_owned(), 0)
    );
    assert_eq!(node.says("-d --node bob sh-b-pri all"), (String::new(), 0));
    assert_eq!(node.says("sh-b-pri r1"), (String::new(), 0));
}

#[test]
fn what_help_does_not_list_is_listed_by_hidden_commands() {
    let node = Node::new();
    let (said, code) = node.says("hidden-commands");
    assert_eq!(code, 0);
    for name in [
        "sh-b-pri",
        "sh-ll-dev",
        "fence-peer",
        "set-gi",
        "check-resize",
        "hidden-commands",
    ] {
        let is_there = said
            .lines()
            .any(|line| line.split_whitespace().any(|word| word == name));
        assert!(is_there, "{name}: {said}");
        assert!(
            !node.says("help").0.contains(&format!("  {name} ")),
            "{name}"
        );
    }
    assert_eq!(node.says("check-resize r0"), (String::new(), 0));
    let (said, code) = node.says("check-resize -v r0");
    assert_eq!(
        (said.as_str(), code),
        ("r0: nothing to do: devices are not resized yet\n", 0)
    );
}

#[test]
fn options_of_the_step_may_stand_on_the_command_line() {
    let node = Node::new();
    let disk = node.path("disk");
    let disk = disk.display();
    let connect = "rdbsetup connect r0 ipv4:10.0.0.1:7789 ipv4:10.0.0.2:7789";
    let net = "rdbsetup net-options ipv4:10.0.0.1:7789 ipv4:10.0.0.2:7789";
    for (words, said) in [
        // (Behind the command; before it `--timeout` is how long the command may take.)
        (
            "-d connect --timeout=50 r0",
            format!("{connect} --timeout=50\n"),
        ),
        (
            "-d connect r0 --timeout 50",
            format!("{connect} --timeout=50\n"),
        ),
        (
            "-d -- --timeout=50 connect r0",
            format!("{connect} --timeout=50\n"),
        ),
        (
            "-d -W --max-buffers=8k connect r0",
            format!("{connect} --max-buffers=8k\n"),
        ),
        ("-d --timeout 50 connect r0", format!("{connect}\n")),
        (
            "-d net-options --protocol=A r0",
            format!("{net} --protocol=A\n"),
        ),
        (
            "-d attach --size=5M r0",
            format!(
                "rdbmeta 0 v08 {disk} internal apply-al\nrdbsetup attach 0 {disk} {disk} internal --size=5M\n"
            ),
        ),
        (
            "-d disk-options --resync-rate=5M r1/1",
            "rdbsetup disk-options 2 --resync-rate=5M\n".to_owned(),
        ),
        (
            "-d resource-options --on-no-data-accessible=suspend-io r0",
            "rdbsetup resource-options r0 --on-no-data-accessible=suspend-io\n".to_owned(),
        ),
    ] {
        assert_eq!(node.says(words), (said, 0), "{words}");
    }
    let (said, code) = node.says("-d connect --timeout=1000 r0");
    assert_eq!(
        (said.as_str(), code),
        ("rdbadm: timeout 1000 => 1000 out of range [1..600].\n", 20)
    );
    let (said, code) = node.says("connect --resync-rate=5M r0");
    assert!(
        said.contains("unrecognized option '--resync-rate'") && code == 1,
        "{said}"
    );
}

#[test]
fn a_forced_promotion_is_printed_as_it_is_spelled() {
    let node = Node::new();
    for (words, option) in [
        (
            "-d -- --overwrite-data-of-peer primary r0",
            "--overwrite-data-of-peer",
        ),
        ("-d primary --force r0", "--force"),
    ] {
        let line = format!("rdbsetup primary 0 {option}\n");
        assert_eq!(node.says(words), (line, 0), "{words}");
    }
}

#[test]
fn udev_is_told_the_number_of_a_volume_without_a_section_on_request() {
    let node = Node::new();
    let disk = node.path("disk");
    let disk = disk
        .strip_prefix("/dev")
        .unwrap_or(&disk)
        .display()
        .to_string();
    let told = |name: &str| format!("RESOURCE={name}\nDEVICE=drbd0\nDISK={disk}\n");
    assert_eq!(node.says("sh-udev r0/0"), (told("r0"), 0));
    let text = std::fs::read_to_string(node.path("conf")).unwrap();
    let text = text.replace("usage-count no;", "udev-always-use-vnr;");
    std::fs::write(node.path("conf"), &text).unwrap();
    assert_eq!(node.says("sh-udev minor-0"), (told("r0/0"), 0));
    let text = text.replacen("device /dev/drbd0;", "device /dev/drbd_mail minor 0;", 1);
    std::fs::write(node.path("conf"), text).unwrap();
    let (said, _) = node.says("sh-udev minor-0");
    assert!(said.contains("\nDEVICE=drbd_mail\n"), "{said}");
}

#[test]
fn metadata_that_was_dumped_is_restored() {
    let node = Node::new();
    let dump = node.path("dump");
    assert_eq!(node.says("create-md --force r0").1, 0);
    assert_eq!(node.says("set-gi --force 1:2:3:4 r0").1, 0);
    let (first, _) = node.says("dump-md r0");
    std::fs::write(&dump, &first).unwrap();
    let meta = |command: &str| {
        let disk = node.path("disk");
        node.says(&format!(
            "rdbmeta 0 v08 {} internal {command}",
            disk.display()
        ))
    };
    assert_eq!(node.says("wipe-md --force r0").1, 0);
    let (said, code) = meta(&format!("verify-dump {}", dump.display()));
    assert_eq!((said.as_str(), code), ("input file parsed ok\n", 0));
    assert_eq!(meta(&format!("restore-md {}", dump.display())).1, 0);
    let body = |text: &str| {
        text.lines()
            .filter(|l| !l.starts_with('#'))
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(body(&node.says("dump-md r0").0), body(&first));
    let (said, code) = meta("restore-md /nonexistent");
    assert_eq!(
        (said.as_str(), code),
        (
            "can not read /nonexistent: No such file or directory (os error 2)\n",
            20
        )
    );
    // There is some, and nobody to say yes.
    let (said, code) = meta(&format!("restore-md {}", dump.display()));
    assert!(
        said.contains("Operation canceled.") && code != 0,
        "{code}: {said}"
    );
}

#[test]
fn which_peer_is_meant_needs_no_name_where_there_is_one() {
    let node = Node::new();
    let connect = "rdbsetup connect r0 ipv4:10.0.0.1:7789 ipv4:10.0.0.2:7789\n";
    for peer in ["bob", "bob.example.com"] {
        let words = format!("-d -P {peer} connect r0");
        assert_eq!(node.says(&words), (connect.to_owned(), 0), "{words}");
    }
}
