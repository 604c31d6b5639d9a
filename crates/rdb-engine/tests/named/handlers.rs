//! When handlers are asked for, and what waits for them (`docs/spec/behaviour.md`, section 10.3).

use rdb_engine::config::{NetOptions, OnIoError};
use rdb_engine::{Command, Handler};
use rdb_sim::{V, World};

fn pair(seed: u64, handlers: impl IntoIterator<Item = Handler>) -> World {
    let mut w = World::new(seed);
    w.resource_options.handlers = handlers.into_iter().collect();
    w.connect_fresh(&NetOptions::default());
    let id = w.start_admin(
        0,
        Command::Primary {
            volume: V,
            force: true,
        },
    );
    end_all(&mut w, |w| {
        w.nodes[0].admin.contains_key(&id) && w.synced(0)
    });
    w.quiet();
    w
}

/// Time passes until this is so, and each handler ends well at once.
fn end_all(w: &mut World, mut done: impl FnMut(&World) -> bool) {
    w.until("the end, with handlers that end", |w| {
        done(w) || w.nodes.iter().any(|node| !node.asked.is_empty())
    });
    while !done(w) {
        for i in 0..2 {
            while let Some(asked) = w.nodes[i].asked.first().copied() {
                w.end_handler(i, asked.handler, 0);
            }
        }
        w.until("the end, with handlers that end", |w| {
            done(w) || w.nodes.iter().any(|node| !node.asked.is_empty())
        });
    }
    w.nodes.iter_mut().for_each(|node| node.asked.clear());
}

fn is_asked(w: &World, i: usize, handler: Handler) -> bool {
    w.nodes[i]
        .asked
        .iter()
        .any(|asked| asked.handler == handler)
}

/// Blocks are written while the peer is away, which comes back.
fn outage(w: &mut World) {
    w.cut();
    w.write_blocks(0, [80, 160], 2);
    w.heal();
}

#[test]
fn a_resync_waits_for_the_handlers_before_it() {
    use Handler::{AfterResyncTarget, BeforeResyncSource, BeforeResyncTarget};
    for seed in 0..6 {
        let mut w = pair(
            seed,
            [BeforeResyncTarget, AfterResyncTarget, BeforeResyncSource],
        );
        outage(&mut w);
        w.until("the source's", |w| is_asked(w, 0, BeforeResyncSource));
        w.run_ms(60_000);
        assert!(w.is(0).starts_with("WFBitMapS"), "{}", w.states());
        let exit = [0, 3][usize::from(seed % 2 == 1)];
        w.end_handler(0, BeforeResyncSource, exit);
        w.until("the target's", |w| is_asked(w, 1, BeforeResyncTarget));
        w.run_ms(60_000);
        assert!(w.is(1).starts_with("WFSyncUUID S/P O/U"), "{}", w.states());
        w.write_blocks(0, [240], 3);
        w.end_handler(1, BeforeResyncTarget, 0);
        w.until("the end", |w| is_asked(w, 1, AfterResyncTarget));
        w.ends_well();
    }
}

#[test]
fn a_handler_that_says_no_ends_the_connection() {
    use Handler::{BeforeResyncSource, BeforeResyncTarget};
    for (handler, at, exit) in [
        (BeforeResyncTarget, 1, 1),
        (BeforeResyncTarget, 1, 3),
        (BeforeResyncSource, 0, 1),
        (BeforeResyncSource, 0, 127),
    ] {
        let mut w = pair(1, [handler]);
        outage(&mut w);
        w.until("the handler", |w| is_asked(w, at, handler));
        let disk = w.nodes[1].state().disk;
        w.end_handler(at, handler, exit);
        w.until("the end", |w| w.is(at).starts_with("StandAlone"));
        let text = format!("{handler} handler returned {exit}, dropping connection.");
        assert!(w.logged(at, &text));
        w.run_ms(1_000);
        assert_eq!(w.nodes[1].state().disk, disk, "it is not touched");
        w.disconnect(1 - at).unwrap();
        for i in 0..2 {
            w.connect(i);
        }
        end_all(&mut w, |w| w.synced(0));
        w.ends_well();
    }
}

#[test]
fn a_link_that_breaks_under_a_handler_asks_for_no_second_one() {
    use Handler::BeforeResyncTarget;
    let mut w = pair(2, [BeforeResyncTarget]);
    outage(&mut w);
    w.until("the handler", |w| is_asked(w, 1, BeforeResyncTarget));
    w.cut();
    w.run_ms(2_000);
    w.heal();
    w.until("the next resync", |w| w.is(1).starts_with("WFSyncUUID"));
    w.run_ms(2_000);
    assert_eq!(w.nodes[1].asked.len(), 1);
    w.end_handler(1, BeforeResyncTarget, 0);
    w.ends_well();
}

#[test]
fn what_goes_wrong_is_told() {
    use Handler::{InitialSplitBrain, LocalIoError, PriOnInconDegr, SplitBrain};
    let mut w = pair(3, Handler::ALL);
    w.disk_options.on_io_error = OnIoError::CallLocalIoError;
    w.detach(0, false).unwrap();
    let id = w.start_admin(0, w.attach_command(0, 0));
    end_all(&mut w, |w| {
        w.nodes[0].admin.contains_key(&id) && w.synced(0)
    });
    w.nodes[0].write_errors = true;
    w.write_blocks(0, [80], 2);
    assert!(is_asked(&w, 0, LocalIoError));
    assert_eq!(w.nodes[0].asked.len(), 1, "once");
    w.nodes[0].write_errors = false;
    w.cut();
    w.until("no data", |w| is_asked(w, 0, PriOnInconDegr));

    let mut w = pair(4, Handler::ALL);
    w.cut();
    w.write_blocks(0, [80], 2);
    w.primary(1, false).unwrap();
    w.write_blocks(1, [160], 3);
    w.heal();
    w.refused();
    for handler in [InitialSplitBrain, SplitBrain] {
        assert!((0..2).any(|i| is_asked(&w, i, handler)));
    }
}
