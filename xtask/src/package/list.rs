//! What is in which package: the lists in `crates/rdbd/Cargo.toml`, read.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use toml::Value;

use crate::run;

/// A package, and how `[package.metadata.deb]` calls it.
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) variant: Option<&'static str>,
}

/// All of them.
pub(super) const PACKAGES: [Package; 3] = [
    Package {
        name: "rdb",
        variant: None,
    },
    Package {
        name: "rdb-drbd-compat",
        variant: Some("drbd-compat"),
    },
    Package {
        name: "rdb-doc",
        variant: Some("doc"),
    },
];

/// One file that is installed.
pub(super) struct Asset {
    pub(super) source: PathBuf,
    /// Below the root.
    pub(super) destination: PathBuf,
    pub(super) mode: u32,
    /// Whether an administrator changes it.
    pub(super) is_configuration: bool,
}

impl Package {
    /// What `[package.metadata.deb]` says of this package: its own key, else that of all.
    pub(super) fn text(&self, key: &str) -> Result<String> {
        let value = self.value(key)?;
        Ok(value.as_str().unwrap_or_default().to_owned())
    }

    fn value(&self, key: &str) -> Result<Value> {
        let file = run::root().join("crates/rdbd/Cargo.toml");
        let text = super::read(&file)?;
        let cargo: Value = toml::from_str(&text).context("crates/rdbd/Cargo.toml")?;
        let deb = &cargo["package"]["metadata"]["deb"];
        let own = self
            .variant
            .and_then(|variant| deb["variants"][variant].get(key));
        let value = own.or_else(|| deb.get(key));
        value
            .cloned()
            .with_context(|| format!("{}: no {key}", self.name))
    }

    /// Its files, with what is below `target/release` taken from `binaries`.
    pub(super) fn assets(&self, binaries: &Path) -> Result<Vec<Asset>> {
        let configuration = self.value("conf-files")?;
        let configuration: Vec<&str> = configuration
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut assets = Vec::new();
        for asset in self
            .value("assets")?
            .as_array()
            .context("assets is no list")?
        {
            let word = |at: usize| asset[at].as_str().context("an asset is three words");
            let (pattern, to, mode) = (word(0)?, word(1)?, u32::from_str_radix(word(2)?, 8)?);
            let sources = matching(pattern, binaries)?;
            ensure!(
                !sources.is_empty(),
                "{}: nothing matches {pattern}",
                self.name
            );
            for source in sources {
                let name = source.file_name().context("a file")?;
                let destination = match to.ends_with('/') {
                    true => Path::new(to).join(name),
                    false => PathBuf::from(to),
                };
                let absolute = format!("/{}", destination.display());
                assets.push(Asset {
                    is_configuration: configuration.contains(&absolute.as_str()),
                    source,
                    destination,
                    mode,
                });
            }
        }
        Ok(assets)
    }
}

/// The files of a pattern, which has at most one `*`, in its last part.
fn matching(pattern: &str, binaries: &Path) -> Result<Vec<PathBuf>> {
    let path = match pattern.strip_prefix("target/release/") {
        Some(below) => binaries.join(below),
        None => run::root().join("crates/rdbd").join(pattern),
    };
    let name = path.file_name().context("a pattern")?.to_string_lossy();
    let Some((head, tail)) = name.split_once('*') else {
        return Ok(Vec::from([path])
            .into_iter()
            .filter(|p| p.symlink_metadata().is_ok())
            .collect());
    };
    let folder = path.parent().context("a folder")?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Of what lies in the tree; what is written when packages are built is not there in a test.
    fn of_the_tree() -> Vec<(PathBuf, u32)> {
        let mut found = Vec::new();
        for package in PACKAGES {
            let assets = package.value("assets").unwrap();
            for asset in assets.as_array().unwrap() {
                let pattern = asset[0].as_str().unwrap();
                let mode = u32::from_str_radix(asset[2].as_str().unwrap(), 8).unwrap();
                if !pattern.starts_with("target/release/") {
                    let sources = matching(pattern, Path::new("/nowhere")).unwrap();
                    assert!(!sources.is_empty(), "{pattern}");
                    found.extend(sources.into_iter().map(|source| (source, mode)));
                }
            }
        }
        found
    }

    /// Pictures load nothing, are small, and are readable on dark pages, too.
    #[test]
    fn what_the_pages_show_is_there_and_shipped() {
        let docs = run::root().join("docs");
        let mut shown = BTreeSet::new();
        for entry in std::fs::read_dir(&docs).unwrap().flatten() {
            if entry.path().extension().is_some_and(|kind| kind == "md") {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                let pictures = text.split("](pictures/").skip(1);
                shown.extend(
                    pictures
                        .map(|rest| docs.join("pictures").join(rest.split(')').next().unwrap())),
                );
            }
        }
        let shipped = of_the_tree()
            .into_iter()
            .map(|(source, _)| source.canonicalize().unwrap());
        let shipped: BTreeSet<PathBuf> = shipped
            .filter(|path| path.starts_with(docs.join("pictures")))
            .collect();
        assert_eq!(shown, shipped);
        assert!(shown.len() > 2, "{shown:?}");
        for path in shown {
            let name = path.display();
            assert!(path.metadata().unwrap().len() < 100_000, "{name}");
            if path.extension().is_some_and(|kind| kind == "svg") {
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(
                    text.contains("prefers-color-scheme: dark") && text.contains("<title"),
                    "{name}"
                );
                let loads = ["href", "<script", "@import", "url(h"];
                assert!(!loads.iter().any(|word| text.contains(word)), "{name}");
            }
        }
    }

    #[test]
    fn what_can_be_run_here_can_be_run_where_it_is_installed() {
        for (source, mode) in of_the_tree() {
            let own = std::fs::metadata(&source).unwrap().permissions().mode();
            assert_eq!(own & 0o111 != 0, mode & 0o111 != 0, "{}", source.display());
        }
    }

    #[test]
    fn every_unit_and_script_is_in_a_package() {
        let listed: BTreeSet<PathBuf> = of_the_tree()
            .into_iter()
            .map(|(source, _)| source.canonicalize().unwrap())
            .collect();
        for folder in ["units", "lib", "etc"] {
            for entry in std::fs::read_dir(run::root().join("packaging").join(folder)).unwrap() {
                let path = entry.unwrap().path().canonicalize().unwrap();
                assert!(listed.contains(&path), "{}", path.display());
            }
        }
    }
}
