use rdb_control::samples::{good_volume, node, reason, resource, volume};
use rdb_control::{DiskState, Event, VolumeStates};

use super::*;

/// Half past midnight.
pub(crate) const NOW_MS: u64 = 1_795_998_600_000;

/// A daemon that has told of these resources.
pub(crate) fn told(resources: Vec<ResourceReport>) -> Model {
    let mut model = Model::new(Vec::new());
    model.handle(Input::Time(NOW_MS));
    tell(&mut model, resources);
    model
}

pub(crate) fn tell(model: &mut Model, resources: Vec<ResourceReport>) {
    model.handle(Input::State(Box::new(state_of(resources))));
}

pub(crate) fn state_of(resources: Vec<ResourceReport>) -> State {
    State {
        version: "0.1.0".to_owned(),
        asks_only: false,
        report: node(resources),
        generations: BTreeMap::new(),
    }
}

pub(crate) fn good(name: &str) -> ResourceReport {
    resource(name, vec![good_volume()])
}

pub(crate) fn split(name: &str) -> ResourceReport {
    let roles = ("Primary", "Unknown");
    let mut volume = volume("StandAlone", roles, ("UpToDate", "DUnknown"));
    volume.out_of_sync_kib = 40;
    let mut split = resource(name, vec![volume]);
    split.link_reason = Some(reason("split-brain", "both nodes have written apart"));
    split
}

fn press(model: &mut Model, keys: &[Key]) -> Vec<Order> {
    let press = |key: &Key| model.handle(Input::Key(*key));
    keys.iter().flat_map(press).collect()
}

fn typed(text: &str) -> Vec<Key> {
    text.chars().map(Key::Char).collect()
}

fn names(model: &Model) -> Vec<&str> {
    model
        .rows
        .iter()
        .map(|row| row.resource.name.as_str())
        .collect()
}

#[test]
fn problems_come_first_and_the_mark_stays_on_its_resource() {
    let mut model = told(vec![good("a"), good("b"), good("c")]);
    press(&mut model, &[Key::Down, Key::Down, Key::Down]);
    assert_eq!(model.selected.as_deref(), Some("c"));
    tell(&mut model, vec![good("a"), split("b"), good("c")]);
    assert_eq!(names(&model), ["b", "a", "c"]);
    assert_eq!(model.selected.as_deref(), Some("c"));
    press(&mut model, &[Key::Home]);
    assert_eq!(model.selected.as_deref(), Some("b"));
    // It is gone: another one is marked.
    tell(&mut model, vec![good("a"), good("c")]);
    assert_eq!(model.selected.as_deref(), Some("a"));
}

#[test]
fn an_action_is_run_once_it_is_confirmed_and_its_words_are_shown() {
    let mut model = told(vec![good("r0")]);
    assert!(press(&mut model, &[Key::Char('a'), Key::Enter]).is_empty());
    let orders = press(&mut model, &[Key::Char('y')]);
    let [Order::Run(choice)] = orders.as_slice() else {
        panic!("{orders:?}");
    };
    assert_eq!(choice.lines, [["disconnect", "r0"]]);
    assert!(matches!(model.dialog, Some(Dialog::Runs { .. })));
    // Nothing else can be begun meanwhile.
    assert!(press(&mut model, &typed("aq?yes")).is_empty());
    assert_eq!(press(&mut model, &[Key::Back]), [Order::Interrupt]);
    model.handle(Input::Done(Outcome {
        command: choice.command.clone(),
        end: "exit code 11".to_owned(),
        said: "r0: State change failed: (-10) State change was refused by peer node\n".to_owned(),
    }));
    let Some(Dialog::Said { title, lines }) = &model.dialog else {
        panic!("{:?}", model.dialog);
    };
    assert_eq!(title, "exit code 11");
    assert!(lines.iter().any(|line| line.contains("(-10) State change")));
    let noted = model.journal.entries().last().map(|e| e.text.clone());
    assert_eq!(noted.as_deref(), Some("rdbadm disconnect r0: exit code 11"));
    press(&mut model, &[Key::Back]);
    assert_eq!(model.dialog, None);
}

#[test]
fn what_only_tells_is_run_at_once_and_what_loses_data_for_yes_alone() {
    let mut model = told(vec![split("r0")]);
    let orders = press(&mut model, &[Key::Char('a'), Key::Enter]);
    assert!(matches!(orders.as_slice(), [Order::Run(c)] if c.lines == [["split-brain", "r0"]]));
    let mut model = told(vec![split("r0")]);
    assert!(press(&mut model, &[Key::Char('a'), Key::Down, Key::Enter]).is_empty());
    assert!(press(&mut model, &[Key::Char('y'), Key::Enter]).is_empty());
    let mut keys = typed("yes");
    keys.push(Key::Enter);
    let orders = press(&mut model, &keys);
    let words = [["connect", "--discard-my-data", "r0"]];
    assert!(matches!(orders.as_slice(), [Order::Run(c)] if c.lines == words));
}

#[test]
fn what_the_state_does_not_call_for_any_more_is_not_confirmed() {
    let mut model = told(vec![split("r0")]);
    press(&mut model, &[Key::Char('a'), Key::Down, Key::Enter]);
    let mut more = split("r0");
    more.volumes[0].out_of_sync_kib = 4000;
    tell(&mut model, vec![more]);
    // What it costs is told anew.
    let Some(Dialog::Confirm { choice, .. }) = &model.dialog else {
        panic!("{:?}", model.dialog);
    };
    assert!(choice.means.contains("4000 KiB"), "{}", choice.means);
    tell(&mut model, vec![good("r0")]);
    let mut keys = typed("yes");
    keys.push(Key::Enter);
    assert!(press(&mut model, &keys).is_empty());
}

#[test]
fn a_menu_keeps_its_mark_while_the_state_changes() {
    let mut model = told(vec![good("r0")]);
    press(&mut model, &[Key::Char('a'), Key::Down, Key::Down]);
    let marked = |model: &Model| match &model.dialog {
        Some(Dialog::Menu { choices, at, .. }) => choices[*at].command.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(marked(&model), "rdbadm verify r0");
    let mut waits = good("r0");
    waits.volumes[0].suspended = vec![rdb_control::Suspension::User];
    tell(&mut model, vec![waits]);
    assert_eq!(marked(&model), "rdbadm verify r0");
}

#[test]
fn a_dead_daemon_is_told_of_and_the_next_one_too() {
    let mut model = told(vec![good("r0")]);
    let why = || Input::Gone("no rdbd runs".to_owned());
    model.handle(why());
    model.handle(Input::Time(NOW_MS + 5000));
    model.handle(why());
    let since_s = NOW_MS / 1000;
    assert!(matches!(&model.daemon, Daemon::Gone { since_s: at, .. } if *at == since_s));
    // What was known is known; all that can be done is to start one.
    assert_eq!(names(&model), ["r0"]);
    press(&mut model, &[Key::Char('a')]);
    let Some(Dialog::Menu { choices, .. }) = &model.dialog else {
        panic!("{:?}", model.dialog);
    };
    let commands: Vec<&str> = choices.iter().map(|c| c.command.as_str()).collect();
    assert_eq!(commands, ["rdbadm up all"]);
    tell(&mut model, vec![good("r0")]);
    let texts: Vec<&str> = model.journal.entries().map(|e| e.text.as_str()).collect();
    assert_eq!(
        texts,
        ["rdbd does not answer any more", "rdbd is there again"]
    );
}

#[test]
fn the_details_are_of_the_resource_that_was_marked_and_are_looked_at_closely() {
    let mut model = told(vec![good("a"), good("b")]);
    let orders = press(&mut model, &[Key::Down, Key::Enter]);
    assert_eq!(orders, [Order::LookAt(Some("b".to_owned()))]);
    tell(&mut model, vec![good("a")]);
    assert_eq!(
        (model.place, model.selected_row().is_none()),
        (Place::Details, true)
    );
    assert_eq!(press(&mut model, &[Key::Back]), [Order::LookAt(None)]);
    assert_eq!(
        (model.place, model.selected.as_deref()),
        (Place::List, Some("a"))
    );
    assert!(press(&mut model, &[Key::Back]).is_empty());
}

#[test]
fn texts_are_moved_through_as_far_as_they_go() {
    let mut model = told(vec![good("a")]);
    press(&mut model, &[Key::Enter, Key::End]);
    model.fits(5, 20, 0);
    assert_eq!(model.scroll, 20);
    press(&mut model, &[Key::PageUp, Key::Up, Key::Char('k')]);
    assert_eq!(model.scroll, 13);
    press(&mut model, &[Key::PageDown, Key::Char(' '), Key::Down]);
    model.fits(5, 20, 0);
    assert_eq!(model.scroll, 20);
    press(&mut model, &[Key::Home]);
    assert_eq!(model.scroll, 0);
}

#[test]
fn only_the_resources_asked_for_are_shown() {
    let mut model = Model::new(vec!["b".to_owned()]);
    tell(&mut model, vec![split("a"), good("b")]);
    assert_eq!(names(&model), ["b"]);
    let removed = |name: &str| {
        let resource = name.to_owned();
        let event = Event::Removed { resource };
        Input::Told(Box::new(Told { at_us: 0, event }))
    };
    model.handle(removed("a"));
    model.handle(removed("b"));
    let about: Vec<&str> = model.journal.entries().map(|e| e.about.as_str()).collect();
    assert_eq!(about, ["b"]);
}

#[test]
fn the_program_ends_for_q_where_nothing_waits_for_it_and_for_ctrl_c_always() {
    let mut model = told(vec![good("r0")]);
    assert_eq!(press(&mut model, &[Key::Char('q')]), [Order::Quit]);
    press(&mut model, &[Key::Char('?')]);
    assert!(press(&mut model, &[Key::Char('q')]).is_empty());
    assert_eq!(model.dialog, None);
    for keys in ["a", "?", "e"] {
        press(&mut model, &typed(keys));
        assert_eq!(
            press(&mut model, &[Key::Interrupt]),
            [Order::Quit],
            "{keys}"
        );
        press(&mut model, &[Key::Back]);
    }
}

/// Whatever is typed in whatever order, in whatever state: nothing is run that was not confirmed, and nothing panics.
#[test]
fn no_order_of_keys_does_harm() {
    let keys = [
        Key::Up,
        Key::Down,
        Key::PageUp,
        Key::PageDown,
        Key::Home,
        Key::End,
        Key::Enter,
        Key::Back,
        Key::Backspace,
        Key::Char('a'),
        Key::Char('e'),
        Key::Char('?'),
        Key::Char('é'),
        Key::Char('\u{1b}'),
    ];
    let mut seed = 1u64;
    for mut model in [
        told(vec![]),
        told(vec![split("a"), good("b")]),
        Model::new(vec![]),
    ] {
        for step in 0..5000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = keys[usize::try_from(seed >> 33).unwrap_or(0) % keys.len()];
            for order in model.handle(Input::Key(key)) {
                // `split-brain` alone needs no confirmation, and 'y' and 's' are not among the keys.
                let is_fine = match &order {
                    Order::Run(choice) => choice.lines[0][0] == "split-brain",
                    Order::LookAt(_) | Order::Interrupt => true,
                    Order::Quit => false,
                };
                assert!(is_fine, "{order:?}");
            }
            if step % 7 == 0 {
                model.fits(3, 10, 10);
            }
            if let Some(Dialog::Runs { .. }) = model.dialog {
                let (command, end, said) = (String::new(), String::new(), String::new());
                model.handle(Input::Done(Outcome { command, end, said }));
            }
        }
    }
}

#[test]
fn what_changes_while_the_daemon_is_gone_is_told_when_it_is_back() {
    let mut model = told(vec![good("r0")]);
    let resource = |disk| {
        let mut r0 = good("r0");
        r0.volumes[0].disk = disk;
        assert!(VolumeStates::of(&r0.volumes[0]).is_some());
        let event = Event::Resource {
            resource: Box::new(r0),
        };
        Input::Told(Box::new(Told { at_us: 0, event }))
    };
    model.handle(resource(DiskState::UpToDate));
    model.handle(resource(DiskState::Outdated));
    let texts: Vec<&str> = model.journal.entries().map(|e| e.text.as_str()).collect();
    assert_eq!(texts, ["disk UpToDate -> Outdated"]);
}
