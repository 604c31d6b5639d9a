//! `include`: `docs/spec/admin.md`, section 1.4.

use rdb_config::{Loaded, load};
use std::fs;
use std::path::Path;

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    fs::write(path, text).expect("written");
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded
        .config
        .resources
        .iter()
        .map(|r| r.name.as_str())
        .collect()
}

#[test]
fn patterns_start_from_the_including_file_and_go_in_order() {
    let dir = tempfile::tempdir().expect("a folder");
    write(
        dir.path(),
        "drbd.conf",
        "include \"d/*.res\"; include \"none/*.res\"; include \"d/[x-z]?.inc\"; resource last { }",
    );
    write(dir.path(), "d/b.res", "resource b { }");
    write(dir.path(), "d/a.res", "include \"sub/*\"; resource a { }");
    write(dir.path(), "d/B.res", "resource upper { }");
    write(dir.path(), "d/.hidden.res", "resource hidden { }");
    write(dir.path(), "d/sub/x", "resource x { }");
    write(dir.path(), "d/sub/folder/y", "resource y { }");
    write(dir.path(), "d/y1.inc", "resource y1 { }");
    let loaded = load(&dir.path().join("drbd.conf")).expect("it parses");
    assert_eq!(names(&loaded), ["upper", "x", "a", "b", "y1", "last"]);
}

#[test]
fn each_file_is_read_once_whatever_the_way_to_it() {
    let dir = tempfile::tempdir().expect("a folder");
    write(
        dir.path(),
        "drbd.conf",
        "include \"a.res\"; include \"./a.res\"; include \"*.res\";",
    );
    write(
        dir.path(),
        "a.res",
        "include \"drbd.conf\"; include \"link.res\"; include \"a.res\"; resource a { }",
    );
    std::os::unix::fs::symlink("a.res", dir.path().join("link.res")).expect("a link");
    let loaded = load(&dir.path().join("drbd.conf")).expect("it parses");
    assert_eq!(names(&loaded), ["a"]);
}

#[test]
fn messages_name_the_included_file() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), "drbd.conf", "\ninclude \"d/*.res\";");
    write(dir.path(), "d/a.res", "\n\nresource a { foo }");
    let error = load(&dir.path().join("drbd.conf")).expect_err("it is wrong");
    assert!(
        error.text().starts_with("d/a.res:3: Parse error: "),
        "{error}"
    );
    let place = format!(
        "  at {}:3:14\n  | resource a {{ foo }}\n  |              ^",
        dir.path().join("d/a.res").display()
    );
    assert!(error.to_string().contains(&place), "{error}");
}

#[test]
fn a_name_without_a_file_is_an_error_a_pattern_without_is_not() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), "drbd.conf", "include \"nosuch.res\";");
    let error = load(&dir.path().join("drbd.conf")).expect_err("it is wrong");
    assert!(
        error
            .text()
            .ends_with("drbd.conf:1: Failed to open include file 'nosuch.res'."),
        "{error}"
    );
    write(dir.path(), "drbd.conf", "include \"nosuch*.res\";");
    assert!(load(&dir.path().join("drbd.conf")).is_ok());
    write(dir.path(), "drbd.conf", "include \"d\";");
    write(dir.path(), "d/x", "");
    let error = load(&dir.path().join("drbd.conf")).expect_err("a folder is no file");
    assert!(
        error.text().contains("Failed to open include file 'd'."),
        "{error}"
    );
}

#[test]
fn no_configuration_is_an_error_in_drbds_words() {
    let error = load(Path::new("/nonexistent/drbd.conf")).expect_err("there is none");
    assert_eq!(
        error.to_string(),
        "Can not open '/nonexistent/drbd.conf': No such file or directory"
    );
    assert_eq!(error.exit_code(), 10);
}

#[test]
fn nesting_and_size_have_limits() {
    let dir = tempfile::tempdir().expect("a folder");
    for i in 0..40 {
        write(
            dir.path(),
            &format!("{i}.conf"),
            &format!("include \"{}.conf\"; resource r{i} {{ }}", i + 1),
        );
    }
    write(dir.path(), "40.conf", "");
    let error = load(&dir.path().join("0.conf")).expect_err("too deep");
    assert!(
        error.text().ends_with("nested includes: more than 32"),
        "{error}"
    );
    write(dir.path(), "big.conf", &"# filler\n".repeat(600_000));
    let error = load(&dir.path().join("big.conf")).expect_err("too big");
    assert!(
        error
            .text()
            .contains("bytes in one configuration file: more than 4194304"),
        "{error}"
    );
    // Braces nest only where the text is skipped, and there they are counted, not followed.
    write(
        dir.path(),
        "deep.conf",
        &format!("skip {}{}", "{".repeat(500_000), "}".repeat(500_000)),
    );
    assert!(load(&dir.path().join("deep.conf")).is_ok());
    write(dir.path(), "deep.conf", &"resource r { ".repeat(100_000));
    assert!(load(&dir.path().join("deep.conf")).is_err());
}

#[test]
fn what_is_no_regular_file_is_neither_read_nor_waited_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let fifo = dir.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("mkfifo").success());
    let error = load(&fifo).expect_err("a pipe").to_string();
    assert_eq!(
        error,
        format!(
            "Can not open '{}': it is a pipe (FIFO), not a regular file",
            fifo.display()
        )
    );
    let error = load(Path::new("/dev/zero")).expect_err("endless").text();
    assert_eq!(
        error,
        "Can not open '/dev/zero': it is a character device, not a regular file"
    );
    for (name, shown, words) in [
        ("fifo", "fifo", "it is a pipe (FIFO), not a regular file"),
        ("fif*", "fifo", "it is a pipe (FIFO), not a regular file"),
        ("/dev/zero", "/dev/zero", "it is a character device"),
        ("./", "./", "it is a directory"),
    ] {
        write(dir.path(), "drbd.conf", &format!("\ninclude \"{name}\";"));
        let error = load(&dir.path().join("drbd.conf")).expect_err(name);
        let first = format!("drbd.conf:2: Failed to open include file '{shown}'.");
        assert!(error.text().ends_with(&first), "{error}");
        let hint = format!("hint: {words}");
        assert!(error.to_string().contains(&hint), "{error}");
    }
}

#[test]
fn of_a_pattern_s_files_the_one_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), "drbd.conf", "include \"d/*.res\";");
    write(dir.path(), "d/a.res", "resource a { }");
    std::os::unix::fs::symlink("../gone", dir.path().join("d/b.res")).expect("a link");
    let error = load(&dir.path().join("drbd.conf")).expect_err("a link to nothing");
    assert!(
        error
            .text()
            .ends_with("drbd.conf:1: Failed to open include file 'd/b.res'."),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("hint: it is a link to ../gone, which is not there"),
        "{error}"
    );
}

#[test]
fn bytes_that_are_no_text_are_refused_in_an_included_file_too() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), "drbd.conf", "include \"a.res\";");
    let bytes = b"# \xe4\nresource \"\xe4\" { }";
    fs::write(dir.path().join("a.res"), bytes).expect("written");
    let error = load(&dir.path().join("drbd.conf")).expect_err("Latin-1");
    assert_eq!(error.text(), "a.res:2: this is not valid UTF-8");
}
