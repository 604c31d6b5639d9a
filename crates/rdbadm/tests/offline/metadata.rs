//! Metadata that are made, read and refused: `create-md`, `dump-md` and their kin, on files.

use super::*;

#[test]
fn metadata_is_created_on_a_file_and_read_back() {
    let node = Node::new();
    let created = node.ok("create-md r0");
    assert!(
        created.ends_with("New drbd meta data block successfully created.\n"),
        "{created}"
    );
    assert_eq!(node.ok("get-gi r0"), FRESH);
    assert_eq!(node.ok("dstate r0"), "Inconsistent\n");
    let shown = node.ok("show-gi r0");
    assert!(
        shown.contains("flags: Secondary, StandAlone, Inconsistent\nmeta-data: clean\n"),
        "{shown}"
    );
    let dump = node.ok("dump-md r0");
    assert!(dump.contains("version \"v08\";"), "{dump}");
    assert!(
        !dump.contains("device-uuid 0x0000000000000000;"),
        "a random name: {dump}"
    );
    // The same by the step itself.
    let by_step = node.ok(&format!(
        "rdbmeta 0 v08 {} internal get-gi",
        node.disk().display()
    ));
    assert_eq!(by_step, FRESH);
}

#[test]
fn each_disk_gets_a_name_of_its_own() {
    let name = |node: &Node| {
        node.ok("create-md r0");
        let dump = node.ok("dump-md r0");
        dump.lines()
            .find(|line| line.starts_with("device-uuid"))
            .unwrap()
            .to_owned()
    };
    assert_ne!(name(&Node::new()), name(&Node::new()));
}

#[test]
fn existing_metadata_is_overwritten_only_after_a_yes() {
    let node = Node::new();
    node.ok("create-md r0");
    let before = std::fs::read(node.disk()).unwrap();
    for answer in ["", "no\n", "y\n", "yess\n"] {
        let output = node.answer("create-md r0", answer);
        assert_eq!(output.status.code(), Some(1), "{answer:?}: {output:?}");
        assert!(
            out(&output).contains("[need to type 'yes' to confirm]"),
            "{output:?}"
        );
        assert!(
            std::fs::read(node.disk()).unwrap() == before,
            "{answer:?} changed the disk"
        );
    }
    let output = node.answer("create-md r0", "yes\n");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let forced = node.ok("create-md --force r0");
    assert!(
        forced.contains("*** confirmation forced via --force option ***"),
        "{forced}"
    );
    // The global spelling of 8.3.
    node.ok("-- --force create-md r0");
    node.ok("--force create-md r0");
}

#[test]
fn fresh_metadata_cannot_be_outdated() {
    let node = Node::new();
    node.ok("create-md r0");
    let (code, text) = node.fails("outdate r0");
    assert_eq!((code, text.as_str()), (5, "Device is inconsistent.\n"));
}

#[test]
fn a_file_system_that_would_be_cut_off_stops_create_md() {
    let node = Node::new();
    // An ext4 superblock at 1 KiB whose blocks fill the whole file: magic at 0x38, block count at 4, block size 4 KiB.
    let mut superblock = [0_u8; 1024];
    superblock[4..8].copy_from_slice(&(16_384_u32).to_le_bytes());
    superblock[0x18..0x1c].copy_from_slice(&2_u32.to_le_bytes());
    superblock[0x38..0x3a].copy_from_slice(&0xef53_u16.to_le_bytes());
    superblock[0x4c] = 1;
    superblock[0x60] = 0x40;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .open(node.disk())
        .unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &superblock, 1024).unwrap();
    file.flush().unwrap();
    let before = std::fs::read(node.disk()).unwrap();
    let output = node.run("create-md --force r0");
    assert_eq!(output.status.code(), Some(40), "{output:?}");
    let promised = include_str!("../../../../docs/commands.md");
    assert!(promised.contains("\n| 40 | `create-md` was refused"));
    assert!(std::fs::read(node.disk()).unwrap() == before);
}

#[test]
fn disks_that_cannot_be_used_are_named() {
    let node = Node::new();
    let disk = node.disk().display().to_string();
    let (code, text) = node.fails("get-gi r0");
    assert_eq!(code, 1);
    assert!(text.starts_with("No valid meta data found\n"), "{text}");
    std::fs::remove_file(node.disk()).unwrap();
    let (code, text) = node.fails("create-md r0");
    assert_eq!(code, 20);
    assert!(
        text.starts_with(&format!("open({disk}) failed: No such file or directory")),
        "{text}"
    );
    assert!(
        text.ends_with("create-md' terminated with exit code 20\n"),
        "{text}"
    );
    std::fs::create_dir(node.disk()).unwrap();
    let (code, text) = node.fails("create-md r0");
    assert_eq!(
        (code, text.lines().next().unwrap()),
        (
            20,
            &*format!("'{disk}' is neither a block device nor a file!")
        )
    );
    std::fs::remove_dir(node.disk()).unwrap();
    File::create(node.disk()).unwrap().set_len(4096).unwrap();
    let (code, text) = node.fails("create-md r0");
    assert_eq!(code, 10, "{text}");
}

#[test]
fn a_locked_file_is_left_alone() {
    let node = Node::new();
    let file = File::open(node.disk()).unwrap();
    file.try_lock().unwrap();
    let (code, text) = node.fails("create-md r0");
    assert_eq!(code, 20);
    assert!(
        text.contains("is in use: another program has locked it"),
        "{text}"
    );
}

#[test]
fn a_file_that_is_about_to_be_free_is_waited_for() {
    let node = Node::new();
    let file = File::open(node.disk()).unwrap();
    file.try_lock().unwrap();
    let ending = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(500));
        drop(file);
    });
    node.ok("create-md r0");
    ending.join().unwrap();
}
