//! What a daemon that died has left: its mounts, and the loop devices over them.

use std::io;
use std::path::Path;

use super::mount::{clear_stale, is_dead};
use crate::loopdev::{LoopDevice, LoopError};

/// Detaches and unmounts what nobody serves in a directory of mounts named `RESOURCE.VOLUME`. `is_kept`: the session has been
/// handed on, and will be served. A device that is still used goes with its last user, for later nobody would know it: its file
/// has no path any more. The log says who that is. Blocking; a mount that is served is only looked at.
pub fn clear(directory: &Path, is_kept: impl Fn(&str, u32) -> bool) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let parts = name.to_str().and_then(|name| name.rsplit_once('.'));
        let volume = parts.and_then(|(resource, volume)| Some((resource, volume.parse().ok()?)));
        let Some((resource, volume)) = volume else {
            continue;
        };
        if is_kept(resource, volume) {
            // Whoever looks at it would wait.
            continue;
        }
        let target = entry.path();
        if !std::fs::metadata(&target).is_err_and(|error| is_dead(&error)) {
            continue;
        }
        if let Err(error) = clear_one(&target) {
            tracing::warn!("left by a daemon that died: {error}");
        }
    }
}

fn clear_one(target: &Path) -> io::Result<()> {
    let mut first = Ok(());
    for device in LoopDevice::attached_to(target).map_err(io::Error::other)? {
        let path = device.path();
        match device.clone().detach() {
            Ok(()) => tracing::info!("detached {}, left by a daemon that died", path.display()),
            Err(error @ LoopError::Held { .. }) => match device.detach_when_free() {
                Ok(()) => tracing::warn!(
                    "left by a daemon that died: {error}; it gives errors only, and goes with its last user"
                ),
                Err(error) => first = first.and(Err(io::Error::other(error))),
            },
            Err(error) => first = first.and(Err(io::Error::other(error))),
        }
    }
    first.and(clear_stale(target).map_err(io::Error::other))
}
