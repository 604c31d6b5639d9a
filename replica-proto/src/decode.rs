//! Bytes to packets.
//!
//! A packet is judged by its header before its body has arrived: the code, the socket, the phase of the conversation, and
//! the length. So a peer that lies about a length is found out at once, and never makes anybody wait or allocate for it.
//!
//! | packets                                  | bytes after the header                                           |
//! |------------------------------------------|------------------------------------------------------------------|
//! | fixed layout                             | exactly those of the layout                                      |
//! | `P_DATA`, `P_DATA_REPLY`, `P_RS_DATA_REPLY` | 24, the digest, whole sectors up to the version's limit       |
//! | `P_WSAME`                                | 28, the digest, one block of 512 to 4096 bytes                   |
//! | `P_OV_REPLY`, `P_CSUM_RS_REQUEST`        | 24, and a digest of 1 to 64 bytes                                |
//! | `P_PROTOCOL`, `P_PROTOCOL_UPDATE`        | 24, and from version 87 on a name of 1 to 64 bytes with its NUL  |
//! | `P_SYNC_PARAM`, `P_SYNC_PARAM89`         | by the version, whichever of the two codes it has                |
//! | `P_SIZES`                                | 32, or 56 with the feature WSAME                                 |
//! | `P_AUTH_CHALLENGE`, `P_AUTH_RESPONSE`    | 64 to 128, 1 to 64                                               |
//! | `P_BITMAP`                               | a multiple of 8 up to 4096 with the header                       |
//! | `P_COMPRESSED_BITMAP`                    | 2 up to 4096 with the header                                     |

use alloc::vec::Vec;

use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::auth;
use crate::block::{
    BarrierNr, BlockAck, BlockDesc, BlockRequest, DataHeader, DpFlags, MAX_DISCARD_BYTES,
    MAX_SECTOR, MAX_WRITE_SAME_BLOCK, RawAck, RawData, RawDesc, RawRequest, SECTOR_SIZE,
};
use crate::command::{Command, Socket};
use crate::digest::{Digest, MAX_DIGEST_LEN};
use crate::error::DecodeError;
use crate::header::{CONTROL_PACKET_MAX, Header};
use crate::packet::Packet;
use crate::params::{
    AfterSb, AlgorithmName, ConnFlags, DdsFlags, NAME_FIELD, ProtocolParams, QueueLimits,
    RawController, RawLimits, RawProtocol, RawSizes, RawSyncParam, RawUuids, Sizes, SyncParam,
    Uuids, WireProtocol,
};
use crate::snapshot::{
    RawSnapshot, SNAPSHOT_LIMIT_MAX_MS, SnapshotAnswer, SnapshotName, SnapshotOrder, SnapshotStep,
};
use crate::state::{StateChange, StateWord};
use crate::version::{ConnectionFeatures, Features, RawFeatures, WireContext};

/// One packet, read off the front of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Bytes of the input that the frame took: header, fixed part, digest, and all of a control packet.
    pub consumed: usize,
    /// The volume it concerns; 0 below version 100. In packets of the whole connection whatever the peer put there.
    pub volume: u16,
    /// What it says.
    pub packet: Packet,
    /// The digest over the bulk bytes, if `ctx.peer_digest_len` says that there is one.
    pub digest: Option<Digest>,
    /// Bulk bytes that follow the consumed ones: whole sectors, at most the version's limit. 0 for control packets.
    pub payload_len: u32,
}

/// Reads one packet off the front of `input`. `Ok(None)` means that more bytes are needed; [`needed`] says how many.
///
/// The bulk bytes of data packets are not part of the frame: the next [`Frame::payload_len`] bytes behind
/// [`Frame::consumed`] are for the caller, and the next packet begins after them.
///
/// # Errors
/// [`DecodeError`] for anything that the peer must not send; the stream is then of no further use.
pub fn decode(
    ctx: &WireContext,
    socket: Socket,
    input: &[u8],
) -> Result<Option<Frame>, DecodeError> {
    let Some(header) = Header::decode(ctx.version, input)? else {
        return Ok(None);
    };
    let plan = Plan::new(ctx, socket, &header)?;
    let consumed = header.header_len + plan.in_frame as usize;
    let Some(body) = input.get(header.header_len..consumed) else {
        return Ok(None);
    };
    let (body, digest) = body.split_at(body.len() - plan.digest_len);
    let packet = decode_body(ctx, plan.command, plan.payload_len, body)?;
    Ok(Some(Frame {
        consumed,
        volume: header.volume,
        packet,
        digest: Digest::from_slice(digest),
        payload_len: plan.payload_len,
    }))
}

/// How many bytes `input` must have before [`decode`] can give a frame or know more: the length of a header while
/// that is not complete, then that of the whole frame. At most 4096.
///
/// # Errors
/// As [`decode`], for what the header tells.
pub fn needed(ctx: &WireContext, socket: Socket, input: &[u8]) -> Result<usize, DecodeError> {
    match Header::decode(ctx.version, input)? {
        None => Ok(ctx.version.header_len()),
        Some(header) => {
            let plan = Plan::new(ctx, socket, &header)?;
            Ok(header.header_len + plan.in_frame as usize)
        }
    }
}

/// What a header announces, found acceptable.
struct Plan {
    command: Command,
    /// Bytes after the header that belong to the frame, the digest included.
    in_frame: u32,
    /// Bytes of a data-integrity digest at the end of those.
    digest_len: usize,
    /// Bytes that follow the frame.
    payload_len: u32,
}

impl Plan {
    fn new(ctx: &WireContext, socket: Socket, header: &Header) -> Result<Self, DecodeError> {
        let Some(command) = Command::from_code(header.code) else {
            return Err(DecodeError::UnknownCommand {
                code: header.code,
                socket,
            });
        };
        if !command.is_allowed_on(socket) {
            return Err(DecodeError::WrongSocket { command, socket });
        }
        if command.is_initial() == ctx.version.is_agreed() {
            return Err(DecodeError::WrongPhase { command });
        }

        let length = header.length;
        let (digest_len, (min, max)) = lengths(ctx, command, header.header_len);
        if length < min || length > max {
            return Err(DecodeError::Length {
                command,
                length,
                min,
                max,
            });
        }
        let in_frame = if command.has_bulk() {
            fixed_len(command) + digest_len
        } else {
            length
        };
        let payload_len = length - in_frame;
        let unit = if command == Command::Bitmap {
            8
        } else {
            SECTOR_SIZE
        };
        let counted = if command == Command::Bitmap {
            length
        } else {
            payload_len
        };
        if !counted.is_multiple_of(unit) {
            return Err(DecodeError::Unaligned {
                command,
                bytes: counted,
                unit,
            });
        }
        if command == Command::WriteSame && !payload_len.is_power_of_two() {
            let value = u64::from(payload_len);
            return Err(DecodeError::Value {
                command,
                field: "length of the block",
                value,
            });
        }
        Ok(Self {
            command,
            in_frame,
            digest_len: digest_len as usize,
            payload_len,
        })
    }
}

/// Bytes of a bulk packet between header and digest.
fn fixed_len(command: Command) -> u32 {
    if command == Command::WriteSame {
        DataHeader::WIRE_SIZE_SIZED
    } else {
        DataHeader::WIRE_SIZE
    }
}

/// The length of the data-integrity digest, and the least and the most that the header's length can be.
fn lengths(ctx: &WireContext, command: Command, header_len: usize) -> (u32, (u32, u32)) {
    use Command::*;

    const NAME_MAX: u32 = NAME_FIELD as u32;
    let control_max = (CONTROL_PACKET_MAX - header_len) as u32; // at most 4088
    let exactly = |bytes| (0, (bytes, bytes));
    let between = |min, max| (0, (min, max));
    let bulk = |min_data: u32, max_data: u32| {
        let digest_len = ctx.peer_digest_len.min(MAX_DIGEST_LEN) as u32;
        let fixed = fixed_len(command) + digest_len;
        (digest_len, (fixed + min_data, fixed + max_data))
    };
    match command {
        InitialData | InitialMeta | UnplugRemote | Ping | PingAck => exactly(0),
        ConnectionFeatures => exactly(crate::ConnectionFeatures::WIRE_SIZE),
        AuthChallenge => between(auth::CHALLENGE_LEN as u32, auth::CHALLENGE_LEN_MAX as u32),
        AuthResponse => between(1, MAX_DIGEST_LEN as u32),
        Protocol | ProtocolUpdate if ctx.version.has_integrity_alg() => between(
            ProtocolParams::WIRE_SIZE + 1,
            ProtocolParams::WIRE_SIZE + NAME_MAX,
        ),
        Protocol | ProtocolUpdate => exactly(ProtocolParams::WIRE_SIZE),
        SyncParam | SyncParam89 => (0, ctx.version.sync_param_len()),
        Sizes if ctx.features.contains(Features::WSAME) => {
            exactly(crate::Sizes::WIRE_SIZE_EXTENDED)
        }
        Sizes => exactly(crate::Sizes::WIRE_SIZE),
        Uuids => exactly(crate::Uuids::WIRE_SIZE),
        State | StateChgReply | ConnStChgReply | EnableReplication => exactly(4),
        SyncUuid | StateChgReq | ConnStChgReq | Barrier | BarrierAck | DelayProbe
        | RdbSnapshotAnswer => exactly(8),
        RdbSnapshot => exactly(SnapshotOrder::WIRE_SIZE),
        // An empty write with the flag FLUSH is an old way to ask for a flush.
        Data => bulk(0, ctx.version.max_bio_size()),
        DataReply | RsDataReply => bulk(SECTOR_SIZE, ctx.version.max_bio_size()),
        WriteSame => bulk(SECTOR_SIZE, MAX_WRITE_SAME_BLOCK),
        Trim | Zeroes => exactly(DataHeader::WIRE_SIZE_SIZED),
        Bitmap => between(0, control_max),
        CompressedBitmap => between(2, control_max),
        DataRequest | RsDataRequest | RsThinRequest | OvRequest => exactly(BlockRequest::WIRE_SIZE),
        OvReply | CsumRsRequest => between(
            BlockRequest::WIRE_SIZE + 1,
            BlockRequest::WIRE_SIZE + MAX_DIGEST_LEN as u32,
        ),
        RecvAck | WriteAck | RsWriteAck | Superseded | NegAck | NegDReply | NegRsDReply
        | RsIsInSync | RsCancel | RetryWrite | OvResult => exactly(BlockAck::WIRE_SIZE),
        OutOfSync | RsDeallocated => exactly(BlockDesc::WIRE_SIZE),
    }
}

/// Takes one fixed layout off the front of a body. The header's length was checked, so it is there.
fn take<T: FromBytes + KnownLayout + Immutable>(
    command: Command,
    body: &[u8],
) -> Result<(T, &[u8]), DecodeError> {
    T::read_from_prefix(body).map_err(|_| DecodeError::Length {
        command,
        length: body.len() as u32, // a body has at most 4096 bytes
        min: size_of::<T>() as u32,
        max: size_of::<T>() as u32,
    })
}

#[expect(clippy::too_many_lines, reason = "a table: one arm a packet")]
fn decode_body(
    ctx: &WireContext,
    command: Command,
    payload_len: u32,
    body: &[u8],
) -> Result<Packet, DecodeError> {
    let be32 = || take::<U32>(command, body).map(|(number, _)| number.get());
    let request = || decode_request(ctx, command, body).map(|(request, _)| request);
    let ack = || decode_ack(command, body);
    Ok(match command {
        Command::InitialData => Packet::InitialData,
        Command::InitialMeta => Packet::InitialMeta,
        Command::ConnectionFeatures => {
            let (raw, _) = take::<RawFeatures>(command, body)?;
            Packet::ConnectionFeatures(ConnectionFeatures::from(raw))
        }
        Command::AuthChallenge => Packet::AuthChallenge(Vec::from(body)),
        Command::AuthResponse => Packet::AuthResponse(Vec::from(body)),
        Command::Protocol => Packet::Protocol(decode_protocol(ctx, command, body)?),
        Command::ProtocolUpdate => Packet::ProtocolUpdate(decode_protocol(ctx, command, body)?),
        Command::SyncParam | Command::SyncParam89 => {
            Packet::SyncParam(decode_sync_param(ctx, command, body)?)
        }
        Command::Sizes => Packet::Sizes(decode_sizes(ctx, command, body)?),
        Command::Uuids => {
            let (raw, _) = take::<RawUuids>(command, body)?;
            Packet::Uuids(Uuids::from(raw))
        }
        Command::State => Packet::State(StateWord(be32()?)),
        Command::SyncUuid => Packet::SyncUuid(take::<U64>(command, body)?.0.get()),
        Command::StateChgReq => Packet::StateChgReq(decode_state_change(command, body)?),
        Command::ConnStChgReq => Packet::ConnStChgReq(decode_state_change(command, body)?),
        Command::StateChgReply => Packet::StateChgReply(be32()?.cast_signed()),
        Command::ConnStChgReply => Packet::ConnStChgReply(be32()?.cast_signed()),
        Command::Data => {
            let data = decode_data(command, body, payload_len)?;
            if payload_len == 0 && !data.flags.contains(DpFlags::FLUSH) {
                let max = ctx.version.max_bio_size();
                return Err(DecodeError::Size {
                    command,
                    bytes: 0,
                    min: SECTOR_SIZE,
                    max,
                });
            }
            Packet::Data(data)
        }
        Command::DataReply => Packet::DataReply(decode_data(command, body, payload_len)?),
        Command::RsDataReply => Packet::RsDataReply(decode_data(command, body, payload_len)?),
        Command::Trim => {
            let (data, bytes) = decode_sized(command, body)?;
            Packet::Trim(data, bytes)
        }
        Command::Zeroes => {
            let (data, bytes) = decode_sized(command, body)?;
            Packet::Zeroes(data, bytes)
        }
        Command::WriteSame => {
            let (data, bytes) = decode_sized(command, body)?;
            if !bytes.is_multiple_of(payload_len) {
                return Err(DecodeError::Unaligned {
                    command,
                    bytes,
                    unit: payload_len,
                });
            }
            Packet::WriteSame(data, bytes)
        }
        Command::Barrier => {
            let (barrier, _) = take::<[u8; 4]>(command, body)?;
            Packet::Barrier(BarrierNr(barrier))
        }
        Command::BarrierAck => {
            let (barrier, rest) = take::<[u8; 4]>(command, body)?;
            let (set_size, _) = take::<U32>(command, rest)?;
            Packet::BarrierAck {
                barrier: BarrierNr(barrier),
                set_size: set_size.get(),
            }
        }
        Command::Bitmap => Packet::Bitmap(Vec::from(body)),
        Command::CompressedBitmap => Packet::CompressedBitmap(Vec::from(body)),
        Command::UnplugRemote => Packet::UnplugRemote,
        Command::DataRequest => Packet::DataRequest(request()?),
        Command::RsDataRequest => Packet::RsDataRequest(request()?),
        Command::RsThinRequest => Packet::RsThinRequest(request()?),
        Command::OvRequest => Packet::OvRequest(request()?),
        Command::OvReply => {
            let (request, digest) = decode_request_with_digest(ctx, command, body)?;
            Packet::OvReply(request, digest)
        }
        Command::CsumRsRequest => {
            let (request, digest) = decode_request_with_digest(ctx, command, body)?;
            Packet::CsumRsRequest(request, digest)
        }
        Command::Ping => Packet::Ping,
        Command::PingAck => Packet::PingAck,
        Command::RecvAck => Packet::RecvAck(ack()?),
        Command::WriteAck => Packet::WriteAck(ack()?),
        Command::RsWriteAck => Packet::RsWriteAck(ack()?),
        Command::Superseded => Packet::Superseded(ack()?),
        Command::NegAck => Packet::NegAck(ack()?),
        Command::NegDReply => Packet::NegDReply(ack()?),
        Command::NegRsDReply => Packet::NegRsDReply(ack()?),
        Command::RsIsInSync => Packet::RsIsInSync(ack()?),
        Command::RsCancel => Packet::RsCancel(ack()?),
        Command::RetryWrite => Packet::RetryWrite(ack()?),
        Command::OvResult => Packet::OvResult(ack()?),
        Command::OutOfSync => Packet::OutOfSync(decode_desc(command, body)?),
        Command::RsDeallocated => Packet::RsDeallocated(decode_desc(command, body)?),
        Command::DelayProbe => {
            let ([seq_num, offset], _) = take::<[U32; 2]>(command, body)?;
            Packet::DelayProbe {
                seq_num: seq_num.get(),
                offset_us: offset.get(),
            }
        }
        Command::EnableReplication => {
            let (flag, _) = take::<u8>(command, body)?;
            Packet::EnableReplication { enable: flag != 0 }
        }
        Command::RdbSnapshot => Packet::RdbSnapshot(decode_snapshot(command, body)?),
        Command::RdbSnapshotAnswer => {
            Packet::RdbSnapshotAnswer(decode_snapshot_answer(command, body)?)
        }
    })
}

/// A size that must be whole sectors, from one to `max` bytes.
fn check_size(command: Command, bytes: u32, max: u32) -> Result<(), DecodeError> {
    if bytes == 0 || bytes > max {
        return Err(DecodeError::Size {
            command,
            bytes,
            min: SECTOR_SIZE,
            max,
        });
    }
    check_sectors(command, bytes)
}

fn check_sectors(command: Command, bytes: u32) -> Result<(), DecodeError> {
    if bytes.is_multiple_of(SECTOR_SIZE) {
        Ok(())
    } else {
        Err(DecodeError::Unaligned {
            command,
            bytes,
            unit: SECTOR_SIZE,
        })
    }
}

/// A range that a device could have, so that sums of its sectors do not overflow anywhere.
fn check_range(command: Command, sector: u64, bytes: u32) -> Result<(), DecodeError> {
    let sectors = u64::from(bytes / SECTOR_SIZE);
    if sector <= MAX_SECTOR && sectors <= MAX_SECTOR - sector {
        Ok(())
    } else {
        Err(DecodeError::Sector {
            command,
            sector,
            bytes,
        })
    }
}

fn decode_data(command: Command, body: &[u8], bytes: u32) -> Result<DataHeader, DecodeError> {
    let (raw, _) = take::<RawData>(command, body)?;
    let data = DataHeader::from(raw);
    check_range(command, data.sector, bytes)?;
    Ok(data)
}

fn decode_sized(command: Command, body: &[u8]) -> Result<(DataHeader, u32), DecodeError> {
    let (raw, rest) = take::<RawData>(command, body)?;
    let (bytes, _) = take::<U32>(command, rest)?;
    let (data, bytes) = (DataHeader::from(raw), bytes.get());
    check_size(command, bytes, MAX_DISCARD_BYTES)?;
    check_range(command, data.sector, bytes)?;
    Ok((data, bytes))
}

fn decode_request<'a>(
    ctx: &WireContext,
    command: Command,
    body: &'a [u8],
) -> Result<(BlockRequest, &'a [u8]), DecodeError> {
    let (raw, rest) = take::<RawRequest>(command, body)?;
    let request = BlockRequest::from(raw);
    check_size(command, request.bytes, ctx.version.max_bio_size())?;
    check_range(command, request.sector, request.bytes)?;
    Ok((request, rest))
}

fn decode_request_with_digest(
    ctx: &WireContext,
    command: Command,
    body: &[u8],
) -> Result<(BlockRequest, Digest), DecodeError> {
    let (request, digest) = decode_request(ctx, command, body)?;
    // The header's length allows 1 to 64 bytes here.
    let digest = Digest::from_slice(digest).ok_or(DecodeError::Length {
        command,
        length: body.len() as u32,
        min: BlockRequest::WIRE_SIZE + 1,
        max: BlockRequest::WIRE_SIZE + MAX_DIGEST_LEN as u32,
    })?;
    Ok((request, digest))
}

fn decode_ack(command: Command, body: &[u8]) -> Result<BlockAck, DecodeError> {
    let (raw, _) = take::<RawAck>(command, body)?;
    let ack = BlockAck::from(raw);
    if command == Command::NegAck {
        // K's size may be 0 or have wrapped around here: docs/spec/wire.md, section 7.2.
        check_range(command, ack.sector, 0)?;
        return Ok(ack);
    }
    if ack.bytes > MAX_DISCARD_BYTES {
        let (bytes, max) = (ack.bytes, MAX_DISCARD_BYTES);
        return Err(DecodeError::Size {
            command,
            bytes,
            min: 0,
            max,
        });
    }
    check_sectors(command, ack.bytes)?;
    check_range(command, ack.sector, ack.bytes)?;
    Ok(ack)
}

fn decode_desc(command: Command, body: &[u8]) -> Result<BlockDesc, DecodeError> {
    let (raw, _) = take::<RawDesc>(command, body)?;
    let desc = BlockDesc::from(raw);
    check_size(command, desc.bytes, MAX_DISCARD_BYTES)?;
    check_range(command, desc.sector, desc.bytes)?;
    Ok(desc)
}

fn decode_state_change(command: Command, body: &[u8]) -> Result<StateChange, DecodeError> {
    let ([mask, val], _) = take::<[U32; 2]>(command, body)?;
    Ok(StateChange {
        mask: StateWord(mask.get()),
        val: StateWord(val.get()),
    })
}

fn decode_snapshot(command: Command, body: &[u8]) -> Result<SnapshotOrder, DecodeError> {
    let (raw, _) = take::<RawSnapshot>(command, body)?;
    let bad = |field, value: U32| DecodeError::Value {
        command,
        field,
        value: u64::from(value.get()),
    };
    let limit_ms = raw.limit_ms.get();
    if limit_ms == 0 || limit_ms > SNAPSHOT_LIMIT_MAX_MS {
        return Err(bad("limit", raw.limit_ms));
    }
    Ok(SnapshotOrder {
        step: SnapshotStep::from_code(raw.step.get()).ok_or(bad("step", raw.step))?,
        limit_ms,
        name: SnapshotName::from_field(&raw.name).ok_or(DecodeError::SnapshotName { command })?,
    })
}

fn decode_snapshot_answer(command: Command, body: &[u8]) -> Result<SnapshotAnswer, DecodeError> {
    let (codes, _) = take::<[U32; 2]>(command, body)?;
    let [what, value] = codes.map(U32::get);
    SnapshotAnswer::from_codes([what, value]).ok_or(DecodeError::Value {
        command,
        field: "answer",
        value: u64::from(what) << 32 | u64::from(value),
    })
}

fn decode_name(
    command: Command,
    field: &'static str,
    bytes: &[u8],
) -> Result<AlgorithmName, DecodeError> {
    AlgorithmName::from_field(bytes).ok_or(DecodeError::Name { command, field })
}

fn decode_protocol(
    ctx: &WireContext,
    command: Command,
    body: &[u8],
) -> Result<ProtocolParams, DecodeError> {
    let (raw, name) = take::<RawProtocol>(command, body)?;
    let policy = |field, code: U32| {
        let bad = DecodeError::Value {
            command,
            field,
            value: u64::from(code.get()),
        };
        AfterSb::from_code(code.get()).ok_or(bad)
    };
    let bad = |field, code: U32| DecodeError::Value {
        command,
        field,
        value: u64::from(code.get()),
    };
    Ok(ProtocolParams {
        protocol: WireProtocol::from_code(raw.protocol.get())
            .ok_or(bad("protocol", raw.protocol))?,
        after_sb_0p: policy("after_sb_0p", raw.after_sb_0p)?,
        after_sb_1p: policy("after_sb_1p", raw.after_sb_1p)?,
        after_sb_2p: policy("after_sb_2p", raw.after_sb_2p)?,
        conn_flags: ConnFlags::from_bits_retain(raw.conn_flags.get()),
        two_primaries: match raw.two_primaries.get() {
            0 => false,
            1 => true,
            _ => return Err(bad("two_primaries", raw.two_primaries)),
        },
        integrity_alg: if ctx.version.has_integrity_alg() {
            decode_name(command, "integrity_alg", name)?
        } else {
            AlgorithmName::default()
        },
    })
}

fn decode_sync_param(
    ctx: &WireContext,
    command: Command,
    body: &[u8],
) -> Result<SyncParam, DecodeError> {
    if !ctx.version.has_csums() {
        let (resync_rate, name) = take::<U32>(command, body)?;
        let verify_alg = if ctx.version.has_verify() {
            decode_name(command, "verify_alg", name)?
        } else {
            AlgorithmName::default()
        };
        return Ok(SyncParam {
            resync_rate: resync_rate.get(),
            verify_alg,
            ..Default::default()
        });
    }
    let (raw, rest) = take::<RawSyncParam>(command, body)?;
    let param = SyncParam {
        resync_rate: raw.resync_rate.get(),
        verify_alg: decode_name(command, "verify_alg", &raw.verify_alg)?,
        csums_alg: decode_name(command, "csums_alg", &raw.csums_alg)?,
        ..Default::default()
    };
    if !ctx.version.sync_param_has_controller() {
        return Ok(param);
    }
    let (raw, _) = take::<RawController>(command, rest)?;
    Ok(SyncParam {
        c_plan_ahead: raw.c_plan_ahead.get(),
        c_delay_target: raw.c_delay_target.get(),
        c_fill_target: raw.c_fill_target.get(),
        c_max_rate: raw.c_max_rate.get(),
        ..param
    })
}

fn decode_sizes(ctx: &WireContext, command: Command, body: &[u8]) -> Result<Sizes, DecodeError> {
    let (raw, rest) = take::<RawSizes>(command, body)?;
    let size = |field, sectors: U64| match sectors.get() {
        sectors @ 0..=MAX_SECTOR => Ok(sectors),
        value => Err(DecodeError::Value {
            command,
            field,
            value,
        }),
    };
    let limits = if ctx.features.contains(Features::WSAME) {
        Some(QueueLimits::from(take::<RawLimits>(command, rest)?.0))
    } else {
        None
    };
    Ok(Sizes {
        d_size: size("d_size", raw.d_size)?,
        u_size: size("u_size", raw.u_size)?,
        c_size: size("c_size", raw.c_size)?,
        max_bio_size: raw.max_bio_size.get(),
        queue_order_type: raw.queue_order_type.get(),
        dds_flags: DdsFlags::from_bits_retain(raw.dds_flags.get()),
        limits,
    })
}
