//! Which front end serves a device.

use std::fmt;
use std::fs::OpenOptions;
use std::path::Path;
use std::str::FromStr;

use crate::fuse::mount::{Kind, mount};

/// The front ends, as `rdbd.toml` and `--frontend` name them. The NBD socket is always there beside the
/// device node; `Socket` means that there is nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Frontend {
    /// The best that works on this machine.
    Auto,
    /// A device of the kernel's ublk driver.
    Ublk,
    /// The same, also on a kernel that is known to crash with it. Settled, it is `Ublk`.
    UblkAnyway,
    /// A device of the kernel's NBD client.
    Nbd,
    /// A loop device over a file served by FUSE.
    Fuse,
    /// The NBD socket alone: no device node.
    Socket,
}

/// Why a front end cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrontendError {
    /// No such name.
    #[error("unknown front end {name:?}: choose auto, ublk, nbd, fuse or socket")]
    Unknown {
        /// As given.
        name: String,
    },
    /// The kernel is known to crash when a ublk device is added.
    #[error(
        "the ublk front end is not used here: the kernel {release} crashes when the first ublk device is added; use another \
         kernel or front end, or \"ublk-anyway\" if this kernel was mended"
    )]
    Crashes {
        /// The kernel, as `uname -r` prints it.
        release: String,
    },
    /// The machine lacks what a driver needs.
    #[error("the {name} front end does not work here: {reason}")]
    Driver {
        /// As given.
        name: &'static str,
        /// What is missing.
        reason: String,
    },
    /// The machine lacks something that was asked for.
    #[error("the {name} front end does not work here: {path}: {reason}")]
    Unavailable {
        /// As given.
        name: &'static str,
        /// The device node that is missing or may not be opened.
        path: &'static str,
        /// What the system said.
        reason: String,
    },
}

impl Frontend {
    /// The front end called `name`.
    pub fn from_name(name: &str) -> Result<Self, FrontendError> {
        match name {
            "auto" => Ok(Frontend::Auto),
            "ublk" => Ok(Frontend::Ublk),
            "ublk-anyway" => Ok(Frontend::UblkAnyway),
            "fuse" => Ok(Frontend::Fuse),
            "socket" => Ok(Frontend::Socket),
            "nbd" => Ok(Frontend::Nbd),
            _ => Err(FrontendError::Unknown {
                name: name.to_owned(),
            }),
        }
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Frontend::Auto => "auto",
            Frontend::Ublk => "ublk",
            Frontend::UblkAnyway => "ublk-anyway",
            Frontend::Nbd => "nbd",
            Frontend::Fuse => "fuse",
            Frontend::Socket => "socket",
        }
    }

    /// Settles `Auto`: ublk where it works, else the kernel's NBD client, else FUSE where it and loop devices can be used,
    /// else the socket. What was asked for by name is not replaced by something else: if the machine lacks it, that is an
    /// error. Blocking; loads the driver if it is there.
    pub fn settle(self) -> Result<Self, FrontendError> {
        match self {
            Frontend::Socket => Ok(Frontend::Socket),
            Frontend::Ublk => check_ublk().map(|()| Frontend::Ublk),
            Frontend::UblkAnyway => check_ublk_driver().map(|()| Frontend::Ublk),
            Frontend::Nbd => check_nbd().map(|()| Frontend::Nbd),
            Frontend::Fuse => check_fuse_and_loop().map(|()| Frontend::Fuse),
            Frontend::Auto => Ok(Frontend::best()),
        }
    }

    /// Does what a settled front end's devices begin with, as far as that touches nobody: for FUSE, a mount on a file of
    /// our own in `directory`. What the drivers of the others need was looked at when the front end was settled. Blocking.
    pub fn check_devices(self, directory: &Path) -> Result<(), FrontendError> {
        if self != Frontend::Fuse {
            return Ok(());
        }
        let file = directory.join(format!("check-mount-{}", std::process::id()));
        let tried = std::fs::File::create_new(&file)
            .map_err(|error| format!("{}: {error}", file.display()))
            .and_then(|_| {
                let (connection, mount) =
                    mount(&file, Kind::File, "check").map_err(|error| error.to_string())?;
                let unmounted = mount.unmount().map_err(|error| error.to_string());
                drop(connection);
                unmounted
            });
        let _ = std::fs::remove_file(&file);
        tried.map_err(|reason| FrontendError::Driver {
            name: "fuse",
            reason,
        })
    }

    fn best() -> Self {
        for (frontend, check) in [
            (
                Frontend::Ublk,
                check_ublk as fn() -> Result<(), FrontendError>,
            ),
            (Frontend::Nbd, check_nbd),
            (Frontend::Fuse, check_fuse_and_loop),
        ] {
            match check() {
                Ok(()) => return frontend,
                Err(error) => tracing::info!("{error}"),
            }
        }
        tracing::info!("no device nodes, only the NBD socket");
        Frontend::Socket
    }
}

impl FromStr for Frontend {
    type Err = FrontendError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::from_name(name)
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not even the driver is loaded where the kernel is known to crash.
fn check_ublk() -> Result<(), FrontendError> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    if crashes_with_ublk(release) {
        return Err(FrontendError::Crashes {
            release: release.to_owned(),
        });
    }
    check_ublk_driver()
}

/// Whether a kernel, as `uname -r` prints it, is known to dereference NULL when the first ublk device is added: one that has
/// the driver's memory allocation by NUMA node and not the change of order that this needs. The list is of what was seen;
/// between two bad builds of one kernel all are taken for bad.
pub fn crashes_with_ublk(release: &str) -> bool {
    let end = release
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(release.len());
    let (version, rest) = release.split_at(end);
    if matches!(version, "6.18.4" | "6.18.5") {
        return true;
    }
    // Ubuntu's kernels: `6.17.0-1015-azure`, by their own count.
    let mut parts = rest.trim_start_matches('-').split('-');
    let build = parts.next().and_then(|build| build.parse::<u32>().ok());
    match (version, build, parts.next()) {
        ("6.17.0", Some(build), Some("azure")) => (1015..=1018).contains(&build),
        ("6.17.0", Some(build), Some("aws")) => build == 1017,
        _ => false,
    }
}

fn check_ublk_driver() -> Result<(), FrontendError> {
    crate::ublk::available().map_err(|error| FrontendError::Driver {
        name: "ublk",
        reason: error.to_string(),
    })
}

fn check_nbd() -> Result<(), FrontendError> {
    crate::knbd::available().map_err(|error| FrontendError::Driver {
        name: "nbd",
        reason: error.to_string(),
    })
}

fn check_fuse_and_loop() -> Result<(), FrontendError> {
    for path in ["/dev/fuse", "/dev/loop-control"] {
        check_opens(path)?;
    }
    Ok(())
}

fn check_opens(path: &'static str) -> Result<(), FrontendError> {
    match OpenOptions::new()
        .read(true)
        .write(true)
        .open(Path::new(path))
    {
        Ok(_) => Ok(()),
        Err(error) => Err(FrontendError::Unavailable {
            name: "fuse",
            path,
            reason: error.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_and_go() {
        for frontend in [
            Frontend::Auto,
            Frontend::Ublk,
            Frontend::UblkAnyway,
            Frontend::Nbd,
            Frontend::Fuse,
            Frontend::Socket,
        ] {
            assert_eq!(Frontend::from_name(frontend.name()), Ok(frontend));
            assert_eq!(frontend.to_string().parse(), Ok(frontend));
        }
    }

    #[test]
    fn kernels_that_crash_are_told_by_their_release() {
        for release in [
            "6.18.4",
            "6.18.5",
            "6.18.4-arch1-1",
            "6.18.5-200.fc43.x86_64",
            "6.18.5+deb14-amd64",
            "6.17.0-1015-azure",
            "6.17.0-1016-azure",
            "6.17.0-1018-azure",
            "6.17.0-1018-azure-fde",
            "6.17.0-1017-aws",
        ] {
            assert!(crashes_with_ublk(release), "{release}");
        }
        for release in [
            "6.18.3",
            "6.18.6",
            "6.18.40",
            "6.18.41-arch1-1",
            "16.18.4",
            "6.17.4",
            "6.17.0-1014-azure",
            "6.17.0-1019-azure",
            "6.17.0-1016-aws",
            "6.17.0-1018-aws",
            "6.17.0-1017-gcp",
            "6.17.0-14-generic",
            "6.1.0-18-amd64",
            "",
            "-",
        ] {
            assert!(!crashes_with_ublk(release), "{release}");
        }
    }

    #[test]
    fn a_refusal_says_how_it_is_passed() {
        let error = FrontendError::Crashes {
            release: "6.18.4".to_owned(),
        };
        let text = error.to_string();
        assert!(
            text.contains("6.18.4") && text.contains("ublk-anyway"),
            "{text}"
        );
    }

    #[test]
    fn front_ends_that_are_none_are_refused_by_name() {
        let error = Frontend::from_name("floppy")
            .expect_err("floppy")
            .to_string();
        assert!(error.contains("floppy"), "{error}");
    }

    #[test]
    fn a_missing_device_node_is_named() {
        let error = check_opens("/dev/no-such-device")
            .expect_err("no such device")
            .to_string();
        assert!(error.contains("/dev/no-such-device"), "{error}");
    }

    #[test]
    fn the_socket_works_everywhere_and_auto_settles() {
        assert_eq!(Frontend::Socket.settle(), Ok(Frontend::Socket));
        let auto = Frontend::Auto
            .settle()
            .expect("auto always finds something");
        let first = [
            Frontend::Ublk,
            Frontend::Nbd,
            Frontend::Fuse,
            Frontend::Socket,
        ]
        .into_iter()
        .find(|frontend| frontend.settle().is_ok());
        assert_eq!(Some(auto), first);
    }
}
