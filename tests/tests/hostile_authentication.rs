//! Without the secret nobody gets in, whatever he makes the node say; and his trying does not keep the true peer
//! out.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::Siege;
use rdb_tests::hostile::{HostilePeer, Place, respond};
use rdb_tests::packets;
use rdb_tests::watch::Limits;

const NET: &str = "cram-hmac-alg sha1; shared-secret \"the right one\";";
const SECRET: &[u8] = b"the right one";

/// Nothing that only a peer may know has come.
fn is_kept_out(peer: &HostilePeer) -> Result<()> {
    let learned = &peer.learned;
    ensure!(
        learned.protocol.is_none()
            && learned.sizes.is_none()
            && learned.uuids.is_none()
            && learned.state.is_none(),
        "{}",
        peer.story()
    );
    Ok(())
}

/// Alice has never given up waiting.
fn has_waited(siege: &Siege) -> Result<()> {
    ensure!(
        siege.pair.alice.logged("-> StandAlone") == 0,
        "{}",
        siege.pair.alice.log_tail(30)
    );
    Ok(())
}

/// Until the challenge of the node is known.
fn challenged(place: &Place) -> Result<HostilePeer> {
    let mut peer = HostilePeer::agree(place)?;
    let came = peer.pump_until(Duration::from_secs(5), |peer| {
        peer.learned.challenge.is_some()
    });
    ensure!(came, "no challenge: {}", peer.story());
    Ok(peer)
}

#[test]
fn the_right_secret_opens() -> Result<()> {
    let mut siege = Siege::lay("right-secret", NET)?;
    siege.survives("a peer with the secret", Limits::default(), |siege| {
        let mut peer = challenged(&siege.place())?;
        peer.authenticate(SECRET)?;
        let came = peer.pump_until(Duration::from_secs(5), |peer| peer.learned.state.is_some());
        ensure!(came, "{}", peer.story());
        let response = peer.learned.response.clone();
        ensure!(response == Some(respond(SECRET, &[0x5c; 64])));
        Ok(())
    })
}

#[test]
fn wrong_answers_end_the_connection_and_the_true_peer_comes() -> Result<()> {
    let mut siege = Siege::lay("wrong-answers", NET)?;
    siege.survives("wrong answers", Limits::default(), |siege| {
        let right = |peer: &HostilePeer| {
            respond(
                SECRET,
                peer.learned.challenge.as_deref().unwrap_or_default(),
            )
        };
        for what in [
            "a guess",
            "nothing",
            "a byte less",
            "a byte more",
            "one bit",
            "zeroes",
            "the challenge",
        ] {
            let mut peer = challenged(&siege.place())?;
            peer.say(packets::AUTH_CHALLENGE, &[0x5c; 64]);
            let mut answer = right(&peer);
            match what {
                "a guess" => {
                    answer = respond(
                        b"a guess",
                        &peer.learned.challenge.clone().unwrap_or_default(),
                    )
                }
                "nothing" => answer.clear(),
                "a byte less" => answer.truncate(19),
                "a byte more" => answer.push(0),
                "one bit" => answer[19] ^= 1,
                "zeroes" => answer.fill(0),
                _ => answer = peer.learned.challenge.clone().unwrap_or_default(),
            }
            peer.say(packets::AUTH_RESPONSE, &answer);
            ensure!(
                peer.is_left_within(Duration::from_secs(5)),
                "{what}: {}",
                peer.story()
            );
            is_kept_out(&peer).context(what)?;
        }
        Ok(())
    })?;
    has_waited(&siege)?;
    siege.relieve(40)?;
    has_waited(&siege)
}

#[test]
fn strange_challenges_and_packets_instead_of_an_answer() -> Result<()> {
    let mut siege = Siege::lay("strange-challenges", NET)?;
    siege.survives("strange challenges", Limits::default(), |siege| {
        for length in [0, 1, 63, 129, 4096, 65_000] {
            let mut peer = challenged(&siege.place())?;
            peer.say(packets::AUTH_CHALLENGE, &vec![0x5c; length]);
            ensure!(
                peer.is_left_within(Duration::from_secs(5)),
                "{length} bytes: {}",
                peer.story()
            );
            is_kept_out(&peer)?;
        }
        // Each ends one connection, after which the node waits for a second: a few of each kind.
        let others = packets::ALL
            .iter()
            .filter(|known| known.0 != packets::AUTH_CHALLENGE);
        for (code, _, _) in others.step_by(5) {
            let mut peer = challenged(&siege.place())?;
            for payload in [&[][..], &[0; 25]] {
                peer.say_on(rdb_tests::hostile::Line::Data, *code, payload);
            }
            ensure!(
                peer.is_left_within(Duration::from_secs(5)),
                "{}: {}",
                packets::name(*code),
                peer.story()
            );
            is_kept_out(&peer)?;
        }
        Ok(())
    })?;
    has_waited(&siege)?;
    siege.relieve(40)
}

#[test]
fn its_own_challenge_is_not_answered() -> Result<()> {
    let mut siege = Siege::lay("reflection", NET)?;
    siege.survives("reflection", Limits::default(), |siege| {
        // In the same connection.
        let mut peer = challenged(&siege.place())?;
        let challenge = peer.learned.challenge.clone().unwrap_or_default();
        peer.say(packets::AUTH_CHALLENGE, &challenge);
        ensure!(
            peer.is_left_within(Duration::from_secs(5)),
            "{}",
            peer.story()
        );
        ensure!(peer.learned.response.is_none(), "it answered itself");
        // Longer by a few bytes: what is compared is what counts.
        let mut peer = challenged(&siege.place())?;
        let mut longer = peer.learned.challenge.clone().unwrap_or_default();
        longer.extend([0; 8]);
        peer.say(packets::AUTH_CHALLENGE, &longer);
        peer.pump(Duration::from_secs(1));
        ensure!(peer.learned.response.is_none(), "it answered itself");
        Ok(())
    })?;
    has_waited(&siege)
}

#[test]
fn who_has_proved_nothing_gets_no_answer() -> Result<()> {
    let mut siege = Siege::lay("proof-first", NET)?;
    siege.survives("questions without an answer", Limits::default(), |siege| {
        let mut peer = challenged(&siege.place())?;
        peer.say(packets::AUTH_CHALLENGE, &[0x5c; 64]);
        peer.pump(Duration::from_secs(1));
        ensure!(
            peer.learned.response.is_none(),
            "an answer for somebody who has proved nothing"
        );
        is_kept_out(&peer)
    })?;
    has_waited(&siege)
}

/// Alice with r1 beside r0, of the same secret; and where the peer of r1 would be.
fn with_a_second_resource(name: &str) -> Result<(Siege, Place)> {
    let mut siege = Siege::lay(name, NET)?;
    // r1, a copy of r0 with other disks and another port.
    let mut hosts = siege.pair.hosts.clone();
    for host in &mut hosts {
        host.address = host.address.replace(":7789", ":7790");
        host.data[0] = siege.pair.scratch.join(format!("{}-r1.disk", host.name));
        rdb_tests::disk::create(&host.data[0], 16 << 20)?;
    }
    let text = |hosts: &[rdb_tests::conf::Host]| siege.pair.plan.conf.text(hosts);
    let second = text(&hosts);
    let second = second.split_once('\n').context("a global section")?.1;
    let second = second
        .replace("resource r0", "resource r1")
        .replace("/dev/drbd0 minor 0", "/dev/drbd1 minor 1");
    std::fs::write(
        &siege.pair.alice.conf,
        format!("{}{second}", text(&siege.pair.hosts)),
    )?;
    siege.node().adm(&["create-md", "--force", "r1"])?;
    siege.node().adm(&["up", "r1"])?;
    let mut other = siege.place();
    other.to.clone_from(&hosts[0].address);
    Ok((siege, other))
}

#[test]
fn a_resource_that_was_called_answers_no_challenge_of_another() -> Result<()> {
    let (mut siege, other) = with_a_second_resource("reflect-called")?;
    let first = siege.place();
    siege.survives("reflection over two", Limits::default(), |_| {
        for longer in [false, true] {
            let mut at_first = challenged(&first)?;
            let mut at_other = challenged(&other)?;
            let mut challenge = at_first.learned.challenge.clone().unwrap_or_default();
            if longer {
                challenge.extend([0; 8]);
            }
            at_other.say(packets::AUTH_CHALLENGE, &challenge);
            at_other.pump(Duration::from_secs(2));
            ensure!(
                at_other.learned.response.is_none(),
                "r1 answered r0's challenge"
            );
            at_first.pump(Duration::from_millis(50));
            is_kept_out(&at_first)?;
            is_kept_out(&at_other)?;
        }
        Ok(())
    })?;
    has_waited(&siege)
}

#[test]
fn a_resource_that_calls_answers_no_challenge_of_another() -> Result<()> {
    let (mut siege, other) = with_a_second_resource("reflect-calling")?;
    let first = siege.place();
    siege.survives(
        "reflection by the one that calls",
        Limits::default(),
        |_| {
            for longer in [false, true] {
                // Who calls answers first: a stranger in the peer's place may ask r1 what he likes, but not this.
                let mut at_other = HostilePeer::called(&other)?;
                at_other.offer(86, 101, packets::FEATURE_FLAGS);
                let came = at_other.pump_until(Duration::from_secs(5), |peer| {
                    peer.learned.challenge.is_some()
                });
                ensure!(came, "no challenge: {}", at_other.story());
                let mut at_first = challenged(&first)?;
                let mut challenge = at_first.learned.challenge.clone().unwrap_or_default();
                if longer {
                    challenge.extend([0; 8]);
                }
                at_other.say(packets::AUTH_CHALLENGE, &challenge);
                at_other.pump(Duration::from_secs(1));
                ensure!(
                    at_other.learned.response.is_none(),
                    "r1 answered r0's challenge"
                );
                at_first.pump(Duration::from_millis(50));
                is_kept_out(&at_first)?;
                is_kept_out(&at_other)?;
            }
            // Another challenge it does answer: this is a caller.
            let mut at_other = HostilePeer::called(&other)?;
            at_other.offer(86, 101, packets::FEATURE_FLAGS);
            at_other.say(packets::AUTH_CHALLENGE, &[0x5c; 64]);
            let came = at_other.pump_until(Duration::from_secs(5), |peer| {
                peer.learned.response.is_some()
            });
            ensure!(came, "{}", at_other.story());
            Ok(())
        },
    )?;
    has_waited(&siege)
}
