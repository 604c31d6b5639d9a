//! A peer that answers pings and says nothing else: commands that wait for its word end within their limit, and nothing comes of
//! them later; nor do users wait for ever for a full sync that it has ordered.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rdb_tests::hostile::{Guise, HostilePeer};
use rdb_tests::packets::STATE_CHG_REQ;
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

/// Her users' data are to be replaced by those of a peer that never begins to send them.
#[test]
fn a_full_sync_that_is_ordered_and_never_begins_costs_users_a_bounded_wait() -> Result<()> {
    const AT: u64 = 1 << 20;
    let mut siege = Siege::lay("never-begins", "ko-count 2;")?;
    // (Users read meanwhile, in the background: Limits::answer.)
    siege.survives(
        "a full sync that never begins",
        Limits::default(),
        |siege| {
            let node = &siege.pair.alice;
            let mut peer = siege.connected()?;
            let invalidate_remote = (0x1f0, 11 << 4);
            let answer = peer.ask_change(STATE_CHG_REQ, invalidate_remote.0, invalidate_remote.1);
            ensure!(answer == Some(1), "{answer:?}");
            peer.until_node(node, "waiting for the source", |volume| {
                volume.cs == "WFSyncUUID" && volume.ds == "UpToDate/UpToDate"
            })?;
            let mut client = node.nbd(0)?;
            let there = client.read(AT, 4096)?;
            let user = std::thread::spawn(move || -> Result<Duration> {
                let start = Instant::now();
                client.write(AT, &there)?;
                Ok(start.elapsed())
            });
            // Pings are answered, and nothing else is said.
            peer.pump_until(Duration::from_secs(20), |_| user.is_finished());
            wait_until(
                "the end of the user's write",
                Duration::from_secs(5),
                || Ok(user.is_finished()),
            )?;
            let waited = user.join().expect("the user does not panic")?;
            ensure!(
                waited > Duration::from_secs(2) && waited < Duration::from_secs(8),
                "{waited:?}"
            );
            ensure!(
                peer.is_left_within(Duration::from_secs(2)),
                "{}",
                peer.story()
            );
            let status = node.adm(&["status", "--json", "r0"])?;
            ensure!(
                status.contains("has not begun the full sync that was ordered within 4000 ms"),
                "{status}"
            );
            let volume = node.volume(0)?;
            ensure!(
                volume.ro.starts_with("Primary/") && volume.ds.starts_with("UpToDate/"),
                "{volume:?}"
            );
            siege.await_listening()
        },
    )?;
    // What was not begun stands in nobody's way: who comes next with what she had before is synced from her.
    let mut peer = siege.peer(&Guise::behind())?;
    peer.until_node(&siege.pair.alice, "a source again", |volume| {
        volume.cs == "WFBitMapS"
    })?;
    Ok(())
}
