use super::*;

fn names(minor: u32, resource: &str, volume: Option<u32>) -> VolumeNames {
    VolumeNames {
        minor,
        resource: resource.to_owned(),
        volume,
        old_name: false,
        disk: None,
    }
}

/// Where names are made, and whether this machine lets us make a placeholder.
fn place() -> (tempfile::TempDir, DeviceLinks, bool) {
    let dir = tempfile::tempdir().expect("a directory");
    let links = DeviceLinks::new(dir.path(), dir.path());
    let probe = dir.path().join("probe");
    let may = sys::make_block_node(&probe, 0, 9).is_ok();
    if may {
        std::fs::remove_file(&probe).expect("removed");
    }
    (dir, links, may)
}

fn count(dir: &tempfile::TempDir) -> usize {
    std::fs::read_dir(dir.path()).expect("readable").count()
}

#[test]
fn names_come_and_go() {
    let (dir, links, _) = place();
    let (first, second) = (Path::new("/dev/loop7"), Path::new("/dev/loop8"));
    let one = VolumeNames {
        disk: Some("/dev/vg/a".into()),
        ..names(3, "r0", Some(0))
    };
    let other = VolumeNames {
        disk: Some("/srv/b.img".into()),
        ..names(4, "r0", Some(1))
    };
    links.show(&one, Shown::Device(first), None).expect("made");
    let replaced = links.show(&one, Shown::Device(second), Some(first));
    replaced.expect("replaced");
    let device = Shown::Device(Path::new("/dev/ublkb1"));
    links.show(&other, device, None).expect("made");
    let lead = |path: &str| std::fs::read_link(dir.path().join(path)).expect(path);
    assert_eq!(lead("drbd3"), second);
    for (path, minor) in [
        ("drbd/by-res/r0/0", 3),
        ("drbd/by-disk/vg/a", 3),
        ("drbd/by-res/r0/1", 4),
        ("drbd/by-disk/srv/b.img", 4),
    ] {
        assert_eq!(lead(path), links.by_minor(minor), "{path}");
    }
    links.remove(&one, None).expect("removed");
    assert!(
        dir.path().join("drbd/by-res/r0").is_dir(),
        "volume 1 is still there"
    );
    links.remove(&other, None).expect("removed");
    links.remove(&other, None).expect("nothing to do");
    assert_eq!(count(&dir), 0);
}

#[test]
fn a_device_has_its_old_name_on_request() {
    let (dir, links, _) = place();
    let old = VolumeNames {
        old_name: true,
        ..names(3, "r0", None)
    };
    let device = Shown::Device(Path::new("/dev/loop7"));
    links.show(&old, device, None).expect("made");
    let lead = std::fs::read_link(dir.path().join("nb3")).expect("a link");
    assert_eq!(lead, links.by_minor(3));
    links.remove(&old, None).expect("removed");
    assert_eq!(count(&dir), 0);
    // What is not ours has the name.
    std::fs::write(dir.path().join("nb3"), "a file").expect("written");
    let refused = links.show(&old, device, None);
    assert!(
        matches!(refused, Err(LinkError::NotOurs { .. })),
        "{refused:?}"
    );
    assert!(
        links.by_minor(3).is_symlink(),
        "the name that everybody knows is made"
    );
    let refused = links.remove(&old, None);
    assert!(matches!(refused, Err(LinkError::NotOurs { .. })));
    assert_eq!(count(&dir), 1);
}

#[test]
fn a_secondarys_name_is_a_block_device_that_cannot_be_opened() {
    let (dir, links, may) = place();
    let volume = names(3, "r0", None);
    let device = Path::new("/dev/loop7");
    let shown = links.show(&volume, Shown::Placeholder, None);
    if !may {
        assert!(matches!(shown, Err(LinkError::Io { .. })), "{shown:?}");
        assert_eq!(count(&dir), 0);
        return;
    }
    shown.expect("made");
    let path = dir.path().join("drbd/by-res/r0");
    for _ in 0..2 {
        let kind = std::fs::metadata(&path).expect("there").file_type();
        assert!(kind.is_block_device());
        let opened = std::fs::File::open(&path).expect_err("nobody can open it");
        assert_eq!(opened.raw_os_error(), Some(libc::ENXIO));
        // It takes the device's place, and gives it back; a node that a killed daemon was about to put there is no obstacle.
        std::fs::write(dir.path().join(".drbd3.rdb"), "left").expect("written");
        links
            .show(&volume, Shown::Device(device), None)
            .expect("made");
        assert_eq!(
            std::fs::read_link(links.by_minor(3)).expect("a link"),
            device
        );
        links
            .show(&volume, Shown::Placeholder, Some(device))
            .expect("made");
    }
    assert!(!dir.path().join(".drbd3.rdb").exists());
    // Somebody else's device has the name meanwhile.
    let other = Path::new("/dev/ublkb0");
    links
        .show(&volume, Shown::Device(other), None)
        .expect("made");
    links
        .show(&volume, Shown::Placeholder, Some(device))
        .expect("left alone");
    links.remove(&volume, Some(device)).expect("left alone");
    links.remove_placeholder(&volume).expect("left alone");
    assert_eq!(
        std::fs::read_link(links.by_minor(3)).expect("a link"),
        other
    );
    links
        .show(&volume, Shown::Placeholder, Some(other))
        .expect("made");
    links.remove_placeholder(&volume).expect("removed");
    assert_eq!(count(&dir), 0);
}

#[test]
fn names_that_a_killed_daemon_has_left_go_and_another_ones_stay() {
    let (dir, links, _) = place();
    let volume = names(3, "r0", None);
    // No machine has so many.
    for device in ["/dev/loop987654", "/dev/nbd987654", "/dev/ublkb987654"] {
        let shown = Shown::Device(Path::new(device));
        links.show(&volume, shown, None).expect("made");
        links.remove_left(&volume).expect("removed");
        assert_eq!(count(&dir), 0, "{device}");
    }
    links.remove_left(&volume).expect("nothing there");
}

#[test]
fn a_name_that_leads_to_a_loop_device_of_somebody_elses_goes() {
    // Any that has a file will do: a test of another program, or an installed image. rdb's own are FUSE mounts.
    let used = std::fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten();
    let used = used.map(|entry| entry.path()).find(|block| {
        let file = std::fs::read_to_string(block.join("loop/backing_file"));
        file.is_ok_and(|file| !file.starts_with("/run/") && !file.contains("/device/"))
    });
    let Some(block) = used else {
        return;
    };
    let (dir, links, _) = place();
    let volume = names(3, "r0", None);
    let device = Path::new("/dev").join(block.file_name().expect("a name"));
    links
        .show(&volume, Shown::Device(&device), None)
        .expect("made");
    links.check(3).expect("it is no daemon's");
    links.remove_left(&volume).expect("removed");
    assert_eq!(count(&dir), 0, "{}", device.display());
}

#[test]
fn the_name_by_a_disk_goes_with_the_disk() {
    let (dir, links, _) = place();
    let with = |disk: &str| VolumeNames {
        disk: Some(disk.into()),
        ..names(3, "r0", Some(0))
    };
    let device = Path::new("/dev/ublkb3");
    let show = |names: &VolumeNames| links.show(names, Shown::Device(device), Some(device));
    show(&with("/dev/vg/a")).expect("made");
    show(&with("/dev/vg/b")).expect("made");
    let by_disk = dir.path().join("drbd/by-disk/vg");
    links.remove_disk(4, Path::new("/dev/vg/a")).expect("left");
    assert!(by_disk.join("a").is_symlink(), "it is another minor's");
    links
        .remove_disk(3, Path::new("/dev/vg/a"))
        .expect("removed");
    assert!(!by_disk.join("a").is_symlink() && by_disk.join("b").is_symlink());
}

#[test]
fn a_volume_without_a_number_is_the_resources_own_link() {
    let (dir, links, _) = place();
    let target = Path::new("/dev/ublkb3");
    let device = Shown::Device(target);
    let link = |path: &str| std::fs::read_link(dir.path().join("drbd/by-res").join(path)).ok();
    for _ in 0..2 {
        // The configuration numbers it, and does not any more.
        links
            .show(&names(3, "r0", Some(0)), device, None)
            .expect("made");
        assert_eq!(link("r0/0"), Some(links.by_minor(3)));
        links
            .show(&names(3, "r0", None), device, None)
            .expect("made");
        assert_eq!(link("r0"), Some(links.by_minor(3)));
    }
    links
        .remove(&names(3, "r0", None), Some(target))
        .expect("removed");
    assert_eq!(count(&dir), 0);
    // A directory with what is not ours in it stays.
    std::fs::create_dir_all(dir.path().join("drbd/by-res/r0")).expect("a directory");
    std::fs::write(dir.path().join("drbd/by-res/r0/note"), "mine").expect("written");
    let made = links.show(&names(3, "r0", None), device, None);
    assert!(matches!(made, Err(LinkError::NotOurs { .. })), "{made:?}");
    assert!(dir.path().join("drbd/by-res/r0/note").exists());
}

#[test]
fn names_that_another_node_has_taken_stay() {
    let (dir, links, _) = place();
    let volume = names(3, "r0", Some(0));
    let (first, second) = (Path::new("/dev/ublkb0"), Path::new("/dev/ublkb5"));
    links
        .show(&volume, Shown::Device(first), None)
        .expect("made");
    links
        .show(&volume, Shown::Device(second), None)
        .expect("replaced");
    links.remove(&volume, Some(first)).expect("left alone");
    assert_eq!(
        std::fs::read_link(links.by_minor(3)).expect("a link"),
        second
    );
    assert!(dir.path().join("drbd/by-res/r0/0").is_symlink());
    // Its resource has another minor there.
    links
        .show(&names(4, "r0", Some(0)), Shown::Device(first), None)
        .expect("made");
    links.remove(&volume, Some(second)).expect("removed");
    assert_eq!(
        std::fs::read_link(dir.path().join("drbd/by-res/r0/0")).expect("a link"),
        links.by_minor(4)
    );
    links
        .remove(&names(4, "r0", Some(0)), Some(first))
        .expect("removed");
    assert_eq!(count(&dir), 0);
}

#[test]
fn what_is_not_ours_stays() {
    let (dir, links, may) = place();
    let device = Shown::Device(Path::new("/dev/loop7"));
    std::fs::write(dir.path().join("drbd0"), "a file").expect("written");
    symlink("../../drbd9", dir.path().join("drbd1")).expect("a link");
    if may {
        // A node of the kernel's driver, and one of another volume's name.
        sys::make_block_node(&dir.path().join("drbd4"), 147, 4).expect("a node");
        sys::make_block_node(&dir.path().join("drbd5"), 0, 6).expect("a node");
    }
    for minor in [0, 1]
        .into_iter()
        .chain(may.then_some([4, 5]).into_iter().flatten())
    {
        let volume = names(minor, "r0", Some(0));
        let checked = links.check(minor);
        assert!(
            matches!(checked, Err(LinkError::NotOurs { .. })),
            "{minor}: {checked:?}"
        );
        for shown in [device, Shown::Placeholder] {
            let made = links.show(&volume, shown, None);
            assert!(
                matches!(made, Err(LinkError::NotOurs { .. })),
                "{minor}: {made:?}"
            );
        }
        let removed = links.remove(&volume, None);
        assert!(
            matches!(removed, Err(LinkError::NotOurs { .. })),
            "{minor}: {removed:?}"
        );
        links.remove_placeholder(&volume).expect("left alone");
        assert!(links.by_minor(minor).symlink_metadata().is_ok());
    }
    // udev's link of the kernel's driver, and somebody's.
    for target in ["../../drbd2", "/dev/sda"] {
        std::fs::create_dir_all(dir.path().join("drbd/by-res/r2")).expect("a directory");
        let by_resource = dir.path().join("drbd/by-res/r2/0");
        symlink(target, &by_resource).expect("a link");
        let made = links.show(&names(2, "r2", Some(0)), device, None);
        assert!(matches!(made, Err(LinkError::NotOurs { .. })), "{made:?}");
        let removed = links.remove(&names(2, "r2", Some(0)), None);
        assert!(
            matches!(removed, Err(LinkError::NotOurs { .. })),
            "{removed:?}"
        );
        assert_eq!(
            std::fs::read_link(&by_resource).expect("a link"),
            Path::new(target)
        );
        assert!(
            links.by_minor(2).symlink_metadata().is_err(),
            "ours has gone"
        );
        std::fs::remove_file(&by_resource).expect("removed");
    }
    assert_eq!(
        std::fs::read(dir.path().join("drbd0")).expect("there"),
        b"a file"
    );
}

#[test]
fn names_cannot_lead_out_of_the_directory() {
    let links = DeviceLinks::new("/nowhere", "/nowhere");
    for name in ["", ".", "..", "a/b", "/etc", "a\0b"] {
        let path = links.by_resource(name, Some(0));
        assert!(
            matches!(path, Err(LinkError::BadName { .. })),
            "{name:?}: {path:?}"
        );
    }
    for disk in ["", "/", "/dev", "/dev/../etc", "vg/a", "/dev/vg/../../x"] {
        let path = links.by_disk(Path::new(disk));
        assert!(
            matches!(path, Err(LinkError::BadDisk { .. })),
            "{disk:?}: {path:?}"
        );
    }
    for target in [
        "/dev/sda",
        "/dev/loop",
        "/dev/loop1x",
        "/dev/loop/../sda",
        "loop1",
    ] {
        let made = links.show(
            &names(0, "r0", Some(0)),
            Shown::Device(Path::new(target)),
            None,
        );
        assert!(
            matches!(made, Err(LinkError::BadTarget { .. })),
            "{target}: {made:?}"
        );
    }
}
