use super::*;

const CONF: &str = "
resource r0 { device /dev/drbd0; disk /dev/sda; meta-disk internal;
    on alice { address 127.0.0.1:7700; } on bob { address 127.0.0.2:7700; } }
resource data {
    volume 0 { device minor 5; disk /dev/sdb; meta-disk internal; }
    volume 1 { device minor 6; disk /dev/sdc; meta-disk internal; }
    on alice { address 127.0.0.1:7701; } on bob { address 127.0.0.2:7701; } }
resource others { device /dev/drbd9; disk /dev/sdd; meta-disk internal;
    on zoe { address 127.0.0.1:7702; } on bob { address 127.0.0.2:7702; } }
";

/// What is offered at the end of a line; a `_` at its end stands for an empty word.
fn offered(line: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("drbd.conf");
    std::fs::write(&conf, CONF).unwrap();
    let line = line.replace("-c FILE", &format!("-c {} --node alice", conf.display()));
    let (program, line) = line.split_once(' ').unwrap();
    let words: Vec<String> = line.split(' ').map(|word| word.replace('_', "")).collect();
    let (typed, before) = words.split_last().unwrap();
    match asked(program, before, typed) {
        Answer::Files => ":files".to_owned(),
        Answer::Folders => ":folders".to_owned(),
        Answer::Words(found) => {
            let lines = lines(&found, typed);
            let words = lines.lines().map(|line| line.split('\t').next().unwrap());
            words.collect::<Vec<_>>().join(" ")
        }
    }
}

#[test]
fn each_word_is_completed_by_its_place() {
    for (line, words) in [
        (
            "rdbadm in",
            "invalidate invalidate-remote initial-split-brain",
        ),
        ("drbdadm sh-mo", "sh-mod-parms"),
        ("rdbadm explode _", ""),
        ("rdbadm -c FILE down _", "r0 data all"),
        ("rdbadm -c FILE down r0 _", "data"),
        ("rdbadm -c FILE down all _", ""),
        (
            "rdbadm -c FILE up _",
            "r0 data all r0/0 minor-0 data/0 minor-5 data/1 minor-6",
        ),
        ("rdbadm -c FILE up data/", "data/0 data/1"),
        ("rdbmon -c FILE _", "r0 data"),
        ("rdbmon -c FILE r0 _", "data"),
        ("rdbmon --c", "--config-file"),
        ("rdbmon -c FILE --node=b", "--node=bob"),
        ("rdbmon -c _", ":files"),
        ("rdbmon --run-dir=", ":folders"),
        ("drbdadm up minor- -c FILE -P z", "zoe"),
        ("rdbadm -c FILE --peer=b", "--peer=bob"),
        (
            "rdbadm status --co",
            "--color --config-file --config-to-test",
        ),
        ("rdbadm status --color=a", "--color=auto --color=always"),
        ("rdbadm overview _", ""),
        ("rdbadm primary --f", "--force"),
        ("rdbadm primary --discard", ""),
        ("rdbadm completions _", "bash fish zsh"),
        ("rdbadm -c _", ":files"),
        ("rdbadm up --config-file=/etc/d", ":files"),
        ("rdbadm --run-dir _", ":folders"),
        ("rdbadm snapshot --name _", ""),
        ("rdbsetup wait-", "wait-connect wait-sync"),
        ("drbdsetup status al", "all"),
        ("drbdsetup explode _", ""),
        ("drbdsetup attach 0 _", ":files"),
        ("drbdsetup attach 0 /dev/sda /dev/sda i", "internal"),
        (
            "drbdsetup net-options a b --protocol=",
            "--protocol=A --protocol=B --protocol=C",
        ),
        ("drbdsetup net-options a b --proto", "--protocol="),
        (
            "drbdsetup disk-options 0 --md-flushes=",
            "--md-flushes=yes --md-flushes=no",
        ),
        ("rdbsetup --run-dir _", ":folders"),
        ("rdbsetup --r", "--run-dir"),
        ("check_rdb --nod", "--node"),
        ("rdbmeta 0 v", "v08"),
        ("drbdmeta 0 v08 _", ":files"),
        ("drbdmeta 0 v08 /dev/sda fl", "flex-external"),
        ("drbdmeta 0 v08 /dev/sda internal du", "dump-md"),
        ("drbdmeta --f", "--force"),
    ] {
        assert_eq!(offered(line), words, "{line}");
    }
}

#[test]
fn every_shown_command_is_offered_and_every_hidden_one_when_it_is_begun() {
    for verb in crate::verbs::VERBS {
        if let Some(adm) = verb.adm {
            let all = offered("rdbadm _");
            let is_there = all.split(' ').any(|word| word == verb.name);
            assert_eq!(is_there, !adm.is_hidden, "{}", verb.name);
            let begun = offered(&format!("rdbadm {}", verb.name));
            assert!(begun.split(' ').any(|word| word == verb.name), "{begun}");
        }
        if verb.setup.is_some() {
            let begun = offered(&format!("rdbsetup {}", verb.name));
            assert!(begun.split(' ').any(|word| word == verb.name), "{begun}");
        }
    }
}

#[test]
fn a_configuration_that_is_not_there_or_has_a_mistake_has_no_names() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("drbd.conf");
    let path = conf.to_str().unwrap().to_owned();
    let ask = || {
        adm::answer(
            "rdbadm",
            &["-c".to_owned(), path.clone(), "up".to_owned()],
            "",
        )
    };
    assert_eq!(ask(), nothing());
    std::fs::write(&conf, "resource {").unwrap();
    assert_eq!(ask(), nothing());
}
