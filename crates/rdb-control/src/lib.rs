//! The control socket: what is asked and answered over `RUN/control.sock`, and a blocking client.
//!
//! One JSON object a line in each direction. A connection begins with `hello`, which names the protocol version; then
//! requests are answered in order, each with the request's id:
//!
//! ```text
//! > {"id":0,"op":"hello","args":{"protocol":1}}
//! < {"id":0,"ok":{"protocol":1,"program":"rdbd","version":"0.1.0","node":"alice","pid":4711}}
//! > {"id":1,"op":"primary","args":{"minor":0,"force":false}}
//! < {"id":1,"refused":{"code":-2,"text":"Need access to UpToDate data"}}
//! ```
//!
//! The operations are the steps of `drbdsetup` (`docs/spec/admin.md`, section 4): whoever asks knows drbd.conf, the
//! daemon does not. A refusal carries DRBD's number and words.

#![forbid(unsafe_code)]

mod blocks;
mod client;
mod event_stream;
mod events;
mod evidence;
mod handler;
mod history;
mod latency;
mod limits;
mod object;
mod op;
mod presence;
mod questions;
mod reason;
mod refusal;
mod report;
#[cfg(feature = "samples")]
pub mod samples;
pub mod split_brain;
mod story;

pub use blocks::{
    BLOCKS_MAX, BadBlocks, Blocks, MarkedBlocks, MarkedCollector, RUNS_MAX, Run, runs_max,
};
pub use client::{Client, ClientError};
pub use event_stream::{Asker, EventStream};
pub use events::{Event, HandlerOf, Told, VolumeStates};
pub use evidence::{EvidenceReport, KeptBy, VolumeEvidence};
pub use handler::{HandlerReport, HandlerScene, HandlerVolume, HandlersShown, is_of_resource};
pub use history::{
    DEFAULT_STATE_DIR, HISTORY_BYTES_MAX, HISTORY_LINES_MAX, HistoryEvent, HistoryLine,
    Identifiers, Instant, SideSeen, Uuid, history_path, keep_state_dir, kept_state_dir,
    old_history_path, read_history, state_dir_of,
};
pub use latency::{HistogramReport, LATENCY_BOUNDS_US, LatencyReport};
pub use limits::Limits;
pub use object::Object;
pub use op::{BadRequest, Limit, Op, Reply, ReplyBody, Request, VerifyPart, WaitTimes};
pub use presence::{LOCK_NAME, PID_NAME, Presence, RECORD_NAME, presence};
pub use reason::{ReasonReport, utc};
pub use refusal::{Refusal, code, failure_text, state_text};
pub use report::{
    ConnectionShown, DiskShown, FAILED, FailedReport, GiReport, Hello, NoSpaceReport, Pause,
    ResourceReport, ResourceShown, StatusReport, Suspension, SyncReport, TakeoverOutcome,
    TakeoverReport, VerifyReport, VolumeReport, VolumeShown, VolumeTakeover, WaitReport,
};

pub use story::{PeerSeen, Primary, Story};

pub use rdb_config::{DiskOptions, Handlers, MetaDisk, NetOptions, ResourceOptions, shell_word};
pub use replica_proto::state::{ConnState, DiskState, Role};

/// The version of this protocol. A daemon answers exactly its own; commands and daemon come from one build.
pub const PROTOCOL: u32 = 1;

/// Longest request line in bytes, newline included.
pub const REQUEST_LINE_MAX: usize = 256 * 1024;

/// Longest reply line in bytes, newline included: the status of some ten thousand volumes.
pub const REPLY_LINE_MAX: usize = 64 * 1024 * 1024;

/// What the daemon says of an operation that it has taken back, for its caller waits no more.
pub const TAKEN_BACK: &str = "taken back: its caller has gone";

/// How what the daemon says begins while another program takes its place.
pub const BEING_REPLACED: &str = "it is being replaced";

/// The exit status of an `rdbd` that ends because another one has the run directory.
pub const EXIT_TAKEN: u8 = 3;

/// The run directory when nothing else is said.
pub const DEFAULT_RUN_DIR: &str = "/run/rdb";

/// The control socket's name in the run directory.
pub const SOCKET_NAME: &str = "control.sock";

/// The name of the socket for questions in the run directory: it speaks the same protocol, tells no secret, and changes nothing.
pub const QUESTIONS_NAME: &str = "questions.sock";

/// The status file's name in the run directory.
pub const STATUS_NAME: &str = "status";
