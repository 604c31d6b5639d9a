//! What a stubborn peer says again and again: each by itself may be right.

use rdb_engine::state::{Change, ConnState, DiskState, Role, VolumeState};
use replica_proto::{BlockId, BlockRequest, Packet, StateChange, StateWord};

use super::Foe;
use crate::hostile::{Draw, Say};

impl Foe {
    /// Some packets that are said in turn, for ever.
    pub(crate) fn habit(&mut self, draw: &mut dyn Draw) -> Vec<Say> {
        let volume = draw.below(self.volumes.len() as u64) as u16;
        if self.orders_syncs {
            let (mask, val) = Change::conn(ConnState::StartingSyncS).to_mask_val();
            let (mask, val) = (StateWord(mask), StateWord(val));
            return vec![Say::of(
                volume,
                Packet::StateChgReq(StateChange { mask, val }),
            )];
        }
        let bytes = [4096, 32 << 10, 128 << 10][draw.below(3) as usize];
        let first = draw.below(8) * 8;
        let apart = [0, u64::from(bytes) / 512][draw.below(2) as usize];
        let block = |n: u64| BlockRequest {
            sector: first + n * apart,
            block_id: BlockId::SYNCER,
            bytes,
        };
        let length = 1 + draw.below(4);
        let kind = draw.below(6);
        let mut out = Vec::new();
        for n in 0..length {
            let say = match kind {
                0 | 1 => Say::of(volume, Packet::RsDataRequest(block(n))),
                2 => Say::of(volume, Packet::OvRequest(block(n))),
                3 => {
                    // Its disk comes and goes.
                    out.push(Say::of(volume, Packet::Uuids(self.uuids(volume, draw))));
                    let disks = [
                        DiskState::Diskless,
                        DiskState::Negotiating,
                        DiskState::Inconsistent,
                        DiskState::UpToDate,
                    ];
                    self.tells_state(volume, ConnState::Connected, disks[draw.below(4) as usize])
                }
                4 => {
                    let conns = [
                        ConnState::Connected,
                        ConnState::PausedSyncT,
                        ConnState::SyncTarget,
                        ConnState::PausedSyncS,
                        ConnState::SyncSource,
                        ConnState::VerifyS,
                    ];
                    let disk = self.state(draw, ConnState::Connected).disk;
                    self.tells_state(volume, conns[draw.below(6) as usize], disk)
                }
                _ => self.anything(draw),
            };
            out.push(say);
        }
        out
    }

    fn tells_state(&self, volume: u16, conn: ConnState, disk: DiskState) -> Say {
        let state = VolumeState {
            role: Role::Secondary,
            peer: Role::Primary,
            conn,
            disk,
            pdsk: DiskState::UpToDate,
            ..VolumeState::INITIAL
        };
        Say::of(volume, Packet::State(StateWord(state.to_word())))
    }
}
