//! `cargo xtask install`: for those without packages.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::list::{Asset, PACKAGES};
use super::stage;

#[derive(clap::Args)]
pub(crate) struct InstallOptions {
    /// Where programs, scripts, manuals and completions go; configuration and units go where they are looked for
    #[arg(long, default_value = "/usr/local")]
    prefix: PathBuf,
    /// Put everything below this directory, for whoever makes a package
    #[arg(long, default_value = "/")]
    destdir: PathBuf,
    /// The names of drbd-utils as well
    #[arg(long)]
    drbd_compat: bool,
    /// Install the programs that the tests use
    #[arg(long)]
    debug: bool,
}

/// Builds and installs.
pub(crate) fn install(options: &InstallOptions) -> Result<()> {
    if !options.prefix.is_absolute() {
        bail!(
            "--prefix {}: an absolute path is expected",
            options.prefix.display()
        );
    }
    let binaries = crate::test::binaries(!options.debug)?;
    stage::prepare(&binaries)?;
    let prefix = options.prefix.to_string_lossy();
    for package in PACKAGES {
        if package.variant.is_some() && !(options.drbd_compat && package.name == "rdb-drbd-compat")
        {
            continue;
        }
        let assets = package.assets(&binaries)?;
        for asset in assets
            .iter()
            .filter(|asset| !is_of_packages(&asset.destination))
        {
            put(asset, &options.destdir, &prefix)?;
        }
    }
    eprintln!(
        "Next, as root: systemd-sysusers; systemctl daemon-reload; systemctl enable --now rdbd. A daemon that runs: rdbadm restart."
    );
    Ok(())
}

/// What is there for packages' sake alone.
fn is_of_packages(destination: &Path) -> bool {
    destination.starts_with("usr/share/lintian") || destination.ends_with("changelog.Debian.gz")
}

/// Puts one file where it belongs. Configuration that is there stays.
fn put(asset: &Asset, destdir: &Path, prefix: &str) -> Result<()> {
    let place = place(&asset.destination, prefix);
    let to = destdir.join(place.strip_prefix("/").unwrap_or(&place));
    if asset.is_configuration && to.exists() {
        return Ok(());
    }
    let folder = to.parent().context("a folder")?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    // The new file takes the name of the old one: a program that runs keeps its own.
    let new = folder.join(format!(
        ".{}.new",
        to.file_name().context("a name")?.to_string_lossy()
    ));
    let _ = fs::remove_file(&new);
    let is_link = asset.source.symlink_metadata()?.file_type().is_symlink();
    if is_link {
        symlink(fs::read_link(&asset.source)?, &new)?;
    } else {
        // Programs are named in units and scripts.
        match fs::read_to_string(&asset.source) {
            Ok(text) if prefix != "/usr" => fs::write(&new, moved(&text, prefix))?,
            _ => drop(fs::copy(&asset.source, &new)?),
        }
        fs::set_permissions(&new, fs::Permissions::from_mode(asset.mode))?;
    }
    fs::rename(&new, &to).with_context(|| to.display().to_string())?;
    println!("{}", to.display());
    Ok(())
}

/// Where a file of the package goes with another prefix than /usr.
fn place(destination: &Path, prefix: &str) -> PathBuf {
    // Those under DRBD's names are where Debian's drbd-utils has them, and meant to be in the same place.
    let merged = match destination.starts_with("sbin") || destination.starts_with("lib") {
        true => Path::new("usr").join(destination),
        false => destination.to_owned(),
    };
    let below_usr = merged.strip_prefix("usr").ok();
    // systemd looks there whatever the prefix is.
    let is_found_by_place = ["systemd", "sysusers.d", "tmpfiles.d"]
        .iter()
        .any(|name| merged.starts_with(Path::new("usr/lib").join(name)));
    match below_usr {
        Some(below) if !is_found_by_place => Path::new(prefix).join(below),
        _ => Path::new("/").join(merged),
    }
}

/// The paths of our own programs and scripts, with another prefix than /usr.
fn moved(text: &str, prefix: &str) -> String {
    let own = [
        "/usr/sbin/rdb",
        "/usr/sbin/drbd",
        "/usr/lib/rdb/",
        "/usr/share/rdb/",
    ];
    let text = own.iter().fold(text.to_owned(), |text, path| {
        let below = path.strip_prefix("/usr").unwrap_or(path);
        text.replace(path, &format!("{prefix}{below}"))
    });
    // The search path of our scripts.
    text.replace(
        "PATH=\"/usr/sbin:",
        &format!("PATH=\"{prefix}/sbin:/usr/sbin:"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_where_systemd_looks_and_name_the_programs_where_they_are() {
        for (destination, expected) in [
            ("usr/sbin/rdbd", "/usr/local/sbin/rdbd"),
            (
                "usr/lib/systemd/system-generators/rdb-fstab-generator",
                "/usr/lib/systemd/system-generators/rdb-fstab-generator",
            ),
            (
                "usr/lib/systemd/system/rdbd.service",
                "/usr/lib/systemd/system/rdbd.service",
            ),
            ("usr/lib/rdb/startup", "/usr/local/lib/rdb/startup"),
            ("sbin/drbdadm", "/usr/local/sbin/drbdadm"),
            (
                "lib/systemd/system/drbd@.service",
                "/usr/lib/systemd/system/drbd@.service",
            ),
            ("etc/rdb/rdbd.toml", "/etc/rdb/rdbd.toml"),
        ] {
            assert_eq!(
                place(Path::new(destination), "/usr/local"),
                Path::new(expected)
            );
        }
        assert_eq!(
            moved(
                "ExecStart=/usr/sbin/rdbd\nexport PATH=\"/usr/sbin:/sbin\"\n/usr/lib/rdb/startup",
                "/opt/rdb"
            ),
            "ExecStart=/opt/rdb/sbin/rdbd\nexport PATH=\"/opt/rdb/sbin:/usr/sbin:/sbin\"\n/opt/rdb/lib/rdb/startup"
        );
    }
}
