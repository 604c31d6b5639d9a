//! The same packages as rpms.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::list::{Asset, PACKAGES, Package};
use super::{CARGO_GENERATE_RPM, read, results, tool};
use crate::run;

/// Builds all of them.
pub(super) fn build(binaries: &Path) -> Result<()> {
    let tool = tool(CARGO_GENERATE_RPM)?;
    for package in PACKAGES {
        let file = binaries
            .join("package")
            .join(format!("{}.rpm.toml", package.name));
        std::fs::write(&file, metadata(&package, binaries)?)?;
        run::must(
            Command::new(&tool)
                .current_dir(run::root())
                .args(["--package", "crates/rdbd", "--metadata-overwrite"])
                .arg(&file)
                .arg("--output")
                .arg(results().join(format!("{}.rpm", package.name))),
        )?;
    }
    Ok(())
}

/// A maintainer without the address, of which an rpm has none.
fn name_of(maintainer: &str) -> &str {
    maintainer.split(" <").next().unwrap_or(maintainer)
}

/// What `[package.metadata.generate-rpm]` is to be for this package.
fn metadata(package: &Package, binaries: &Path) -> Result<String> {
    let mut text = format!(
        "name = {:?}\nsummary = {:?}\nvendor = {:?}\n",
        package.name,
        summary(package)?,
        name_of(&package.text("maintainer")?)
    );
    let scripts = run::root().join("packaging/rpm");
    match package.name {
        "rdb" => {
            for (key, script) in [
                ("post_install_script", "post"),
                ("pre_uninstall_script", "preun"),
            ] {
                writeln!(text, "{key} = '''\n{}'''", read(&scripts.join(script))?)?;
            }
        }
        "rdb-drbd-compat" => {
            text += "[requires]\nrdb = \"*\"\n[conflicts]\ndrbd-utils = \"*\"\n[provides]\ndrbd-utils = \"= 8.9.6\"\n";
        }
        _ => {}
    }
    let mut assets = String::new();
    for asset in package.assets(binaries)? {
        let is_link = asset.source.symlink_metadata()?.file_type().is_symlink();
        let (source, mode) = match is_link {
            true => in_place_of_link(&asset, binaries)?,
            false => (asset.source.canonicalize()?, asset.mode),
        };
        write!(
            assets,
            "[[assets]]\nsource = {:?}\ndest = {:?}\nmode = \"{mode:o}\"\n",
            source.display().to_string(),
            destination(&asset),
        )?;
        if asset.is_configuration {
            assets += "config = \"noreplace\"\n";
        }
    }
    Ok(text + &assets)
}

/// Where a file goes: monitors' plugins are among the libraries of the machine's kind there.
fn destination(asset: &Asset) -> String {
    let path = format!("/{}", asset.destination.display());
    path.replace("/usr/lib/nagios/", "/usr/lib64/nagios/")
}

/// cargo-generate-rpm makes no links. A file that calls what the link leads to is there instead, or a copy of what no program is.
fn in_place_of_link(asset: &Asset, binaries: &Path) -> Result<(PathBuf, u32)> {
    let name = asset
        .destination
        .file_name()
        .context("a name")?
        .to_string_lossy();
    let folder = asset.destination.parent().context("a folder")?;
    let target = std::fs::read_link(&asset.source)?;
    let call = match folder.to_str() {
        Some("usr/sbin" | "sbin" | "usr/lib/nagios/plugins") => {
            format!("exec /usr/sbin/rdbadm {name}")
        }
        Some("usr/lib/drbd" | "usr/lib/rdb") if !name.starts_with("unsnapshot") => {
            "exec /usr/lib/rdb/snapshot-resync-target".to_owned()
        }
        Some("usr/lib/drbd") => "exec /usr/lib/rdb/unsnapshot-resync-target".to_owned(),
        _ => {
            let target = target.file_name().context("a name")?;
            let copies = [
                binaries.join("package/completions/bash").join(target),
                run::root().join("packaging/units").join(target),
                run::root().join("packaging/lib").join(target),
            ];
            let copy = copies.into_iter().find(|path| path.is_file());
            let mode = if folder.ends_with("rdb") {
                0o755
            } else {
                0o644
            };
            return Ok((
                copy.with_context(|| format!("{name}: nothing to copy"))?,
                mode,
            ));
        }
    };
    let path = binaries.join("package").join(format!("{name}.rpm.sh"));
    std::fs::write(&path, format!("#!/bin/sh\n{call} \"$@\"\n"))?;
    Ok((path, 0o755))
}

fn summary(package: &Package) -> Result<String> {
    let text = package.text("extended-description")?;
    let end = text.find([',', ':']).unwrap_or(text.len());
    Ok(text[..end].to_owned())
}
