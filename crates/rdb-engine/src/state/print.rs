//! How states are printed for people and for the tools that grep (`docs/spec/behaviour.md`, sections 1.3 and 2.9).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::{StateError, VolumeState};

/// The log line of a change: the changed fields, each followed by a blank, such as
/// `role( Secondary -> Primary ) pdsk( Consistent -> UpToDate ) `. `None` if none of them changed.
///
/// The suspension flags belong to the resource and have a line of their own, [`susp_log`].
pub fn change_log(old: VolumeState, new: VolumeState) -> Option<String> {
    let mut line = String::new();
    let mut field = |name: &str, old: &dyn fmt::Display, new: &dyn fmt::Display, differs: bool| {
        if differs {
            line += &format!("{name}( {old} -> {new} ) ");
        }
    };
    field("role", &old.role, &new.role, old.role != new.role);
    field("peer", &old.peer, &new.peer, old.peer != new.peer);
    field("conn", &old.conn, &new.conn, old.conn != new.conn);
    field("disk", &old.disk, &new.disk, old.disk != new.disk);
    field("pdsk", &old.pdsk, &new.pdsk, old.pdsk != new.pdsk);
    for (name, old, new) in [
        ("aftr_isp", old.aftr_isp, new.aftr_isp),
        ("peer_isp", old.peer_isp, new.peer_isp),
        ("user_isp", old.user_isp, new.user_isp),
    ] {
        field(name, &u8::from(old), &u8::from(new), old != new);
    }
    if line.is_empty() { None } else { Some(line) }
}

/// The resource's line `susp( 0 -> 1 ) `, if its suspension changed.
pub fn susp_log(old: VolumeState, new: VolumeState) -> Option<String> {
    let (old, new) = (old.is_suspended(), new.is_suspended());
    (old != new).then(|| format!("susp( {} -> {} ) ", u8::from(old), u8::from(new)))
}

/// The three log lines of a refused change: the reason, the state, and the sanitized state that was wanted.
///
/// -18 is waited for, not reported: nothing is logged for it.
pub fn refusal_log(error: StateError, state: VolumeState, wanted: VolumeState) -> Vec<String> {
    if error == StateError::InTransientState {
        return Vec::new();
    }
    [
        format!("State change failed: {error}"),
        format!("  state = {{ {state} }}"),
        format!(" wanted = {{ {wanted} }}"),
    ]
    .into()
}

/// What keeps new requests of the upper layer waiting: letter 5 of [`flags6`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UpperBlocked {
    /// Nothing.
    #[default]
    No,
    /// `d`: the replication itself.
    Drbd,
    /// `c`: a handler runs.
    Callback,
    /// `b`: the lower device is congested.
    Backing,
    /// `n`: the network is congested.
    Network,
    /// `a`: lower device and network are congested.
    Both,
}

/// The six letters after the protocol letter in `/proc/drbd`; `r-----` if all is well.
pub fn flags6(state: VolumeState, blocked: UpperBlocked, al_suspended: bool) -> String {
    let letter = |set: bool, letter: char| if set { letter } else { '-' };
    [
        if state.is_suspended() { 's' } else { 'r' },
        letter(state.aftr_isp, 'a'),
        letter(state.peer_isp, 'p'),
        letter(state.user_isp, 'u'),
        match blocked {
            UpperBlocked::No => '-',
            UpperBlocked::Drbd => 'd',
            UpperBlocked::Callback => 'c',
            UpperBlocked::Backing => 'b',
            UpperBlocked::Network => 'n',
            UpperBlocked::Both => 'a',
        },
        letter(al_suspended, 's'),
    ]
    .into_iter()
    .collect()
}
