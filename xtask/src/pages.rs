//! What the programs write from their own tables: manual pages and completion scripts.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::run;

/// Has the programs in `binaries` write their manual pages into a directory.
pub(crate) fn man(binaries: &Path, directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    run::must(
        Command::new(binaries.join("rdbadm"))
            .arg("man")
            .arg(directory),
    )?;
    run::must(
        Command::new(binaries.join("rdbd"))
            .arg("--generate-man")
            .arg(directory),
    )
}

/// The shells, and how the file is called that each of them finds by itself.
const SCRIPTS: [(&str, &str); 3] = [
    ("bash", "rdbadm"),
    ("zsh", "_rdbadm"),
    ("fish", "rdbadm.fish"),
];

/// Writes the scripts into a folder for each shell.
pub(crate) fn completions(binaries: &Path, directory: &Path) -> Result<()> {
    for (shell, file) in SCRIPTS {
        let folder = directory.join(shell);
        std::fs::create_dir_all(&folder)?;
        let output = Command::new(binaries.join("rdbadm"))
            .args(["completions", shell])
            .output()?;
        ensure!(
            output.status.success(),
            "rdbadm completions {shell}: {output:?}"
        );
        std::fs::write(folder.join(file), output.stdout)?;
    }
    Ok(())
}
