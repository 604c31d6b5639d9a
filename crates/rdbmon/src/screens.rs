//! What is seen on the terminal, in states of all kinds.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};
use rdb_control::samples::{good_volume, reason, resource, volume};
use rdb_control::{
    ConnState, DiskState, Event, GiReport, HistoryEvent, HistoryLine, Instant, ResourceReport,
    Role, SyncReport, Told, VolumeStates,
};

use crate::draw::{Look, draw};
use crate::model::tests::{NOW_MS, good, split, state_of, tell, told};
use crate::model::{Input, Key, Model, Outcome};
use crate::view::{Marks, view};

fn terminal(model: &mut Model, width: u16, height: u16, look: Look) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("it has no hardware");
    let shown = view(model, width.into(), height.into(), look.marks);
    terminal
        .draw(|frame| draw(frame, &shown, look))
        .expect("it has no hardware");
    model.fits(shown.page, shown.scroll_max, shown.dialog_max);
    terminal
}

/// The screen as text, without blanks at the ends of lines.
fn screen_of(model: &mut Model, width: u16, height: u16, marks: Marks) -> String {
    let look = Look {
        color: false,
        marks,
    };
    let terminal = terminal(model, width, height, look);
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..height {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        text += &format!("{}\n", line.trim_end());
    }
    text
}

fn screen(model: &mut Model) -> String {
    screen_of(model, 80, 24, Marks::Ascii)
}

fn press(model: &mut Model, keys: &[Key]) {
    for key in keys {
        model.handle(Input::Key(*key));
    }
}

/// A target that is half way.
fn syncing(name: &str) -> ResourceReport {
    let sync = SyncReport {
        total_kib: 1_048_508,
        left_kib: 596_000,
        failed_kib: 0,
        window_ms: 18_000,
        window_kib: 221_184,
        recent_ms: 3000,
        recent_kib: 36_864,
        elapsed_ms: 40_000,
        paused_ms: 0,
        equal_kib: 0,
        want_kib: Some(40_960),
        done_permille: 432,
        rate_kib: 12_288,
        average_kib: 11_000,
        left_s: 48,
        verify: None,
    };
    let roles = ("Secondary", "Primary");
    let mut volume = volume("SyncTarget", roles, ("Inconsistent", "UpToDate"));
    volume.out_of_sync_kib = 596_000;
    volume.sync = Some(sync);
    resource(name, vec![volume])
}

fn diskless(name: &str) -> ResourceReport {
    let mut volume = good_volume();
    volume.disk = DiskState::Diskless;
    volume.disk_reason = Some(reason("io-error", "the disk has failed"));
    resource(name, vec![volume])
}

/// A Primary whose peer has gone.
fn alone(name: &str) -> ResourceReport {
    let roles = ("Primary", "Unknown");
    let mut volume = volume("WFConnection", roles, ("UpToDate", "DUnknown"));
    volume.out_of_sync_kib = 12;
    let mut alone = resource(name, vec![volume]);
    alone.link_reason = Some(reason("connection-lost", "the connection was lost"));
    alone
}

/// What happened when it went.
fn lost() -> Vec<Told> {
    let mut before = good("r0");
    before.volumes[0].minor = 0;
    let states = VolumeStates::of(&before.volumes[0]).expect("it runs");
    let resource = Box::new(before);
    let new = VolumeStates {
        cstate: ConnState::NetworkFailure,
        peer_role: Role::Unknown,
        peer_disk: DiskState::DUnknown,
        ..states
    };
    let changed = Event::Changed {
        resource: "r0".to_owned(),
        volume: 0,
        new,
        figures: None,
    };
    let at_us = (NOW_MS - 60_000) * 1000;
    [Event::Resource { resource }, changed]
        .map(|event| Told { at_us, event })
        .to_vec()
}

fn generations() -> GiReport {
    GiReport {
        uuids: [
            0x39CB_A091_085A_E48B,
            0x7A11_0000_0000_00AA,
            0x0906_B3EA_13A5_C95D,
            0x114B_0176_46F8_146D,
        ],
        flags: 1 | 2 | 16,
    }
}

fn history() -> Vec<HistoryLine> {
    let role = |from: &str, to: &str| HistoryEvent::Role {
        from: from.to_owned(),
        to: to.to_owned(),
    };
    let line = |at_s: u64, event| HistoryLine {
        at: Instant(at_s * 1000),
        volume: Some(0),
        event,
    };
    let begin = NOW_MS / 1000 - 7200;
    vec![
        line(begin, role("Secondary", "Primary")),
        line(begin, HistoryEvent::ForcedPromotion),
    ]
}

#[test]
fn a_healthy_node() {
    let mut second = good_volume();
    second.volume = 1;
    let mut model = told(vec![
        good("r0"),
        resource("web", vec![good_volume(), second]),
    ]);
    assert_eq!(
        screen(&mut model),
        "\
rdbmon  alice  2 ok                                                    00:30:00Z
           resource connection     role here/peer      disk here/peer
> OK       r0       Connected      Primary/Secondary   UpToDate/UpToDate
  OK       web      Connected      Primary/Secondary   UpToDate/UpToDate (2)












Events
Nothing has happened since the monitor was started.





up/down mark  Enter details  a actions  e events  ? help  q quit
"
    );
}

#[test]
fn what_is_wrong_stands_above_what_is_well() {
    let all = vec![good("r0"), syncing("web"), split("mail"), diskless("dbx")];
    let mut model = told(all);
    assert_eq!(
        screen(&mut model),
        "\
rdbmon  alice  2 critical  1 warning  1 ok                             00:30:00Z
           resource connection     role here/peer      disk here/peer
> CRITICAL dbx      Connected      Primary/Secondary   Diskless/UpToDate
           dbx/0: the disk here is Diskless: the disk has failed
  CRITICAL mail     StandAlone     Primary/Unknown     UpToDate/DUnknown
           mail: StandAlone: both nodes have written apart
  WARNING  web      SyncTarget     Secondary/Primary   Inconsistent/UpToDate
           web/0: the disk here is Inconsistent (and 1 more)
           [========>...........] 43.2 %, 12.0 MiB/s, 48 s to go
  OK       r0       Connected      Primary/Secondary   UpToDate/UpToDate






Events
Nothing has happened since the monitor was started.





up/down mark  Enter details  a actions  e events  ? help  q quit
"
    );
}

/// Of a target, after some time.
fn details_of_a_resync() -> Model {
    let mut model = told(vec![good("r0"), syncing("web")]);
    for second in 1..100 {
        model.handle(Input::Time(NOW_MS + second * 1000));
        let mut web = syncing("web");
        web.volumes[0].received_kib = second * second * 10;
        web.volumes[0].written_kib = second * 100;
        tell(&mut model, vec![good("r0"), web]);
    }
    press(&mut model, &[Key::Enter]);
    model
}

#[test]
fn the_details_of_a_resync() {
    let mut model = details_of_a_resync();
    assert_eq!(
        screen(&mut model),
        "\
rdbmon  alice  1 warning  1 ok                                         00:31:39Z
WARNING web is being synced.
  WARNING  web/0: the disk here is Inconsistent
  WARNING  web/0: SyncTarget 43.2%, 48 s left
  connection  SyncTarget, protocol C, 10.9.0.1:7789 - 10.9.0.2:7789

Volume 0, minor 0  1.0 GiB
              here               peer
  role        Secondary          Primary
  disk        Inconsistent       UpToDate
  resync      [========>...........] 43.2 %, 48 s to go, until 00:32:27Z
              582.0 MiB of 1.0 GiB left; 12.0 MiB/s, on average 10.7 MiB/s, 40.0
              MiB/s are wanted
  out of sync 582.0 MiB, 43.16 % are in sync
              now           the last 3 min                       peak
  resync      12.0 MiB/s                    #################### 12.0 MiB/s
  sent        0 KiB/s                       ____________________ 0 KiB/s
  received    1.9 MiB/s                     ....:::---==+++***## 1.9 MiB/s
  written     100 KiB/s                     #################### 100 KiB/s
  read        0 KiB/s                       ____________________ 0 KiB/s
  requests    0                             ____________________ 0
  AL writes   0.0/s                         ____________________ 0.0/s
  waiting     -                             ____________________ -
up/down move  a actions  e events  Esc back  ? help  q quit
"
    );
    press(&mut model, &[Key::PageDown]);
    assert_eq!(
        screen_of(&mut model, 80, 24, Marks::Unicode),
        "\
rdbmon  alice  1 warning  1 ok                                         00:31:39Z
  sent        0 KiB/s                       ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁ 0 KiB/s
  received    1.9 MiB/s                     ▂▂▂▂▃▃▃▄▄▄▅▅▆▆▆▇▇▇██ 1.9 MiB/s
  written     100 KiB/s                     ████████████████████ 100 KiB/s
  read        0 KiB/s                       ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁ 0 KiB/s
  requests    0                             ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁ 0
  AL writes   0.0/s                         ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁ 0.0/s
  waiting     -                             ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁ -
  own disk    -                             ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁ -
  peer        -                             ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁ -
  in flight   0 KiB of users and 0 KiB of a resync on the way; 0 wait for the
              disk here, 0 for the peer, the peer for 0
  meta writes activity log 8, bitmap 0

What is
  The peer is Primary: users work there.
  The disk here is a mixture of old and new blocks until the resync has ended
  (Inconsistent).
  The peer's disk has the same data (UpToDate); 596000 KiB are to be copied.

What happens next by itself
  The resync copies what is missing from the peer, which takes some 48 s at the
  present rate; then both have the same data.
up/down move  a actions  e events  Esc back  ? help  q quit
"
    );
}

#[test]
fn the_details_of_a_lonely_primary_with_its_generations_and_its_past() {
    let mut model = told(vec![alone("r0")]);
    let mut state = state_of(vec![alone("r0")]);
    state.generations = [(0, generations())].into();
    state.asks_only = true;
    model.handle(Input::State(Box::new(state)));
    model.handle(Input::History("r0".to_owned(), history()));
    for told in lost() {
        model.handle(Input::Told(Box::new(told)));
    }
    press(&mut model, &[Key::Enter]);
    assert_eq!(
        screen_of(&mut model, 80, 43, Marks::Ascii),
        "\
rdbmon  alice  1 warning  may only ask                                 00:30:00Z
WARNING r0 has no connection to its peer: nothing is mirrored.
  WARNING  r0: Connecting: the connection was lost
  connection  Connecting, protocol C, 10.9.0.1:7789 - 10.9.0.2:7789

Volume 0, minor 0  1.0 GiB
              here               peer
  role        Primary            Unknown
  disk        UpToDate           DUnknown
  out of sync 12 KiB, 100.00 % are in sync
              now           the last 3 min                       peak
  sent        -                                                  0 KiB/s
  received    -                                                  0 KiB/s
  written     -                                                  0 KiB/s
  read        -                                                  0 KiB/s
  requests    -                                                  0
  AL writes   -                                                  0.0/s
  waiting     -                                                  -
  own disk    -                                                  -
  peer        -                                                  -
  in flight   0 KiB of users and 0 KiB of a resync on the way; 0 wait for the
              disk here, 0 for the peer, the peer for 0
  meta writes activity log 8, bitmap 0
  generation  39CBA091085AE48B, bitmap 7A110000000000AA
  history     0906B3EA13A5C95D, 114B017646F8146D
  flags       consistent, was-up-to-date, primary

What is
  This node is Primary: users work here.
  The disk here has the newest data that this node knows of (UpToDate).
  What the peer's disk has is not known (DUnknown); 12 KiB are marked as
  different.
  connection: the connection was lost.

What happens next by itself
  This node goes on trying to connect. When the peer is back both compare their
  data, and whoever has the newer ones copies what the other one lacks; if both
  have written apart it is a split brain.
  Users here go on; what they write is marked, and copied to the peer later.

What has happened
  2026-11-29T22:30:00Z role Secondary -> Primary
up/down move  a actions  e events  Esc back  ? help  q quit
"
    );
}

#[test]
fn a_split_brain_is_solved_by_who_knows_what_it_costs() {
    let mut model = told(vec![split("r0")]);
    press(&mut model, &[Key::Char('a')]);
    assert_eq!(
        screen(&mut model),
        "\
rdbmon  alice  1 critical                                              00:30:00Z
           resource connection     role here/peer      disk here/peer
> CRITICAL r0       StandAlone     Primary/Unknown     UpToDate/DUnknown
           r0: StandAlone: both nodes have written apart


   + r0 --------------------------------------------------------------------+
   |> rdbadm split-brain r0                                                 |
   |  rdbadm connect --discard-my-data r0  data may be lost                 |
   |  rdbadm connect r0                                                     |
   |  rdbadm secondary r0                                                   |
   |  rdbadm suspend-io r0                                                  |
   |  rdbadm adjust r0                                                      |
   |                                                                        |
   |says who has written what, and which files; it changes nothing. Begin   |
   |with it, on both nodes                                                  |
Eve+------------------------------------------------------------------------+
Nothing has happened since the monitor was started.





up/down mark  Enter choose  Esc leave
"
    );
    press(
        &mut model,
        &[Key::Down, Key::Enter, Key::Char('y'), Key::Char('e')],
    );
    assert_eq!(
        screen(&mut model),
        "\
rdbmon  alice  1 critical                                              00:30:00Z
           resource connection     role here/peer      disk here/peer
> CRITICAL r0       StandAlone     Primary/Unknown     UpToDate/DUnknown
           r0: StandAlone: both nodes have written apart



   + Do it? ----------------------------------------------------------------+
   |rdbadm connect --discard-my-data r0                                     |
   |                                                                        |
   |throws away what was written here since: 40 KiB at most, which the      |
   |peer's data replace. Demote this node first                             |
   |                                                                        |
   |Data, or requests of users, may be lost. Type yes and Enter to do it;   |
   |Esc leaves it.                                                          |
   |> ye_                                                                   |
Eve+------------------------------------------------------------------------+
Nothing has happened since the monitor was started.





Esc leave
"
    );
}

#[test]
fn a_refusal_is_shown_in_rdbadms_words() {
    let mut model = told(vec![good("r0")]);
    model.handle(Input::Done(Outcome {
        command: "rdbadm disconnect r0".to_owned(),
        end: "exit code 11".to_owned(),
        said: "r0: State change failed: (-10) State change was refused by peer node\n".to_owned(),
    }));
    assert_eq!(
        screen_of(&mut model, 60, 12, Marks::Unicode),
        "\
rdbmon  alice  1 ok                                00:30:00Z
           resource connection     role here/peer      disk~
>┌ exit code 11 ──────────────────────────────────────────┐~
 │rdbadm disconnect r0                                    │
 │                                                        │
 │r0: State change failed: (-10) State change was refused │
 │by peer node                                            │
 │                                                        │
 │exit code 11                                            │
 └────────────────────────────────────────────────────────┘

Esc close  up/down move
"
    );
}

#[test]
fn a_dead_daemon() {
    let mut model = told(vec![diskless("dbx"), good("r0")]);
    model.handle(Input::Time(NOW_MS + 10_000));
    model.handle(Input::Gone(
        "no rdbd runs in /run/rdb, but the last one (pid 17) has left r0, dbx".to_owned(),
    ));
    model.handle(Input::Time(NOW_MS + 75_000));
    assert_eq!(
        screen(&mut model),
        "\
rdbmon  alice                                                          00:31:15Z
Since 00:30:10Z: no rdbd runs in /run/rdb, but the last one (pid 17) has left
r0, dbx
What is shown is as it was at 00:30:00Z.
           resource connection     role here/peer      disk here/peer
> CRITICAL dbx      Connected      Primary/Secondary   Diskless/UpToDate
           dbx/0: the disk here is Diskless: the disk has failed
  OK       r0       Connected      Primary/Secondary   UpToDate/UpToDate









Events
00:30:10Z rdbd does not answer any more




up/down mark  Enter details  a actions  e events  ? help  q quit
"
    );
    let mut model = told(vec![]);
    model.handle(Input::Gone("no rdbd runs in /run/rdb".to_owned()));
    assert_eq!(
        screen_of(&mut model, 60, 6, Marks::Ascii),
        "\
rdbmon  alice                                      00:30:00Z
Since 00:30:00Z: no rdbd runs in /run/rdb
'a' offers to start it.


up/down mark  Enter details  a actions  e events  ? help  q~
"
    );
}

#[test]
fn of_many_resources_the_marked_one_is_shown() {
    let many = (0..100).map(|nr| good(&format!("r{nr:02}"))).collect();
    let mut model = told(many);
    press(&mut model, &[Key::End, Key::Up]);
    assert_eq!(
        screen_of(&mut model, 72, 9, Marks::Ascii),
        "\
rdbmon  alice  100 ok                                          00:30:00Z
           resource connection     role here/peer      disk here/peer
  OK       r93      Connected      Primary/Secondary   UpToDate/UpToDate
  OK       r94      Connected      Primary/Secondary   UpToDate/UpToDate
  OK       r95      Connected      Primary/Secondary   UpToDate/UpToDate
  OK       r96      Connected      Primary/Secondary   UpToDate/UpToDate
  OK       r97      Connected      Primary/Secondary   UpToDate/UpToDate
> OK       r98      Connected      Primary/Secondary   UpToDate/UpToDate
up/down mark  Enter details  a actions  e events  ? help  q quit
"
    );
}

#[test]
fn a_small_terminal_shows_what_matters_most() {
    let mut model = told(vec![split("a-very-long-name-of-a-resource"), good("r0")]);
    assert_eq!(
        screen_of(&mut model, 40, 8, Marks::Ascii),
        "\
rdbmon  alice  1 critical  1 ok
           resource connection     role~
> CRITICAL a-very-~ StandAlone     Prim~
           a-very-long-name-of-a-resour~
  OK       r0       Connected      Prim~


up/down mark  Enter details  a actions ~
"
    );
}

/// The pictures in the guide are of these screens.
#[test]
fn the_guide_shows_what_is_shown() {
    let guide = include_str!("../../../docs/monitoring.md");
    let list = vec![good("r0"), syncing("web"), split("mail"), diskless("dbx")];
    for screen in [screen(&mut told(list)), screen(&mut details_of_a_resync())] {
        for line in screen.lines().filter(|line| !line.is_empty()) {
            let shown = format!("    {line}");
            assert!(guide.lines().any(|l| l == shown), "{line}");
        }
    }
}

/// Nothing panics however little room there is, and what is drawn has no room beyond the screen.
#[test]
fn every_size_is_drawn() {
    let states = [
        vec![],
        vec![good("r0")],
        vec![syncing("web"), split("mail"), diskless("dbx"), alone("r0")],
    ];
    let keys: [&[Key]; 6] = [
        &[],
        &[Key::Enter, Key::End],
        &[Key::Char('e')],
        &[Key::Char('?'), Key::End],
        &[Key::Char('a'), Key::End],
        &[Key::Char('a'), Key::Down, Key::Enter],
    ];
    for resources in states {
        for keys in keys {
            for is_gone in [false, true] {
                let mut model = told(resources.clone());
                if is_gone {
                    model.handle(Input::Gone("no rdbd runs in /run/rdb".to_owned()));
                }
                press(&mut model, keys);
                for (width, height) in (0..=30).flat_map(|w| (0..=12).map(move |h| (w, h))) {
                    screen_of(&mut model, width, height, Marks::Unicode);
                }
                screen_of(&mut model, 300, 100, Marks::Ascii);
            }
        }
    }
}

#[test]
fn without_colours_there_are_none_and_what_matters_stands_out() {
    let mut model = told(vec![split("r0"), good("r1")]);
    for color in [false, true] {
        let marks = Marks::Ascii;
        let shown = terminal(&mut model, 80, 24, Look { color, marks });
        let cells = &shown.backend().buffer().content;
        let has_colors = cells
            .iter()
            .any(|c| c.fg != Color::Reset || c.bg != Color::Reset);
        assert_eq!(has_colors, color);
        // `CRITICAL` in the third line.
        let level = &shown.backend().buffer()[(2, 2)];
        assert_eq!(level.symbol(), "C");
        assert!(level.modifier.contains(Modifier::BOLD));
    }
}

#[test]
fn what_others_have_written_does_not_act_on_the_terminal() {
    let mut evil = split("r0");
    evil.link_reason = Some(reason("split-brain", "a\x1b]0;b\x07c\u{9b}2J"));
    let mut model = told(vec![evil]);
    for keys in [&[][..], &[Key::Enter], &[Key::Char('a')]] {
        press(&mut model, keys);
        let text = screen(&mut model);
        let is_harmless = |c: char| !c.is_control() || c == '\n';
        assert!(text.chars().all(is_harmless), "{text:?}");
    }
}

/// Of many resources the marked one is on the screen, wherever it is, and a name that is longer than the screen pushes nothing off it.
#[test]
fn many_resources_and_long_names_are_moved_through() {
    let names = (0..300).map(|number| match number % 3 {
        0 => format!("r{number:03}"),
        1 => format!("r{number:03}{}", "-a-long-name".repeat(20)),
        _ => format!("r{number:03}{}e\u{301}", "\u{6c34}".repeat(60)),
    });
    let names: Vec<String> = names.collect();
    let resources = names.iter().map(|name| good(name)).collect();
    let mut model = told(resources);
    for (width, height) in [(80, 24), (40, 8), (200, 60)] {
        press(&mut model, &[Key::Home]);
        let mut at = 0;
        for (keys, by) in [
            (Key::Down, 1),
            (Key::PageDown, 0),
            (Key::End, 0),
            (Key::Up, -1),
        ] {
            press(&mut model, &[keys]);
            let text = screen_of(&mut model, width, height, Marks::Unicode);
            let now = model.selected.clone().expect("one is marked");
            let found = names
                .iter()
                .position(|name| *name == now)
                .expect("its name");
            let moved = i64::try_from(found).unwrap() - at;
            assert!(by == 0 || moved == by, "{keys:?}: {moved}");
            at = i64::try_from(found).unwrap();
            let marked = text.lines().find(|line| line.starts_with('>'));
            let marked = marked.unwrap_or_else(|| panic!("{keys:?}: no mark\n{text}"));
            assert!(marked.contains(&now[..4]), "{keys:?}: {marked}");
            assert!(
                text.lines()
                    .next()
                    .is_some_and(|line| line.contains("alice"))
            );
        }
        press(&mut model, &[Key::Enter]);
        let text = screen_of(&mut model, width, height, Marks::Unicode);
        assert!(
            text.lines()
                .nth(1)
                .is_some_and(|line| line.contains("r298")),
            "{text}"
        );
        press(&mut model, &[Key::Back]);
    }
}
