//! The handshake: client flags and options. The NBD document, "Newstyle negotiation" and "Option types".

use super::constants::{
    BASE_ALLOCATION, BASE_ALLOCATION_ID, OPTION_HEADER_SIZE, OPTION_LENGTH_MAX, OPTION_MAGIC,
    OPTION_REPLY_MAGIC, OPTIONS_MAX, SKIP_MAX, STRING_MAX, handshake, info, option, option_reply,
    transmission,
};
use super::session::{State, skip};
use super::{CloseReason, Export, Exports, Session, Step};
use crate::DeviceInfo;

/// Bytes of padding after an export's description for clients that know no better.
const EXPORT_PADDING: usize = 124;

impl Session {
    pub(super) fn on_client_flags(&mut self, input: &[u8]) -> Step {
        let Some(flags) = Reader(input).u32() else {
            return Step::NeedMore { bytes: 4 };
        };
        if flags & !u32::from(handshake::FIXED_NEWSTYLE | handshake::NO_ZEROES) != 0 {
            return self.close(CloseReason::ClientFlags { flags });
        }
        self.fixed = flags & u32::from(handshake::FIXED_NEWSTYLE) != 0;
        self.no_zeroes = flags & u32::from(handshake::NO_ZEROES) != 0;
        self.state = State::Options;
        Step::Consumed { consumed: 4 }
    }

    pub(super) fn on_option(&mut self, exports: &Exports, input: &[u8], out: &mut Vec<u8>) -> Step {
        let mut reader = Reader(input);
        let (Some(magic), Some(option), Some(length)) = (reader.u64(), reader.u32(), reader.u32())
        else {
            return Step::NeedMore {
                bytes: OPTION_HEADER_SIZE,
            };
        };
        if magic != OPTION_MAGIC {
            return self.close(CloseReason::OptionMagic { found: magic });
        }
        if !self.fixed && option != option::EXPORT_NAME {
            return self.close(CloseReason::NotFixedNewstyle { option });
        }
        if length > OPTION_LENGTH_MAX {
            if option == option::EXPORT_NAME || length > SKIP_MAX {
                return self.close(CloseReason::TooLong { length });
            }
            self.state = State::SkipOption {
                option,
                remaining: length,
            };
            return Step::Consumed {
                consumed: OPTION_HEADER_SIZE,
            };
        }
        let consumed = OPTION_HEADER_SIZE + length as usize;
        let Some(data) = input.get(OPTION_HEADER_SIZE..consumed) else {
            return Step::NeedMore { bytes: consumed };
        };
        self.options_seen += 1;
        if self.options_seen > OPTIONS_MAX {
            return self.close(CloseReason::TooManyOptions);
        }
        let mut replies = Replies { option, out };
        match option {
            option::EXPORT_NAME => return self.on_export_name(exports, data, out, consumed),
            option::ABORT => {
                replies.ack();
                return self.close(CloseReason::Abort);
            }
            option::LIST => on_list(exports, data, &mut replies),
            option::INFO => {
                self.on_info(exports, data, &mut replies);
            }
            option::GO => {
                if let Some(volume) = self.on_info(exports, data, &mut replies) {
                    self.enter_transmission(volume);
                }
            }
            option::STRUCTURED_REPLY if data.is_empty() => {
                self.structured = true;
                replies.ack();
            }
            option::STRUCTURED_REPLY => {
                replies.error(option_reply::ERR_INVALID, "This option takes no data");
            }
            option::LIST_META_CONTEXT => self.on_list_meta_context(exports, data, &mut replies),
            option::SET_META_CONTEXT => self.on_set_meta_context(exports, data, &mut replies),
            option::STARTTLS => {
                replies.error(
                    option_reply::ERR_UNSUP,
                    "The socket is local: there is no TLS here",
                );
            }
            _ => replies.error(option_reply::ERR_UNSUP, "Unknown option"),
        }
        Step::Consumed { consumed }
    }

    pub(super) fn on_skipped_option(
        &mut self,
        option: u32,
        remaining: u32,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Step {
        let (taken, remaining) = match skip(input, remaining) {
            Ok(step) => step,
            Err(need_more) => return need_more,
        };
        self.state = State::SkipOption { option, remaining };
        if remaining == 0 {
            self.state = State::Options;
            self.options_seen += 1;
            let mut replies = Replies { option, out };
            replies.error(option_reply::ERR_TOO_BIG, "The option's data is too long");
        }
        Step::Consumed { consumed: taken }
    }

    fn on_export_name(
        &mut self,
        exports: &Exports,
        name: &[u8],
        out: &mut Vec<u8>,
        consumed: usize,
    ) -> Step {
        let Some(export) = exports.find(name) else {
            return self.close(CloseReason::UnknownExport);
        };
        out.extend_from_slice(&export.info.size_bytes.to_be_bytes());
        let flags = transmission_flags(&export.info, self.structured);
        out.extend_from_slice(&flags.to_be_bytes());
        if !self.no_zeroes {
            out.extend_from_slice(&[0; EXPORT_PADDING]);
        }
        self.enter_transmission(export.volume);
        Step::Consumed { consumed }
    }

    /// `INFO` and `GO` answer alike: the volume, if there is one.
    fn on_info(&self, exports: &Exports, data: &[u8], replies: &mut Replies<'_>) -> Option<u32> {
        let mut reader = Reader(data);
        let parsed = reader.string().and_then(|name| {
            let count = reader.u16()?;
            let kinds = reader.take(usize::from(count) * 2)?;
            reader.0.is_empty().then_some((name, kinds))
        });
        let Some((name, kinds)) = parsed else {
            replies.error(option_reply::ERR_INVALID, "Malformed option");
            return None;
        };
        let Some(export) = exports.find(name) else {
            replies.error(option_reply::ERR_UNKNOWN, "No such export");
            return None;
        };
        let device = &export.info;
        let flags = transmission_flags(device, self.structured);
        replies.info(
            info::EXPORT,
            &[&device.size_bytes.to_be_bytes(), &flags.to_be_bytes()],
        );
        replies.info(
            info::BLOCK_SIZE,
            &[
                &device.minimum_block.to_be_bytes(),
                &device.preferred_block.to_be_bytes(),
                &device.maximum_request.to_be_bytes(),
            ],
        );
        let wants = |kind: u16| {
            kinds
                .chunks_exact(2)
                .any(|asked| asked == kind.to_be_bytes())
        };
        if wants(info::NAME) {
            replies.info(info::NAME, &[exports.name_of(export).as_bytes()]);
        }
        if wants(info::DESCRIPTION) {
            replies.info(
                info::DESCRIPTION,
                &[description(exports, export).as_bytes()],
            );
        }
        replies.ack();
        Some(export.volume)
    }

    fn on_list_meta_context(&self, exports: &Exports, data: &[u8], replies: &mut Replies<'_>) {
        let Some((_, queries)) = self.check_meta_context(exports, data, replies) else {
            return;
        };
        let wanted = queries.is_empty()
            || queries
                .iter()
                .any(|query| query == b"base:" || query == BASE_ALLOCATION.as_bytes());
        if wanted {
            // The number in a list means nothing and should be zero.
            replies.put(
                option_reply::META_CONTEXT,
                &[&[0; 4], BASE_ALLOCATION.as_bytes()],
            );
        }
        replies.ack();
    }

    fn on_set_meta_context(&mut self, exports: &Exports, data: &[u8], replies: &mut Replies<'_>) {
        // Whatever was chosen before is replaced, also by a choice that fails.
        self.context = None;
        let Some((volume, queries)) = self.check_meta_context(exports, data, replies) else {
            return;
        };
        if queries
            .iter()
            .any(|query| query == BASE_ALLOCATION.as_bytes())
        {
            self.context = Some(volume);
            let number = BASE_ALLOCATION_ID.to_be_bytes();
            replies.put(
                option_reply::META_CONTEXT,
                &[&number, BASE_ALLOCATION.as_bytes()],
            );
        }
        replies.ack();
    }

    /// What the two options on metadata contexts have in common; the error is answered here.
    fn check_meta_context<'a>(
        &self,
        exports: &Exports,
        data: &'a [u8],
        replies: &mut Replies<'_>,
    ) -> Option<(u32, Queries<'a>)> {
        if !self.structured {
            replies.error(
                option_reply::ERR_INVALID,
                "Structured replies must be agreed on first",
            );
            return None;
        }
        let mut reader = Reader(data);
        let parsed = reader.string().and_then(|name| {
            let count = reader.u32()?;
            Some((name, Queries::check(count, reader.0)?))
        });
        let Some((name, queries)) = parsed else {
            replies.error(option_reply::ERR_INVALID, "Malformed option");
            return None;
        };
        let Some(export) = exports.find(name) else {
            replies.error(option_reply::ERR_UNKNOWN, "No such export");
            return None;
        };
        Some((export.volume, queries))
    }

    fn enter_transmission(&mut self, volume: u32) {
        // A context chosen for another export does not count for this one.
        self.context = self.context.filter(|&chosen| chosen == volume);
        self.state = State::Transmission { volume };
    }
}

fn on_list(exports: &Exports, data: &[u8], replies: &mut Replies<'_>) {
    if !data.is_empty() {
        return replies.error(option_reply::ERR_INVALID, "This option takes no data");
    }
    for export in exports.iter() {
        let name = exports.name_of(export);
        let length = (name.len() as u32).to_be_bytes();
        let description = description(exports, export);
        replies.put(
            option_reply::SERVER,
            &[&length, name.as_bytes(), description.as_bytes()],
        );
    }
    replies.ack();
}

fn description(exports: &Exports, export: &Export) -> String {
    format!("resource {}, volume {}", exports.resource(), export.volume)
}

/// What the export offers. All connections share one device and a flush covers what any of them completed,
/// which is what `CAN_MULTI_CONN` promises.
fn transmission_flags(device: &DeviceInfo, structured: bool) -> u16 {
    let mut flags = transmission::HAS_FLAGS
        | transmission::SEND_FLUSH
        | transmission::SEND_FUA
        | transmission::SEND_CACHE
        | transmission::CAN_MULTI_CONN;
    for (flag, offered) in [
        (transmission::READ_ONLY, device.read_only),
        (transmission::SEND_TRIM, device.can_trim),
        (transmission::SEND_WRITE_ZEROES, device.can_zero),
        (transmission::SEND_DF, structured),
    ] {
        if offered {
            flags |= flag;
        }
    }
    flags
}

/// Writes the replies to one option.
///
/// | offset | size | field                |
/// |-------:|-----:|----------------------|
/// |      0 |    8 | magic                |
/// |      8 |    4 | the option's number  |
/// |     12 |    4 | type of reply        |
/// |     16 |    4 | bytes of data        |
/// |     20 |      | data                 |
struct Replies<'a> {
    option: u32,
    out: &'a mut Vec<u8>,
}

impl Replies<'_> {
    fn put(&mut self, kind: u32, data: &[&[u8]]) {
        let length: usize = data.iter().map(|part| part.len()).sum();
        self.out
            .extend_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
        self.out.extend_from_slice(&self.option.to_be_bytes());
        self.out.extend_from_slice(&kind.to_be_bytes());
        self.out.extend_from_slice(&(length as u32).to_be_bytes());
        for part in data {
            self.out.extend_from_slice(part);
        }
    }

    fn ack(&mut self) {
        self.put(option_reply::ACK, &[]);
    }

    fn error(&mut self, kind: u32, message: &str) {
        self.put(kind, &[message.as_bytes()]);
    }

    fn info(&mut self, kind: u16, data: &[&[u8]]) {
        let kind = kind.to_be_bytes();
        let mut parts: [&[u8]; 4] = [&[]; 4];
        parts[0] = &kind;
        parts[1..=data.len()].copy_from_slice(data);
        self.put(option_reply::INFO, &parts);
    }
}

/// The queries of a metadata context option, checked to be well formed.
#[derive(Clone, Copy)]
struct Queries<'a> {
    count: u32,
    bytes: &'a [u8],
}

impl<'a> Queries<'a> {
    /// `None` unless `bytes` are exactly `count` strings.
    fn check(count: u32, bytes: &'a [u8]) -> Option<Self> {
        // Each string takes four bytes at least, so a lying count ends with the input, not with the count.
        let mut reader = Reader(bytes);
        for _ in 0..count {
            reader.string()?;
        }
        reader.0.is_empty().then_some(Self { count, bytes })
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut reader = Reader(self.bytes);
        std::iter::from_fn(move || reader.string())
    }
}

/// Takes fields off the front of bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A length and that many bytes.
    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        if length > STRING_MAX {
            return None;
        }
        self.take(length)
    }
}
