//! DRBD's packets, written anew for the tests (`docs/spec/wire.md`, sections 3 to 6): numbers and
//! payloads. What is made here may be wrong on purpose, so nothing is checked.

/// A packet's number.
pub type Code = u16;

macro_rules! codes {
    ($($name:ident $code:literal $meta:literal;)+) => {
        $(#[doc = concat!("`P_", stringify!($name), "`.")]
        pub const $name: Code = $code;)+

        /// Every number with its name, and whether its place is the meta connection.
        pub const ALL: &[(Code, &str, bool)] = &[$(($code, stringify!($name), $meta)),+];
    };
}

codes! {
    DATA 0x00 false;
    DATA_REPLY 0x01 false;
    RS_DATA_REPLY 0x02 false;
    BARRIER 0x03 false;
    BITMAP 0x04 false;
    BECOME_SYNC_TARGET 0x05 false;
    BECOME_SYNC_SOURCE 0x06 false;
    UNPLUG_REMOTE 0x07 false;
    DATA_REQUEST 0x08 false;
    RS_DATA_REQUEST 0x09 false;
    SYNC_PARAM 0x0a false;
    PROTOCOL 0x0b false;
    UUIDS 0x0c false;
    SIZES 0x0d false;
    STATE 0x0e false;
    SYNC_UUID 0x0f false;
    AUTH_CHALLENGE 0x10 false;
    AUTH_RESPONSE 0x11 false;
    STATE_CHG_REQ 0x12 false;
    PING 0x13 true;
    PING_ACK 0x14 true;
    RECV_ACK 0x15 true;
    WRITE_ACK 0x16 true;
    RS_WRITE_ACK 0x17 true;
    SUPERSEDED 0x18 true;
    NEG_ACK 0x19 true;
    NEG_DREPLY 0x1a true;
    NEG_RS_DREPLY 0x1b true;
    BARRIER_ACK 0x1c true;
    STATE_CHG_REPLY 0x1d true;
    OV_REQUEST 0x1e false;
    OV_REPLY 0x1f false;
    OV_RESULT 0x20 true;
    CSUM_RS_REQUEST 0x21 false;
    RS_IS_IN_SYNC 0x22 true;
    SYNC_PARAM89 0x23 false;
    COMPRESSED_BITMAP 0x24 false;
    DELAY_PROBE 0x27 false;
    OUT_OF_SYNC 0x28 false;
    RS_CANCEL 0x29 true;
    CONN_ST_CHG_REQ 0x2a false;
    CONN_ST_CHG_REPLY 0x2b true;
    RETRY_WRITE 0x2c true;
    PROTOCOL_UPDATE 0x2d false;
    TRIM 0x31 false;
    RS_THIN_REQ 0x32 false;
    RS_DEALLOCATED 0x33 false;
    WSAME 0x34 false;
    ZEROES 0x36 false;
    INITIAL_META 0xfff1 false;
    INITIAL_DATA 0xfff2 false;
    CONNECTION_FEATURES 0xfffe false;
}

/// The packet's name, for messages.
#[must_use]
pub fn name(code: Code) -> String {
    ALL.iter().find(|known| known.0 == code).map_or_else(
        || format!("packet {code:#06x}"),
        |known| format!("P_{}", known.1),
    )
}

/// The feature flags that every 8.4 announces.
pub const FEATURE_FLAGS: u32 = 0xf;

/// `P_CONNECTION_FEATURES`: lowest and highest protocol, feature flags.
#[must_use]
pub fn features(low: u32, high: u32, flags: u32) -> Vec<u8> {
    crate::wire::features(low, high, flags)
}

/// `P_PROTOCOL` with default policies: 1 is A, 2 is B, 3 is C.
#[must_use]
pub fn protocol(letter: u32) -> Vec<u8> {
    let mut payload = words(&[letter, 0, 0, 0, 0, 0]);
    payload.push(0);
    payload
}

/// `P_SYNC_PARAM89` with the driver's defaults and no algorithms.
#[must_use]
pub fn sync_param() -> Vec<u8> {
    let mut payload = words(&[250]);
    payload.extend([0; 128]);
    payload.extend(words(&[20, 10, 100, 102_400]));
    payload
}

/// What a node says of its size, in sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Of its disk; 0 without one.
    pub disk: u64,
    /// The administrator's limit; 0 for none.
    pub user: u64,
    /// Of the device now; 0 asks for an answer.
    pub current: u64,
    /// Bytes of the largest request.
    pub largest: u32,
    /// 1 forced, 2 do not resync what is new.
    pub flags: u16,
}

impl Sizes {
    /// A node with a disk of this size and a device that fills it.
    #[must_use]
    pub fn of(sectors: u64) -> Self {
        Self {
            disk: sectors,
            user: 0,
            current: sectors,
            largest: 1 << 20,
            flags: 0,
        }
    }

    /// `P_SIZES`, 56 bytes, as it is with the feature WSAME.
    #[must_use]
    pub fn payload(self) -> Vec<u8> {
        let mut payload = longs(&[self.disk, self.user, self.current]);
        payload.extend(self.largest.to_be_bytes());
        payload.extend(0u16.to_be_bytes());
        payload.extend(self.flags.to_be_bytes());
        payload.extend(words(&[512, 512, 0, 512, 0]));
        payload.extend([1, 0, 0, 0]);
        payload
    }
}

/// Of `P_UUIDS`: current, bitmap, two of history, marked blocks, flags.
pub type Uuids = [u64; 6];

/// The generation of a disk that was never used.
pub const JUST_CREATED: u64 = 4;

/// A state word, as in `P_STATE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// 1 Primary, 2 Secondary; of whoever sends it.
    pub role: u32,
    /// The receiver's role, as the sender sees it.
    pub peer: u32,
    /// The connection: 9 handshake, 10 Connected, …
    pub conn: u32,
    /// The sender's disk: 0 Diskless, 4 Inconsistent, 8 UpToDate, …
    pub disk: u32,
    /// The receiver's disk, as the sender sees it.
    pub pdsk: u32,
    /// Bits 17 and above.
    pub more: u32,
}

impl State {
    /// A Secondary amid the handshake, with a disk in this state.
    #[must_use]
    pub fn meeting(disk: u32) -> Self {
        Self {
            role: 2,
            peer: 0,
            conn: 9,
            disk,
            pdsk: 6,
            more: 0,
        }
    }

    /// The word.
    #[must_use]
    pub fn word(self) -> u32 {
        self.role | self.peer << 2 | self.conn << 4 | self.disk << 9 | self.pdsk << 13 | self.more
    }

    /// The payload of `P_STATE`.
    #[must_use]
    pub fn payload(self) -> Vec<u8> {
        words(&[self.word()])
    }
}

/// The payload of a request to change a state: the fields, and their values.
#[must_use]
pub fn change(mask: u32, value: u32) -> Vec<u8> {
    words(&[mask, value])
}

/// The 24 bytes before the data of a write.
#[must_use]
pub fn data_header(sector: u64, id: [u8; 8], sequence: u32, flags: u32) -> Vec<u8> {
    let mut payload = sector.to_be_bytes().to_vec();
    payload.extend(id);
    payload.extend(words(&[sequence, flags]));
    payload
}

/// The 24 bytes of a request for a block, and of an acknowledgement: `last` is padding in the one,
/// the sequence number in the other.
#[must_use]
pub fn block(sector: u64, id: [u8; 8], bytes: u32, last: u32) -> Vec<u8> {
    let mut payload = sector.to_be_bytes().to_vec();
    payload.extend(id);
    payload.extend(words(&[bytes, last]));
    payload
}

/// The 16 bytes of `P_OUT_OF_SYNC` and `P_RS_DEALLOCATED`.
#[must_use]
pub fn extent(sector: u64, bytes: u32) -> Vec<u8> {
    let mut payload = sector.to_be_bytes().to_vec();
    payload.extend(words(&[bytes, 0]));
    payload
}

/// The identifier of whatever belongs to a resync or a verify.
pub const SYNCER: [u8; 8] = [0xff; 8];

/// Numbers of 32 bits, big end first.
#[must_use]
pub fn words(values: &[u32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_be_bytes())
        .collect()
}

/// Numbers of 64 bits, big end first.
#[must_use]
pub fn longs(values: &[u64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_be_bytes())
        .collect()
}

/// The word at this offset; 0 beyond the end.
#[must_use]
pub fn word_at(bytes: &[u8], offset: usize) -> u32 {
    bytes
        .get(offset..)
        .and_then(<[u8]>::first_chunk::<4>)
        .map_or(0, |word| u32::from_be_bytes(*word))
}

/// The number of 64 bits at this offset; 0 beyond the end.
#[must_use]
pub fn long_at(bytes: &[u8], offset: usize) -> u64 {
    bytes
        .get(offset..)
        .and_then(<[u8]>::first_chunk::<8>)
        .map_or(0, |long| u64::from_be_bytes(*long))
}

/// The acknowledgement that a write asks for, if any.
pub(crate) fn acknowledgement(code: Code, payload: &[u8]) -> Option<(Code, Vec<u8>)> {
    let flags = word_at(payload, 20);
    let bytes = if code == DATA {
        u32::try_from(payload.len().saturating_sub(24)).unwrap_or(u32::MAX)
    } else {
        word_at(payload, 24)
    };
    let code = match flags & 0x184 {
        0x104 => RS_WRITE_ACK,
        flags if flags & 0x100 != 0 => WRITE_ACK,
        flags if flags & 0x80 != 0 => RECV_ACK,
        _ => return None,
    };
    let mut answer = payload.get(..16)?.to_vec();
    answer.extend(words(&[bytes, word_at(payload, 16)]));
    Some((code, answer))
}
