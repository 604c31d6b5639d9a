//! One client's connection: the states, and the commands of the transmission phase.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::constants::{
    BASE_ALLOCATION_ID, GREETING_MAGIC, IN_FLIGHT_MAX, OPTION_MAGIC, OUTPUT_HIGH_WATER,
    REQUEST_MAGIC, REQUEST_SIZE, SKIP_MAX, command, command_flag, handshake,
};
use super::{Exports, ReplyHeader};
use crate::{DeviceInfo, Errno, Op, RangeError, Request};

/// What the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Receive until the input holds this many bytes, then ask again. Nothing was consumed. More than was
    /// asked for is fine; the count never exceeds [`INPUT_MAX`](super::INPUT_MAX).
    NeedMore {
        /// Bytes that the input must hold in all.
        bytes: usize,
    },
    /// Input was used up and `out` perhaps extended. Ask again with the rest.
    Consumed {
        /// Bytes to drop from the front of the input; may be zero.
        consumed: usize,
    },
    /// A request for the device.
    Request {
        /// Bytes to drop from the front of the input: [`REQUEST_SIZE`].
        consumed: usize,
        /// The volume it is for.
        volume: u32,
        /// What to do. The tag is the client's cookie.
        request: Request,
        /// Bytes of data that follow on the connection, to be read by the caller: the length of a write,
        /// zero for everything else.
        payload_len: u32,
    },
    /// Too much is unanswered or unsent. Answer requests, send `out`, then ask again with the same input.
    Wait,
    /// The conversation is over. Send what is in `out`, wait for the requests in flight, close.
    Close {
        /// Why.
        reason: CloseReason,
    },
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The client said goodbye in the transmission phase.
    #[error("the client disconnected")]
    Disconnect,
    /// The client said goodbye while it negotiated.
    #[error("the client ended the negotiation")]
    Abort,
    /// The client set handshake flags this server does not know.
    #[error("unknown client flags {flags:#x}")]
    ClientFlags {
        /// As received.
        flags: u32,
    },
    /// An option did not begin with its magic.
    #[error("bad magic {found:#018x} of an option")]
    OptionMagic {
        /// As received.
        found: u64,
    },
    /// A request did not begin with its magic.
    #[error("bad magic {found:#010x} of a request")]
    RequestMagic {
        /// As received.
        found: u32,
    },
    /// `EXPORT_NAME` has no error reply, so a name that does not exist ends the connection.
    #[error("no such export")]
    UnknownExport,
    /// A client without the fixed newstyle flag asked for something that needs it.
    #[error("option {option} from a client without fixed newstyle negotiation")]
    NotFixedNewstyle {
        /// The option's number.
        option: u32,
    },
    /// More than [`OPTIONS_MAX`](super::OPTIONS_MAX) options.
    #[error("too many options")]
    TooManyOptions,
    /// An option or a refused write is longer than what is worth skipping.
    #[error("{length} bytes of data where at most {SKIP_MAX} are skipped")]
    TooLong {
        /// As received.
        length: u32,
    },
}

impl CloseReason {
    /// Whether the client ended the conversation as it should: nothing for the log.
    pub fn is_orderly(self) -> bool {
        matches!(self, CloseReason::Disconnect | CloseReason::Abort)
    }
}

/// One connection. See the [module](super) for how it is driven.
#[derive(Debug)]
pub struct Session {
    pub(super) state: State,
    /// The client understands that no padding follows an export's description.
    pub(super) no_zeroes: bool,
    /// The client understands error replies to options.
    pub(super) fixed: bool,
    /// Structured replies were agreed on.
    pub(super) structured: bool,
    /// The volume for which the client chose the `base:allocation` context.
    pub(super) context: Option<u32>,
    /// Options received so far.
    pub(super) options_seen: u32,
    in_flight: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Greeting,
    ClientFlags,
    Options,
    /// The data of an option that is too long passes by; then it is refused.
    SkipOption {
        option: u32,
        remaining: u32,
    },
    Transmission {
        volume: u32,
    },
    /// The data of a refused write passes by; then the error goes out.
    SkipPayload {
        volume: u32,
        remaining: u32,
        cookie: u64,
        refusal: Refusal,
    },
    Closed(CloseReason),
}

/// Why a request is answered without asking the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    errno: Errno,
    message: &'static str,
}

const fn refuse<T>(errno: Errno, message: &'static str) -> Result<T, Refusal> {
    Err(Refusal { errno, message })
}

/// A request's header. The NBD document, "Request message".
///
/// | offset | size | field  |
/// |-------:|-----:|--------|
/// |      0 |    4 | magic  |
/// |      4 |    2 | flags  |
/// |      6 |    2 | type   |
/// |      8 |    8 | cookie |
/// |     16 |    8 | offset |
/// |     24 |    4 | length |
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawRequest {
    magic: U32,
    flags: U16,
    kind: U16,
    cookie: U64,
    offset: U64,
    length: U32,
}
const _: () = assert!(size_of::<RawRequest>() == REQUEST_SIZE);

/// What a checked command asks for.
enum Checked {
    Device { op: Op, fua: bool },
    BlockStatus,
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    /// A connection that was just accepted.
    pub fn new() -> Self {
        Self {
            state: State::Greeting,
            no_zeroes: false,
            fixed: false,
            structured: false,
            context: None,
            options_seen: 0,
            in_flight: 0,
        }
    }

    /// A connection of the kernel's client, which does not negotiate: it sends requests to this volume at once.
    pub fn for_kernel(volume: u32) -> Self {
        Self {
            state: State::Transmission { volume },
            no_zeroes: true,
            fixed: true,
            ..Self::new()
        }
    }

    /// Takes one step with the bytes received and not yet consumed; replies are appended to `out`.
    pub fn advance(&mut self, exports: &Exports, input: &[u8], out: &mut Vec<u8>) -> Step {
        if let State::Transmission { volume } = self.state {
            return self.on_request(exports, volume, input, out);
        }
        if out.len() >= OUTPUT_HIGH_WATER {
            return Step::Wait;
        }
        match self.state {
            State::Greeting => {
                out.extend_from_slice(&GREETING_MAGIC.to_be_bytes());
                out.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
                let flags = handshake::FIXED_NEWSTYLE | handshake::NO_ZEROES;
                out.extend_from_slice(&flags.to_be_bytes());
                self.state = State::ClientFlags;
                Step::Consumed { consumed: 0 }
            }
            State::ClientFlags => self.on_client_flags(input),
            State::Options => self.on_option(exports, input, out),
            State::SkipOption { option, remaining } => {
                self.on_skipped_option(option, remaining, input, out)
            }
            State::SkipPayload {
                volume,
                remaining,
                cookie,
                refusal,
            } => {
                let (taken, remaining) = match skip(input, remaining) {
                    Ok(step) => step,
                    Err(need_more) => return need_more,
                };
                self.state = State::SkipPayload {
                    volume,
                    remaining,
                    cookie,
                    refusal,
                };
                if remaining == 0 {
                    self.state = State::Transmission { volume };
                    self.put_refusal(cookie, refusal, out);
                }
                Step::Consumed { consumed: taken }
            }
            State::Transmission { .. } => unreachable!("handled above"),
            State::Closed(reason) => Step::Close { reason },
        }
    }

    /// The bytes that answer `request`: all of them, except that the data follows a successful read. Call it
    /// exactly once for each [`Step::Request`].
    pub fn reply_header(&mut self, request: &Request, result: Result<(), Errno>) -> ReplyHeader {
        self.in_flight = self.in_flight.saturating_sub(1);
        ReplyHeader::new(request, result, self.structured)
    }

    /// Requests handed out and not yet answered; at most [`IN_FLIGHT_MAX`].
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// The volume the client chose, once it has.
    pub fn volume(&self) -> Option<u32> {
        match self.state {
            State::Transmission { volume } | State::SkipPayload { volume, .. } => Some(volume),
            _ => None,
        }
    }

    /// Ends the session; every later [`Session::advance`] says so.
    pub(super) fn close(&mut self, reason: CloseReason) -> Step {
        self.state = State::Closed(reason);
        Step::Close { reason }
    }

    fn on_request(
        &mut self,
        exports: &Exports,
        volume: u32,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Step {
        let Ok((raw, _)) = RawRequest::ref_from_prefix(input) else {
            return Step::NeedMore {
                bytes: REQUEST_SIZE,
            };
        };
        if raw.magic.get() != REQUEST_MAGIC {
            return self.close(CloseReason::RequestMagic {
                found: raw.magic.get(),
            });
        }
        if self.in_flight >= IN_FLIGHT_MAX || out.len() >= OUTPUT_HIGH_WATER {
            return Step::Wait;
        }
        if raw.kind.get() == command::DISC {
            return self.close(CloseReason::Disconnect);
        }
        let (cookie, length) = (raw.cookie.get(), raw.length.get());
        let checked = match exports.get(volume) {
            Some(export) => self.check(raw, volume, &export.info),
            None => refuse(Errno::Shutdown, "The volume is gone"),
        };
        match checked {
            Ok(Checked::Device { op, fua }) => {
                self.in_flight += 1;
                Step::Request {
                    consumed: REQUEST_SIZE,
                    volume,
                    request: Request {
                        tag: cookie,
                        op,
                        offset: raw.offset.get(),
                        length,
                        fua,
                    },
                    payload_len: if op == Op::Write { length } else { 0 },
                }
            }
            Ok(Checked::BlockStatus) => {
                // Nobody below can tell holes from data, and "data" is never a lie.
                let reply = ReplyHeader::block_status(cookie, BASE_ALLOCATION_ID, length, 0);
                out.extend_from_slice(reply.as_bytes());
                Step::Consumed {
                    consumed: REQUEST_SIZE,
                }
            }
            Err(refusal) if raw.kind.get() == command::WRITE && length > 0 => {
                if length > SKIP_MAX {
                    // The client would have to send all of it before it could read why.
                    self.put_refusal(cookie, refusal, out);
                    return self.close(CloseReason::TooLong { length });
                }
                self.state = State::SkipPayload {
                    volume,
                    remaining: length,
                    cookie,
                    refusal,
                };
                Step::Consumed {
                    consumed: REQUEST_SIZE,
                }
            }
            Err(refusal) => {
                self.put_refusal(cookie, refusal, out);
                Step::Consumed {
                    consumed: REQUEST_SIZE,
                }
            }
        }
    }

    /// Judges a request. The errors are those that the NBD document names in "Error values" and with each
    /// command.
    fn check(&self, raw: &RawRequest, volume: u32, info: &DeviceInfo) -> Result<Checked, Refusal> {
        let (flags, offset, length) = (raw.flags.get(), raw.offset.get(), raw.length.get());
        let kind = raw.kind.get();
        let known = match kind {
            command::READ if self.structured => command_flag::DF,
            command::WRITE_ZEROES => command_flag::NO_HOLE,
            command::BLOCK_STATUS => command_flag::REQ_ONE,
            _ => 0,
        };
        // FUA is to be accepted with every command, whether it means something there or not.
        if flags & !(known | command_flag::FUA) != 0 {
            return refuse(Errno::Inval, "Unknown or misplaced command flag");
        }
        let fua = flags & command_flag::FUA != 0;
        let op = match kind {
            command::READ => Op::Read,
            command::WRITE => Op::Write,
            command::FLUSH => Op::Flush,
            command::TRIM if info.can_trim => Op::Trim,
            command::CACHE => Op::Cache,
            command::WRITE_ZEROES if info.can_zero => Op::WriteZeroes {
                may_unmap: flags & command_flag::NO_HOLE == 0,
            },
            command::BLOCK_STATUS => {
                if self.context != Some(volume) {
                    return refuse(Errno::Inval, "No metadata context was agreed on");
                }
                check_range(info, offset, length, Errno::Inval)?;
                return Ok(Checked::BlockStatus);
            }
            _ => return refuse(Errno::Inval, "Command not offered"),
        };
        if op == Op::Flush {
            if offset != 0 || length != 0 {
                return refuse(Errno::Inval, "A flush takes no range");
            }
            return Ok(Checked::Device { op, fua: false });
        }
        if op.is_write() && info.read_only {
            return refuse(Errno::NotPermitted, "The export is read-only");
        }
        let beyond_end = match op {
            Op::Write | Op::WriteZeroes { .. } => Errno::NoSpace,
            Op::Read | Op::Trim | Op::Cache | Op::Flush => Errno::Inval,
        };
        check_range(info, offset, length, beyond_end)?;
        if matches!(op, Op::Read | Op::Write) && length > info.maximum_request {
            let errno = if flags & command_flag::DF != 0 {
                Errno::Overflow
            } else {
                Errno::Inval
            };
            return refuse(errno, "Longer than the maximum block size");
        }
        Ok(Checked::Device {
            op,
            fua: fua && op.is_write(),
        })
    }

    fn put_refusal(&self, cookie: u64, refusal: Refusal, out: &mut Vec<u8>) {
        let Refusal { errno, message } = refusal;
        let reply = ReplyHeader::error(cookie, errno, message, self.structured);
        out.extend_from_slice(reply.as_bytes());
    }
}

fn check_range(
    info: &DeviceInfo,
    offset: u64,
    length: u32,
    beyond_end: Errno,
) -> Result<(), Refusal> {
    match info.check_range(offset, u64::from(length)) {
        Ok(()) => Ok(()),
        Err(RangeError::Empty) => refuse(Errno::Inval, "The length is zero"),
        Err(RangeError::BeyondEnd) => refuse(beyond_end, "Beyond the end of the device"),
        Err(RangeError::Unaligned) => refuse(Errno::Inval, "Not aligned to the minimum block size"),
    }
}

/// Takes up to `remaining` bytes off `input`: how many were taken, how many remain.
pub(super) fn skip(input: &[u8], remaining: u32) -> Result<(usize, u32), Step> {
    if input.is_empty() {
        let bytes = (remaining as usize).min(super::OPTION_LENGTH_MAX as usize);
        return Err(Step::NeedMore { bytes });
    }
    let taken = input.len().min(remaining as usize);
    Ok((taken, remaining - taken as u32))
}
