//! The state directory is one daemon's.

use anyhow::{Result, ensure};
use rdb_tests::Pair;
use rdb_tests::pair::Plan;

#[test]
fn two_daemons_do_not_keep_their_histories_in_one_directory() -> Result<()> {
    let mut pair = Pair::prepare("state-dir", Plan::default())?;
    let (settings, dir) = (pair.scratch.join("rdbd.toml"), pair.scratch.join("state"));
    std::fs::write(&settings, format!("state-dir = \"{}\"\n", dir.display()))?;
    pair.alice.settings = Some(settings.clone());
    pair.bob.settings = Some(settings);
    pair.alice.start()?;
    let is_refused = |pair: &Pair| -> Result<()> {
        let said = pair.bob.try_start()?.fails_with(1)?;
        let words = format!(
            "rdbd: state directory {}: another rdbd (pid ",
            dir.display()
        );
        ensure!(
            said.lines().count() == 1 && said.starts_with(&words),
            "{said}"
        );
        Ok(())
    };
    is_refused(&pair)?;
    // The lock goes on with the program that follows.
    pair.alice.adm(&["restart"])?;
    is_refused(&pair)?;
    let status = pair.alice.terminate()?;
    ensure!(status.success(), "{status}");
    pair.bob.start()?;
    pair.bob.is_well()
}
