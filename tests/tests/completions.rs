//! Completion as a shell does it: bash, zsh and fish run the scripts that `rdbadm completions` prints.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use rdb_tests::programs::{ours, tool};
use rdb_tests::scratch::Scratch;

const CONF: &str = "resource r0 { device /dev/drbd0; disk /dev/sda; meta-disk internal;
    on alice { address 127.0.0.1:7700; } on bob { address 127.0.0.2:7700; } }
resource data { device /dev/drbd1; disk /dev/sdb; meta-disk internal;
    on alice { address 127.0.0.1:7701; } on bob { address 127.0.0.2:7701; } }";

/// What is typed up to the place of the cursor, and what has to be offered, in order; folders by their last parts.
const LINES: [(&str, &str); 13] = [
    (
        "rdbadm pri",
        "primary pri-on-incon-degr pri-lost-after-sb pri-lost",
    ),
    ("drbdadm adj", "adjust adjust-with-progress"),
    ("rdbadm down ", "r0 data all"),
    ("rdbadm up r0/", "r0/0"),
    ("drbdadm primary --f", "--force"),
    ("rdbadm status --color=a", "--color=auto --color=always"),
    ("rdbadm --peer=z", ""),
    ("rdbadm --peer b", "bob"),
    ("drbdsetup wait-s", "wait-sync"),
    ("rdbsetup role ", "0 1 data r0"),
    ("rdbsetup attach ", "0 1"),
    ("drbdmeta 0 v08 /dev/sda internal dump", "dump-md"),
    ("rdbadm explode ", ""),
];

fn script(shell: &str, folder: &Path) -> Result<std::path::PathBuf> {
    let out = Command::new(ours("rdbadm")?)
        .args(["completions", shell])
        .output()?;
    ensure!(out.status.success() && out.stderr.is_empty(), "{out:?}");
    let path = folder.join(format!("{shell}.script"));
    std::fs::write(&path, out.stdout)?;
    Ok(path)
}

/// Runs a shell's program with the line in LINE, and compares what it prints in any order of lines.
fn offers(shell: &str, arguments: &[&str], program: &str) -> Result<()> {
    let scratch = Scratch::new(&format!("complete-{shell}"))?;
    let conf = scratch.join("drbd.conf");
    std::fs::write(&conf, CONF)?;
    let script = script(shell, scratch.path())?;
    let rdbadm = ours("rdbadm")?;
    let folder = rdbadm.parent().expect("it is in one").display();
    for (line, expected) in LINES {
        let out = Command::new(tool(shell)?)
            .args(arguments)
            .arg(program)
            .env("SCRIPT", &script)
            .env("LINE", line)
            .env("RDB_CONF", &conf)
            .env("RDB_NODE", "alice")
            .env("HOME", scratch.path())
            .env("PATH", format!("{folder}:/usr/bin:/bin"))
            .output()?;
        let said = String::from_utf8_lossy(&out.stdout);
        let mut found: Vec<&str> = said.split_whitespace().collect();
        let mut expected: Vec<&str> = expected.split_whitespace().collect();
        found.sort_unstable();
        expected.sort_unstable();
        ensure!(
            found == expected,
            "{shell}, {line:?}: {found:?} and not {expected:?}; {out:?}"
        );
        ensure!(out.stderr.is_empty(), "{shell}, {line:?}: {out:?}");
    }
    Ok(())
}

/// Bash replaces what is behind the last `=` or `:` alone: the words are put together again here.
#[test]
fn bash_offers_what_can_follow() -> Result<()> {
    let program = r#"
        . "$SCRIPT"
        COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
        _rdb_complete
        word=${LINE##* } head=
        case $word in *[=:]*) head=${word%"${word##*[=:]}"} ;; esac
        for found in "${COMPREPLY[@]}"; do echo "$head$found"; done"#;
    offers("bash", &["--norc", "-c"], program)
}

/// The functions of zsh's completion are there only while a line is edited: those that the script calls say what they are given.
#[test]
fn zsh_offers_what_can_follow() -> Result<()> {
    let program = r#"
        compdef() { : }
        compset() { : }
        compadd() { print -rl -- "${(@P)argv[-1]}" }
        source $SCRIPT
        words=("${(@s: :)LINE}")
        CURRENT=$#words
        _rdb_complete"#;
    offers("zsh", &["-f", "-c"], program)
}

#[test]
fn fish_offers_what_can_follow() -> Result<()> {
    let program = "source $SCRIPT; complete -C $LINE | string replace -r '\\t.*' ''";
    offers("fish", &["--no-config", "-c"], program)
}

#[test]
fn bash_completes_the_names_of_files() -> Result<()> {
    let scratch = Scratch::new("complete-files")?;
    let script = script("bash", scratch.path())?;
    std::fs::create_dir(scratch.join("folder"))?;
    for (option, expected) in [
        ("--config-file=", "bash.script folder"),
        ("--config-file ", "bash.script folder"),
        ("--run-dir ", "folder"),
    ] {
        let rdbadm = ours("rdbadm")?;
        let folder = rdbadm.parent().expect("it is in one").display();
        let out = Command::new(tool("bash")?)
            .args(["--norc", "-c"])
            .arg(r#". "$SCRIPT"; COMP_LINE=$LINE COMP_POINT=${#LINE}; _rdb_complete; printf '%s\n' "${COMPREPLY[@]}" | sort"#)
            .env("SCRIPT", &script)
            .env("LINE", format!("rdbadm {option}"))
            .env("PATH", format!("{folder}:/usr/bin:/bin"))
            .current_dir(scratch.path())
            .output()?;
        let said = String::from_utf8_lossy(&out.stdout);
        let found: Vec<&str> = said.split_whitespace().collect();
        ensure!(found.join(" ") == expected, "{option}: {out:?}");
    }
    Ok(())
}
