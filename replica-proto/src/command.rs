//! Packet numbers, names and sockets: docs/spec/wire.md, section 6.1.

use core::fmt;

/// One of the two TCP streams of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Socket {
    /// Handshake, parameters, data, requests, barriers, bitmaps, states.
    Data,
    /// Pings, acknowledgements, replies to state changes.
    Meta,
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Data => "data",
            Self::Meta => "meta",
        })
    }
}

macro_rules! commands {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal, $socket:ident;)+) => {
        /// The number of a packet. Codes that 8.4's driver has no handler for are not here, but for one of DRBD 9 and two of our own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Command { $($(#[$doc])* $variant = $code),+ }

        impl Command {
            /// Every command, in the order of the codes.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The command with this code, if there is one.
            #[must_use]
            pub const fn from_code(code: u16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// DRBD's name, as `P_DATA`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The socket it is sent on. `P_DELAY_PROBE` may come on either, see [`Command::is_allowed_on`].
            #[must_use]
            pub const fn socket(self) -> Socket {
                match self { $(Self::$variant => Socket::$socket),+ }
            }
        }
    };
}

commands! {
    /// A write, with its data.
    Data = 0x00, "P_DATA", Data;
    /// The answer to a read, with its data.
    DataReply = 0x01, "P_DATA_REPLY", Data;
    /// The answer to a resync request, with its data.
    RsDataReply = 0x02, "P_RS_DATA_REPLY", Data;
    /// The end of an epoch.
    Barrier = 0x03, "P_BARRIER", Data;
    /// Plain words of the bitmap.
    Bitmap = 0x04, "P_BITMAP", Data;
    /// A hint that no further requests come right now.
    UnplugRemote = 0x07, "P_UNPLUG_REMOTE", Data;
    /// A read.
    DataRequest = 0x08, "P_DATA_REQUEST", Data;
    /// A resync read.
    RsDataRequest = 0x09, "P_RS_DATA_REQUEST", Data;
    /// Resync parameters up to version 88.
    SyncParam = 0x0a, "P_SYNC_PARAM", Data;
    /// Network options that must be equal.
    Protocol = 0x0b, "P_PROTOCOL", Data;
    /// Generation identifiers.
    Uuids = 0x0c, "P_UUIDS", Data;
    /// Sizes and limits of the disk and the device.
    Sizes = 0x0d, "P_SIZES", Data;
    /// The state of a volume.
    State = 0x0e, "P_STATE", Data;
    /// The UUID of a resync, from its source.
    SyncUuid = 0x0f, "P_SYNC_UUID", Data;
    /// Random bytes to be authenticated.
    AuthChallenge = 0x10, "P_AUTH_CHALLENGE", Data;
    /// The HMAC of the challenge.
    AuthResponse = 0x11, "P_AUTH_RESPONSE", Data;
    /// A state change of a volume that needs the peer's agreement.
    StateChgReq = 0x12, "P_STATE_CHG_REQ", Data;
    /// Are you there?
    Ping = 0x13, "P_PING", Meta;
    /// The answer to a ping.
    PingAck = 0x14, "P_PING_ACK", Meta;
    /// Protocol B: received.
    RecvAck = 0x15, "P_RECV_ACK", Meta;
    /// Protocol C: written.
    WriteAck = 0x16, "P_WRITE_ACK", Meta;
    /// Written, and now in sync.
    RsWriteAck = 0x17, "P_RS_WRITE_ACK", Meta;
    /// Two primaries: dropped in favour of a concurrent write.
    Superseded = 0x18, "P_SUPERSEDED", Meta;
    /// The write failed.
    NegAck = 0x19, "P_NEG_ACK", Meta;
    /// The read failed.
    NegDReply = 0x1a, "P_NEG_DREPLY", Meta;
    /// The resync or verify read failed.
    NegRsDReply = 0x1b, "P_NEG_RS_DREPLY", Meta;
    /// The epoch is durable.
    BarrierAck = 0x1c, "P_BARRIER_ACK", Meta;
    /// The answer to a state change of a volume.
    StateChgReply = 0x1d, "P_STATE_CHG_REPLY", Meta;
    /// Verify: send the digest of a block.
    OvRequest = 0x1e, "P_OV_REQUEST", Data;
    /// Verify: the digest.
    OvReply = 0x1f, "P_OV_REPLY", Data;
    /// Verify: equal or not.
    OvResult = 0x20, "P_OV_RESULT", Meta;
    /// Resync request with the digest of the target's block.
    CsumRsRequest = 0x21, "P_CSUM_RS_REQUEST", Data;
    /// The digests are equal: nothing to copy.
    RsIsInSync = 0x22, "P_RS_IS_IN_SYNC", Meta;
    /// Resync parameters from version 89 on.
    SyncParam89 = 0x23, "P_SYNC_PARAM89", Data;
    /// Run lengths of the bitmap.
    CompressedBitmap = 0x24, "P_COMPRESSED_BITMAP", Data;
    /// Ignored; defined since version 93, never sent.
    DelayProbe = 0x27, "P_DELAY_PROBE", Data;
    /// Ahead: this changed here and was not sent.
    OutOfSync = 0x28, "P_OUT_OF_SYNC", Data;
    /// Ahead: the resync request is void.
    RsCancel = 0x29, "P_RS_CANCEL", Meta;
    /// A state change of the whole connection.
    ConnStChgReq = 0x2a, "P_CONN_ST_CHG_REQ", Data;
    /// The answer to it.
    ConnStChgReply = 0x2b, "P_CONN_ST_CHG_REPLY", Meta;
    /// Two primaries: send this write again later.
    RetryWrite = 0x2c, "P_RETRY_WRITE", Meta;
    /// Network options changed while connected.
    ProtocolUpdate = 0x2d, "P_PROTOCOL_UPDATE", Data;
    /// Discard.
    Trim = 0x31, "P_TRIM", Data;
    /// Resync read that may be answered by "all zero".
    RsThinRequest = 0x32, "P_RS_THIN_REQ", Data;
    /// All zero.
    RsDeallocated = 0x33, "P_RS_DEALLOCATED", Data;
    /// One block, written again and again.
    WriteSame = 0x34, "P_WSAME", Data;
    /// Zero out.
    Zeroes = 0x36, "P_ZEROES", Data;
    /// DRBD 9 tells a peer to begin replicating; ignored. The one packet of 9's own that it sends to 8.4 as well.
    EnableReplication = 0x59, "P_ENABLE_REPLICATION", Data;
    /// Between rdb nodes: a snapshot begins, or is over.
    RdbSnapshot = 0x7d00, "P_RDB_SNAPSHOT", Data;
    /// Between rdb nodes: what becomes of it here.
    RdbSnapshotAnswer = 0x7d01, "P_RDB_SNAPSHOT_ANSWER", Meta;
    /// This stream is the meta socket.
    InitialMeta = 0xfff1, "P_INITIAL_META", Meta;
    /// This stream is the data socket.
    InitialData = 0xfff2, "P_INITIAL_DATA", Data;
    /// Versions and features.
    ConnectionFeatures = 0xfffe, "P_CONNECTION_FEATURES", Data;
}

impl Command {
    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// Whether it may arrive on `socket`. `P_DELAY_PROBE` may on both, and so may the two initial packets, which
    /// are what tells an accepted stream its socket.
    #[must_use]
    pub fn is_allowed_on(self, socket: Socket) -> bool {
        self.socket() == socket
            || matches!(
                self,
                Self::DelayProbe | Self::InitialData | Self::InitialMeta
            )
    }

    /// Whether it belongs before the agreement on a version, and so always has an 8-byte header.
    #[must_use]
    pub const fn is_initial(self) -> bool {
        matches!(
            self,
            Self::InitialData | Self::InitialMeta | Self::ConnectionFeatures
        )
    }

    /// Whether it concerns the connection and not one volume: it is sent with volume 0, and the volume of a received
    /// one means nothing (docs/spec/wire.md, section 2.3).
    #[must_use]
    pub const fn is_connection_wide(self) -> bool {
        use Command::*;
        matches!(
            self,
            AuthChallenge
                | AuthResponse
                | Protocol
                | ProtocolUpdate
                | Barrier
                | BarrierAck
                | Ping
                | PingAck
                | ConnStChgReq
                | ConnStChgReply
                | RdbSnapshot
                | RdbSnapshotAnswer
                | InitialData
                | InitialMeta
                | ConnectionFeatures
        )
    }

    /// Whether bulk bytes that the frame does not hold follow it.
    #[must_use]
    pub const fn has_bulk(self) -> bool {
        matches!(
            self,
            Self::Data | Self::DataReply | Self::RsDataReply | Self::WriteSame
        )
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_unique_and_found_again() {
        for (i, command) in Command::ALL.iter().enumerate() {
            assert_eq!(Command::from_code(command.code()), Some(*command));
            for other in &Command::ALL[i + 1..] {
                assert!(command.code() < other.code());
                assert_ne!(command.name(), other.name());
            }
        }
        // The rows of the spec's table that have a handler, the one of DRBD 9, and two of our own.
        assert_eq!(Command::ALL.len(), 53);
    }

    #[test]
    fn obsolete_reserved_and_newer_codes_are_unknown() {
        for code in [
            0x05, 0x06, 0x25, 0x26, 0x2e, 0x2f, 0x30, 0x35, 0x37, 0x40, 0x44, 0x58, 0x5a, 0x7cff,
            0x7d02, 0xfff0, 0xfff3, 0xffff,
        ] {
            assert_eq!(Command::from_code(code), None, "{code:#x}");
        }
    }
}
