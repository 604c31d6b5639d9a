//! Requests and replies, and how a line becomes one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rdb_config::{DiskOptions, MetaDisk, NetOptions, ResourceOptions};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::handler::HandlersShown;
use crate::refusal::Refusal;

/// How long an operation may take: which of DRBD's limits it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `cmd-timeout-short`: questions and settings.
    Short,
    /// `cmd-timeout-medium`: what takes as long as a disk or the peer takes.
    Medium,
    /// It says itself how long it takes, or its caller does.
    Own,
}

/// Whether an operation changes anything. Nothing that does is done over the socket for questions.
#[derive(PartialEq, Eq)]
enum Kind {
    Question,
    Change,
}

/// Each operation: its name in a request, what it is told, its limit, and whether it only asks.
macro_rules! ops {
    ($(
        $(#[$meta:meta])* $name:literal $op:ident
        $({ $($(#[$field_meta:meta])* $field:ident: $ty:ty,)* })? => $limit:ident, $kind:ident;
    )*) => {
        /// One operation. Objects are named as `drbdsetup` names them: resources by name, volumes by minor number.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "op", content = "args", deny_unknown_fields)]
        pub enum Op {
            $($(#[$meta])* #[serde(rename = $name)] $op $({ $($(#[$field_meta])* $field: $ty),* })?),*
        }

        /// The names of all operations.
        const NAMES: &[&str] = &[$($name),*];

        impl Op {
            /// Its name in a request.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Op::$op { .. } => $name),*
                }
            }

            /// How long it may take.
            pub fn limit(&self) -> Limit {
                match self {
                    $(Op::$op { .. } => Limit::$limit),*
                }
            }

            /// Whether it only asks. Nothing else is done over the socket for questions.
            pub fn is_question(&self) -> bool {
                let kind = match self {
                    $(Op::$op { .. } => Kind::$kind),*
                };
                kind == Kind::Question
            }
        }
    };
}

ops! {
    /// Names the protocol version; the first request of a connection. Answered by [`Hello`](crate::Hello).
    "hello" Hello {
        /// What the client speaks: [`PROTOCOL`](crate::PROTOCOL).
        protocol: u32,
    } => Short, Change;
    /// Creates an empty resource.
    "new-resource" NewResource {
        /// Its name.
        resource: String,
        /// Its own options.
        options: ResourceOptions,
        /// Its handlers.
        #[serde(default, skip_serializing_if = "HandlersShown::is_empty")]
        handlers: HandlersShown,
    } => Medium, Change;
    /// Creates a volume of a resource.
    "new-minor" NewMinor {
        /// The resource.
        resource: String,
        /// Volume number, 0..=65534.
        volume: u16,
        /// Minor number, unique on the node.
        minor: u32,
        /// The volume has no number in the configuration: the device's name in `/dev/drbd/by-res` is the resource's.
        #[serde(default)]
        implicit: bool,
        /// The configuration calls its device `/dev/nbN`: it has that name, too.
        #[serde(default)]
        old_name: bool,
    } => Medium, Change;
    /// Attaches a disk.
    "attach" Attach {
        /// The volume.
        minor: u32,
        /// The data device.
        data: PathBuf,
        /// Where the metadata lies.
        meta: MetaDisk,
        /// The disk options, all of them.
        options: DiskOptions,
    } => Medium, Change;
    /// Detaches the disk.
    "detach" Detach {
        /// The volume.
        minor: u32,
        /// Do not wait for running requests.
        force: bool,
    } => Medium, Change;
    /// Configures the connection and starts to connect.
    "connect" Connect {
        /// The resource.
        resource: String,
        /// The address to listen at and to dial from.
        local: SocketAddr,
        /// The peer's address.
        peer: SocketAddr,
        /// The net options, all of them.
        options: NetOptions,
        /// This node is the split-brain victim.
        discard_my_data: bool,
        /// Only shake hands, log what would happen, and disconnect.
        tentative: bool,
    } => Medium, Change;
    /// Leaves the peer.
    "disconnect" Disconnect {
        /// The resource.
        resource: String,
        /// Do not ask the peer.
        force: bool,
    } => Medium, Change;
    /// Makes the volume writable here.
    "primary" Primary {
        /// The volume.
        minor: u32,
        /// Consider the local data as UpToDate.
        force: bool,
    } => Medium, Change;
    /// Gives the Primary role up.
    "secondary" Secondary {
        /// The volume.
        minor: u32,
    } => Medium, Change;
    /// Declares the local data bad.
    "invalidate" Invalidate {
        /// The volume.
        minor: u32,
    } => Medium, Change;
    /// Declares the peer's data bad.
    "invalidate-remote" InvalidateRemote {
        /// The volume.
        minor: u32,
    } => Medium, Change;
    /// Compares both copies of a connected volume; what differs is marked and not repaired.
    "verify" Verify {
        /// The volume.
        minor: u32,
        /// Which part of it.
        part: VerifyPart,
    } => Medium, Change;
    /// Marks the local disk Outdated.
    "outdate" Outdate {
        /// The volume.
        minor: u32,
    } => Medium, Change;
    /// Starts a new data generation.
    "new-current-uuid" NewCurrentUuid {
        /// The volume.
        minor: u32,
        /// Consider both disks equal: on two fresh, connected disks this skips the first sync.
        clear_bitmap: bool,
    } => Medium, Change;
    /// Pauses a resync, now or to come.
    "pause-sync" PauseSync {
        /// The volume.
        minor: u32,
    } => Short, Change;
    /// Takes `pause-sync` back.
    "resume-sync" ResumeSync {
        /// The volume.
        minor: u32,
    } => Short, Change;
    /// Has users' requests wait, of all volumes of the resource; ends when what they have asked for before is done.
    "suspend-io" SuspendIo {
        /// A volume of it.
        minor: u32,
    } => Medium, Change;
    /// Lets them go on, for whatever reason they wait.
    "resume-io" ResumeIo {
        /// A volume of it.
        minor: u32,
    } => Medium, Change;
    /// Takes a snapshot of the disks of both nodes at one moment: users' requests wait meanwhile. Handlers do it.
    "snapshot" Snapshot {
        /// The resource.
        resource: String,
        /// What it is called, on both nodes.
        name: String,
        /// What is run on this node instead of the handler `snapshot`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exec: Option<String>,
        /// How many seconds all of it may take; then requests go on.
        limit_s: u32,
        /// Of this node's disks alone.
        local_only: bool,
    } => Own, Change;
    /// New disk options of an attached volume.
    "disk-options" DiskOptions {
        /// The volume.
        minor: u32,
        /// The disk options, all of them.
        options: DiskOptions,
    } => Short, Change;
    /// New net options of a configured connection.
    "net-options" NetOptions {
        /// The resource.
        resource: String,
        /// The net options, all of them.
        options: NetOptions,
    } => Short, Change;
    /// New options of the resource itself.
    "resource-options" ResourceOptions {
        /// The resource.
        resource: String,
        /// The options, all of them.
        options: ResourceOptions,
        /// The handlers, all of them.
        #[serde(default, skip_serializing_if = "HandlersShown::is_empty")]
        handlers: HandlersShown,
    } => Short, Change;
    /// Deletes a Diskless, Secondary volume.
    "del-minor" DelMinor {
        /// The volume.
        minor: u32,
    } => Medium, Change;
    /// Deletes a resource without volumes and connection.
    "del-resource" DelResource {
        /// The resource.
        resource: String,
    } => Medium, Change;
    /// Demotes, disconnects, detaches and deletes everything of a resource. An unknown one is a success.
    "down" Down {
        /// The resource.
        resource: String,
    } => Medium, Change;
    /// What there is: answered by [`StatusReport`](crate::StatusReport).
    "status" Status => Short, Question;
    /// What there is of one resource: answered as `status` is, without the others.
    "status-of" StatusOf {
        /// The resource.
        resource: String,
    } => Short, Question;
    /// What happens, as it happens, after what there is: a stream of [`Told`](crate::Told) follows the answer.
    "events" Events {
        /// Of this resource alone; `None` for all.
        resource: Option<String>,
        /// Each change of state comes with the resource's figures.
        figures: bool,
    } => Own, Question;
    /// How it is configured: answered by a list of [`ResourceShown`](crate::ResourceShown).
    "show" Show => Short, Question;
    /// Whether a volume has a disk attached, or on its way. Answered by a boolean: false of one that there is not.
    "has-disk" HasDisk {
        /// The volume.
        minor: u32,
    } => Short, Question;
    /// Generation identifiers: answered by [`GiReport`](crate::GiReport).
    "get-gi" GetGi {
        /// The volume.
        minor: u32,
    } => Short, Question;
    /// What this node knows of what was written apart: answered by [`EvidenceReport`](crate::EvidenceReport).
    "evidence" Evidence {
        /// The resource.
        resource: String,
    } => Medium, Question;
    /// Waits until the volume is connected: answered by [`WaitReport`](crate::WaitReport).
    "wait-connect" WaitConnect {
        /// The volume.
        minor: u32,
        /// How long.
        times: WaitTimes,
    } => Own, Question;
    /// Waits until the volume is connected and no resync runs: answered by [`WaitReport`](crate::WaitReport).
    "wait-sync" WaitSync {
        /// The volume.
        minor: u32,
        /// How long.
        times: WaitTimes,
    } => Own, Question;
    /// Ends the daemon; refused while there are resources.
    "shutdown" Shutdown => Short, Change;
    /// Replaces the daemon by another one, with everything that runs. Refused while users have a device that cannot wait
    /// for the new one. After the answer the daemon is about to go: its successor says hello with another `instance`.
    "restart" Restart {
        /// The new daemon; `None` for the program that this one was started from.
        program: Option<PathBuf>,
        /// Although clients of NBD sockets are cut off.
        force: bool,
    } => Medium, Change;
    /// How far a new daemon has taken over: answered by [`TakeoverReport`](crate::TakeoverReport).
    "takeover" Takeover => Short, Question;
}

/// Which sectors a verify looks at. One that this node drives already takes `stop` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyPart {
    /// The first one; by default that where the last verify ended, or 0 after one that came to the end.
    #[serde(default)]
    pub start: Option<u64>,
    /// The one it stops before; by default the device's end.
    #[serde(default)]
    pub stop: Option<u64>,
}

/// Time limits of the wait operations, in seconds; 0 is for ever (`docs/spec/behaviour.md`, section 11.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitTimes {
    /// `wfc-timeout`.
    pub wfc_s: u32,
    /// `degr-wfc-timeout`: the cluster was degraded when this node went down.
    pub degr_wfc_s: u32,
    /// `outdated-wfc-timeout`: the peer was outdated.
    pub outdated_wfc_s: u32,
    /// Keep waiting although the connection is StandAlone.
    pub wait_after_sb: bool,
}

impl Op {
    /// Whether it waits for something that need not come.
    pub fn is_wait(&self) -> bool {
        matches!(self, Op::WaitConnect { .. } | Op::WaitSync { .. })
    }

    /// Takes what has passed off the limits of a wait. (0 is none, so that a second is left.)
    pub(crate) fn has_waited(&mut self, passed: Duration) {
        let (Op::WaitConnect { times, .. } | Op::WaitSync { times, .. }) = self else {
            return;
        };
        let passed_s = u32::try_from(passed.as_secs()).unwrap_or(u32::MAX);
        for limit_s in [
            &mut times.wfc_s,
            &mut times.degr_wfc_s,
            &mut times.outdated_wfc_s,
        ] {
            if *limit_s > 0 {
                *limit_s = limit_s.saturating_sub(passed_s).max(1);
            }
        }
    }
}

/// An operation with the number that its reply carries.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Chosen by the client.
    pub id: u64,
    /// What is asked.
    pub op: Op,
}

/// Why a line is no request.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// The line is no JSON object.
    #[error("the request is not a JSON object: {reason}")]
    NotJson {
        /// Where and what, by the JSON parser.
        reason: String,
    },
    /// A member of the object is missing, of the wrong type, or unknown.
    #[error("the request's {reason}")]
    Member {
        /// The request's id, if that much was readable.
        id: Option<u64>,
        /// Which and why.
        reason: String,
    },
    /// An operation that this daemon does not have.
    #[error("unknown operation '{op}'")]
    UnknownOp {
        /// The request's id.
        id: u64,
        /// The operation asked for.
        op: String,
    },
    /// The operation's arguments are wrong.
    #[error("the arguments of '{op}' are wrong: {reason}")]
    Arguments {
        /// The request's id.
        id: u64,
        /// The operation.
        op: String,
        /// Which and why.
        reason: String,
    },
}

impl BadRequest {
    /// The id to answer with; 0 if the line had none.
    pub fn id(&self) -> u64 {
        match self {
            BadRequest::NotJson { .. } => 0,
            BadRequest::Member { id, .. } => id.unwrap_or(0),
            BadRequest::UnknownOp { id, .. } | BadRequest::Arguments { id, .. } => *id,
        }
    }
}

impl Request {
    /// Reads one line.
    ///
    /// # Errors
    /// [`BadRequest`] says what is wrong with the line; it also carries the id to answer with.
    pub fn parse(line: &[u8]) -> Result<Request, BadRequest> {
        let value: Value = serde_json::from_slice(line).map_err(|e| BadRequest::NotJson {
            reason: e.to_string(),
        })?;
        let Value::Object(mut members) = value else {
            return Err(BadRequest::NotJson {
                reason: "it is another JSON value".to_owned(),
            });
        };
        let id = members.remove("id").and_then(|id| id.as_u64());
        let member = |reason: String| BadRequest::Member { id, reason };
        let Some(id) = id else {
            return Err(member("'id' is missing or not a number".to_owned()));
        };
        let Some(Value::String(op)) = members.remove("op") else {
            return Err(member("'op' is missing or not a string".to_owned()));
        };
        let args = members.remove("args");
        if let Some(name) = members.keys().next() {
            return Err(member(format!("member '{name}' is unknown")));
        }
        if !NAMES.contains(&op.as_str()) {
            return Err(BadRequest::UnknownOp { id, op });
        }
        let mut tagged = serde_json::Map::new();
        tagged.insert("op".to_owned(), Value::String(op.clone()));
        if let Some(args) = args {
            tagged.insert("args".to_owned(), args);
        }
        let op =
            serde_json::from_value(Value::Object(tagged)).map_err(|e| BadRequest::Arguments {
                id,
                op,
                reason: e.to_string(),
            })?;
        Ok(Request { id, op })
    }

    /// The request as a line, newline included.
    pub fn to_line(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Line<'a> {
            id: u64,
            #[serde(flatten)]
            op: &'a Op,
        }
        line_of(&Line {
            id: self.id,
            op: &self.op,
        })
    }
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The request's id.
    pub id: u64,
    /// How it went.
    #[serde(flatten)]
    pub body: ReplyBody,
}

/// How a request went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplyBody {
    /// Done; the operation's report, or null.
    Ok(Value),
    /// Not done, for DRBD's reasons.
    Refused(Refusal),
    /// Not done: the request itself was wrong, or something happened that DRBD has no number for.
    Error(String),
}

impl Reply {
    /// The reply as a line, newline included.
    pub fn to_line(&self) -> Vec<u8> {
        line_of(self)
    }
}

fn line_of(value: &impl Serialize) -> Vec<u8> {
    let mut line =
        serde_json::to_vec(value).expect("our own types are plain values with string keys");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_is_gone_on_with_has_less_time_and_never_suddenly_none() {
        let times = WaitTimes {
            wfc_s: 0,
            degr_wfc_s: 30,
            outdated_wfc_s: 5,
            wait_after_sb: true,
        };
        let minor = 0;
        let mut op = Op::WaitConnect { minor, times };
        op.has_waited(Duration::from_millis(9_900));
        let left = WaitTimes {
            wfc_s: 0,
            degr_wfc_s: 21,
            outdated_wfc_s: 1,
            wait_after_sb: true,
        };
        let times = left;
        assert_eq!(op, Op::WaitConnect { minor, times });
    }

    #[expect(clippy::too_many_lines, reason = "a table: one row an operation")]
    fn every_op() -> Vec<Op> {
        let resource = || "r0".to_owned();
        let minor = 0;
        let times = WaitTimes {
            wfc_s: 1,
            degr_wfc_s: 2,
            outdated_wfc_s: 3,
            wait_after_sb: true,
        };
        let address = "127.0.0.1:7789".parse().unwrap();
        vec![
            Op::Hello { protocol: 1 },
            Op::NewResource {
                resource: resource(),
                options: ResourceOptions::default(),
                handlers: HandlersShown::default(),
            },
            Op::NewMinor {
                resource: resource(),
                volume: 0,
                minor,
                implicit: true,
                old_name: true,
            },
            Op::Attach {
                minor,
                data: "/dev/sda1".into(),
                meta: MetaDisk::Indexed("/dev/sdb".into(), 3),
                options: DiskOptions::default(),
            },
            Op::Detach { minor, force: true },
            Op::Connect {
                resource: resource(),
                local: address,
                peer: address,
                options: NetOptions::default(),
                discard_my_data: true,
                tentative: false,
            },
            Op::Disconnect {
                resource: resource(),
                force: false,
            },
            Op::Primary { minor, force: true },
            Op::Secondary { minor },
            Op::Invalidate { minor },
            Op::InvalidateRemote { minor },
            Op::Verify {
                minor,
                part: VerifyPart {
                    start: Some(8),
                    stop: None,
                },
            },
            Op::Outdate { minor },
            Op::NewCurrentUuid {
                minor,
                clear_bitmap: true,
            },
            Op::PauseSync { minor },
            Op::ResumeSync { minor },
            Op::SuspendIo { minor },
            Op::ResumeIo { minor },
            Op::Snapshot {
                resource: resource(),
                name: "daily".to_owned(),
                exec: Some("/bin/true".to_owned()),
                limit_s: 30,
                local_only: true,
            },
            Op::DiskOptions {
                minor,
                options: DiskOptions::default(),
            },
            Op::NetOptions {
                resource: resource(),
                options: NetOptions::default(),
            },
            Op::ResourceOptions {
                resource: resource(),
                options: ResourceOptions::default(),
                handlers: HandlersShown::default(),
            },
            Op::DelMinor { minor },
            Op::DelResource {
                resource: resource(),
            },
            Op::Down {
                resource: resource(),
            },
            Op::Status,
            Op::StatusOf {
                resource: resource(),
            },
            Op::Events {
                resource: Some(resource()),
                figures: true,
            },
            Op::Show,
            Op::HasDisk { minor },
            Op::GetGi { minor },
            Op::Evidence {
                resource: resource(),
            },
            Op::WaitConnect { minor, times },
            Op::WaitSync { minor, times },
            Op::Shutdown,
            Op::Restart {
                program: Some("/usr/sbin/rdbd".into()),
                force: true,
            },
            Op::Takeover,
        ]
    }

    #[test]
    fn every_operation_survives_the_line() {
        let ops = every_op();
        assert_eq!(ops.len(), NAMES.len());
        for (op, name) in ops.into_iter().zip(NAMES) {
            let request = Request { id: 7, op };
            let line = request.to_line();
            assert_eq!(line.last(), Some(&b'\n'));
            let text = String::from_utf8(line.clone()).unwrap();
            assert!(text.contains(&format!("\"op\":\"{name}\"")), "{text}");
            assert_eq!(request.op.name(), *name);
            assert_eq!(Request::parse(&line), Ok(request));
        }
    }

    #[test]
    fn a_wrong_line_is_answered_with_what_is_wrong() {
        for (line, id, words) in [
            ("", 0, "not a JSON object"),
            ("{\"id\":1,", 0, "not a JSON object"),
            ("[1]", 0, "not a JSON object"),
            ("{\"op\":\"status\"}", 0, "'id' is missing"),
            (
                "{\"id\":-1,\"op\":\"status\"}",
                0,
                "'id' is missing or not a number",
            ),
            ("{\"id\":2,\"op\":5}", 2, "'op' is missing or not a string"),
            (
                "{\"id\":2,\"op\":\"status\",\"extra\":1}",
                2,
                "member 'extra' is unknown",
            ),
            (
                "{\"id\":3,\"op\":\"explode\"}",
                3,
                "unknown operation 'explode'",
            ),
            (
                "{\"id\":4,\"op\":\"primary\",\"args\":{\"minor\":0}}",
                4,
                "missing field `force`",
            ),
            (
                "{\"id\":5,\"op\":\"primary\",\"args\":{\"minor\":0,\"force\":true,\"forse\":1}}",
                5,
                "unknown field `forse`",
            ),
            (
                "{\"id\":6,\"op\":\"new-minor\",\"args\":{\"resource\":\"a\",\"volume\":70000,\"minor\":0}}",
                6,
                "70000",
            ),
            ("{\"id\":7,\"op\":\"primary\"}", 7, "args"),
        ] {
            let error = Request::parse(line.as_bytes()).expect_err(line);
            assert_eq!(error.id(), id, "{line}");
            assert!(error.to_string().contains(words), "{line}: {error}");
        }
    }

    #[test]
    fn a_reply_survives_the_line() {
        for body in [
            ReplyBody::Ok(Value::Null),
            ReplyBody::Refused(Refusal::failure(127, "unknown minor")),
            ReplyBody::Error("no".to_owned()),
        ] {
            let reply = Reply { id: 9, body };
            assert_eq!(
                serde_json::from_slice::<Reply>(&reply.to_line()).unwrap(),
                reply
            );
        }
    }
}
