//! Words of `rdbsetup`, and what they come to.

use super::*;

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn op(line: &str) -> Result<Action, String> {
    let dir = tempfile::tempdir().unwrap();
    let mut executor = Executor::new("rdbsetup".to_owned(), Family::Rdb, dir.path().to_owned());
    step_of(&mut executor, &words(line)).map(|step| step.action)
}

#[test]
fn minors_and_verbs_are_written_in_several_ways() {
    let primary = Ok(Action::Run(Op::Primary {
        minor: 3,
        force: true,
    }));
    for line in [
        "primary 3 --force",
        "primary minor-3 --force",
        "primary /dev/drbd3 --overwrite-data-of-peer",
        "primary -o 3",
        "3 primary --force=yes",
        "/dev/drbd3 primary --force",
    ] {
        assert_eq!(op(line), primary, "{line}");
    }
}

#[test]
fn usage_errors_name_the_word() {
    for (line, message) in [
        ("explode 0", "Unknown command 'explode'"),
        ("primary", "primary: expected arguments: {RES|MINOR}"),
        ("primary 0 1", "primary: expected arguments: {RES|MINOR}"),
        ("detach x", "'x' is not a minor number"),
        (
            "new-peer r0 1",
            "Unknown command 'new-peer'\nIt is a command of DRBD's that rdb does not serve yet.",
        ),
        (
            "pause-sync r0 1 0",
            "pause-sync: expected arguments: MINOR\nDRBD 9's RESOURCE PEER-ID VOLUME is the volume's minor here, for there is one peer.",
        ),
        ("pause-sync r0 on", "pause-sync: expected arguments: MINOR"),
        ("secondary 0 --force", NO_FORCED_SECONDARY),
        ("secondary r0 --force=yes", NO_FORCED_SECONDARY),
        (
            "primary 0 --forze",
            "primary: unrecognized option '--forze'",
        ),
        (
            "attach 0 /dev/a /dev/a internal --timeout=5",
            "attach: unrecognized option '--timeout'",
        ),
        (
            "attach 0 /dev/a /dev/b internal",
            "with internal metadata both devices are the same",
        ),
        (
            "attach 0 /dev/a /dev/b x",
            "'x' is not internal, flexible or an index",
        ),
        (
            "connect r0 10.0.0.1 10.0.0.2:7789",
            "'10.0.0.1' is not an address like ipv4:10.0.0.1:7789",
        ),
        (
            "connect r0 10.0.0.1:1 10.0.0.2:1 --timeout=0",
            "timeout 0 => 0 out of range [1..600].",
        ),
        (
            "disconnect 10.0.0.1:1 10.0.0.2:1",
            "??: Failure: (162) Invalid configuration request\nadditional info from kernel:\nunknown connection",
        ),
    ] {
        assert_eq!(op(line), Err(message.to_owned()), "{line}");
    }
}

#[test]
fn a_value_may_be_the_next_word() {
    let start = |start| {
        Ok(Action::Run(Op::Verify {
            minor: 0,
            part: VerifyPart {
                start: Some(start),
                stop: None,
            },
        }))
    };
    assert_eq!(op("verify 0 --start 8"), start(8));
    assert_eq!(op("verify --start 8 0"), start(8));
    assert_eq!(
        op("connect r0 10.0.0.1:1 10.0.0.2:1 --timeout 50 --tcp-cork"),
        op("connect r0 10.0.0.1:1 10.0.0.2:1 --timeout=50")
    );
    assert_eq!(
        op("verify 0 --start"),
        Err("verify: --start needs a value".to_owned())
    );
}

#[test]
fn options_are_the_configurations() {
    let Ok(Action::Run(Op::Attach {
        minor: 1,
        meta,
        options,
        ..
    })) = op("attach 1 /dev/sda8 /dev/sdm 3 --resync-rate=33M --c-plan-ahead=0")
    else {
        panic!("an attach");
    };
    assert_eq!(meta, MetaDisk::Indexed("/dev/sdm".into(), 3));
    assert_eq!(
        (options.resync_rate_kib, options.c_plan_ahead_ds),
        (33 * 1024, 0)
    );
}

#[test]
fn a_secondary_that_is_not_forced_is_one_of_any_kind() {
    let secondary = Ok(Action::Run(Op::Secondary { minor: 0 }));
    assert_eq!(op("secondary 0 --force=no"), secondary);
}
