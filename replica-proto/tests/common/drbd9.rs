//! The captures of DRBD 9.3.3 and rdb: `captures/drbd9`.

use std::collections::BTreeMap;
use std::path::Path;

use replica_proto::{Features, ProtocolVersion, Socket, WireContext, decode};

use super::{Seen, captures_in, connections_of_part, starts_with_h80, walk};

/// One direction of a connection in one capture.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub capture: String,
    pub from: String,
    pub to: String,
    pub is_of_drbd: bool,
    pub socket: Socket,
    pub packets: Vec<Seen>,
}

/// All that was said, in the order of the captures, which lie in this folder.
pub(crate) fn all(folder: &str) -> Vec<Told> {
    let agreed = WireContext::agreed(ProtocolVersion(101), Features::all());
    // The run goes on over several captures: a connection's socket is that of its first packet, which may lie in an
    // earlier one.
    let mut opened: BTreeMap<[String; 2], (Socket, bool)> = BTreeMap::new();
    let mut all = Vec::new();
    let captures = captures_in(folder);
    assert_eq!(captures.len(), 10);
    for path in captures {
        for connection in connections_of_part(&path) {
            let opener = &connection[0];
            if opener.is_whole && starts_with_h80(&opener.bytes) {
                let first = decode(&WireContext::initial(), Socket::Data, &opener.bytes);
                let socket = first.unwrap().unwrap().packet.socket();
                // Who is called at the driver's port is the driver; who calls at rdb's port is the driver, too.
                let is_by_drbd = opener.to == "127.0.0.1:7790";
                for from_opener in [true, false] {
                    let ends = if from_opener {
                        [opener.from.clone(), opener.to.clone()]
                    } else {
                        [opener.to.clone(), opener.from.clone()]
                    };
                    opened.insert(ends, (socket, from_opener == is_by_drbd));
                }
            }
            for stream in connection.iter().filter(|stream| !stream.bytes.is_empty()) {
                let ends = [stream.from.clone(), stream.to.clone()];
                let (socket, is_of_drbd) = opened[&ends];
                all.push(Told {
                    capture: name(&path),
                    from: stream.from.clone(),
                    to: stream.to.clone(),
                    is_of_drbd,
                    socket,
                    packets: walk(stream, socket, agreed),
                });
            }
        }
    }
    all
}

/// The name of a file.
pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}
