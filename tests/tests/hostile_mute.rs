//! Commands that wait for the word of a peer that says none: they end within their limit, and nothing comes of them later.

use std::time::Duration;

use anyhow::{Result, ensure};
use rdb_tests::hostile::HostilePeer;
use rdb_tests::watch::Limits;
use rdb_tests::{Siege, wait_until};

/// Gives a command while the peer answers pings and nothing else; returns its exit status and what it said.
fn ask(siege: &Siege, peer: &mut HostilePeer, words: &[&str]) -> Result<(i32, String)> {
    let node = &siege.pair.alice;
    std::thread::scope(|scope| {
        let command = scope.spawn(|| node.try_adm(words));
        while !command.is_finished() {
            peer.pump(Duration::from_millis(20));
        }
        let out = command.join().expect("it does not panic")?;
        Ok((out.code, format!("{}{}", out.stdout, out.stderr)))
    })
}

#[test]
fn what_a_mute_peer_is_asked_is_taken_back_and_does_not_happen_later() -> Result<()> {
    let mut siege = Siege::lay("mute", "")?;
    siege.survives("a mute peer", Limits::default(), |siege| {
        let mut peer = siege.connected()?;
        peer.manners.consents = false;
        let (code, said) = ask(siege, &mut peer, &["disconnect", "r0", "--timeout", "2"])?;
        ensure!(
            code == 20 && said.contains("has taken it back"),
            "{code}: {said}"
        );
        // Others have their turn, and a forced one waits for nobody.
        let (code, said) = ask(siege, &mut peer, &["pause-sync", "r0", "--timeout", "5"])?;
        ensure!(code == 0, "{code}: {said}");
        let (code, said) = ask(siege, &mut peer, &["resume-sync", "r0", "--timeout", "5"])?;
        ensure!(code == 0, "{code}: {said}");
        drop(peer);
        // The connection is not the administrator's to end any more.
        siege.await_listening()
    })?;
    siege.pair.alice.adm(&["secondary", "r0"])?;
    let mut peer = siege.connected()?;
    peer.manners.consents = false;
    let (code, said) = ask(&siege, &mut peer, &["primary", "r0", "--timeout", "2"])?;
    ensure!(
        code == 20 && said.contains("has taken it back"),
        "{code}: {said}"
    );
    drop(peer);
    wait_until("the loss to be seen", Duration::from_secs(10), || {
        Ok(siege.pair.alice.volume(0)?.cs == "WFConnection")
    })?;
    std::thread::sleep(Duration::from_millis(500));
    let volume = siege.pair.alice.volume(0)?;
    ensure!(volume.ro == "Secondary/Unknown", "{volume:?}");
    Ok(())
}
