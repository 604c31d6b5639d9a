//! An NBD server over a unix socket whose disk is memory: how [`Session`] is driven, at its simplest.
//!
//! `nbd_mem SOCKET [SIZE_MIB] [read-only]`, then for example `nbdinfo 'nbd+unix:///mem/0?socket=SOCKET'`.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use rdb_frontend::nbd::{Exports, Session, Step};
use rdb_frontend::{DeviceInfo, Op, Request};

type Disk = Arc<Mutex<Vec<u8>>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(socket) = arguments.first() else {
        eprintln!("usage: nbd_mem SOCKET [SIZE_MIB] [read-only]");
        return ExitCode::from(2);
    };
    let size_mib = arguments
        .get(1)
        .and_then(|size| size.parse().ok())
        .unwrap_or(64);
    let read_only = arguments.get(2).is_some_and(|word| word == "read-only");
    match serve(socket, size_mib, read_only) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nbd_mem: {socket}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(socket: &str, size_mib: usize, read_only: bool) -> io::Result<()> {
    let disk: Disk = Arc::new(Mutex::new(vec![0; size_mib << 20]));
    let mut exports = Exports::new("mem");
    exports.set(
        0,
        DeviceInfo {
            size_bytes: (size_mib as u64) << 20,
            minimum_block: 512,
            preferred_block: 4096,
            maximum_request: 1 << 20,
            can_trim: true,
            can_zero: true,
            read_only,
        },
    );
    let listener = UnixListener::bind(socket)?;
    for connection in listener.incoming() {
        let (connection, disk, exports) = (connection?, disk.clone(), exports.clone());
        std::thread::spawn(move || {
            if let Err(error) = converse(connection, &disk, &exports) {
                eprintln!("nbd_mem: {error}");
            }
        });
    }
    Ok(())
}

fn converse(mut connection: UnixStream, disk: &Disk, exports: &Exports) -> io::Result<()> {
    let mut session = Session::new();
    let mut input = Vec::new();
    let mut out = Vec::new();
    loop {
        let step = session.advance(exports, &input, &mut out);
        match step {
            Step::Consumed { consumed } => drop(input.drain(..consumed)),
            Step::NeedMore { bytes } => {
                connection.write_all(&out)?;
                out.clear();
                let mut chunk = vec![0; bytes - input.len()];
                match connection.read(&mut chunk)? {
                    0 => return Ok(()),
                    received => input.extend_from_slice(&chunk[..received]),
                }
            }
            Step::Wait => {
                connection.write_all(&out)?;
                out.clear();
            }
            Step::Request {
                consumed,
                request,
                payload_len,
                ..
            } => {
                input.drain(..consumed);
                let mut payload = vec![0; payload_len as usize];
                let buffered = input.len().min(payload.len());
                payload[..buffered].copy_from_slice(&input[..buffered]);
                input.drain(..buffered);
                connection.read_exact(&mut payload[buffered..])?;
                let data = execute(disk, &request, &payload);
                out.extend_from_slice(session.reply_header(&request, Ok(())).as_bytes());
                out.extend_from_slice(&data);
            }
            Step::Close { reason } => {
                if reason.is_orderly() {
                    // Who said goodbye may not wait for an answer.
                    let _ = connection.write_all(&out);
                } else {
                    eprintln!("nbd_mem: {reason}");
                    connection.write_all(&out)?;
                }
                return Ok(());
            }
        }
    }
}

/// Does what the session found to be in range.
fn execute(disk: &Disk, request: &Request, payload: &[u8]) -> Vec<u8> {
    let mut disk = disk.lock().expect("no holder panics");
    let start = request.offset as usize;
    let range = start..start + request.length as usize;
    match request.op {
        Op::Read => return disk[range].to_vec(),
        Op::Write => disk[range].copy_from_slice(payload),
        // A pattern, so that a client that takes a trim for zeroes is found out.
        Op::Trim => disk[range].fill(0xdb),
        Op::WriteZeroes { .. } => disk[range].fill(0),
        Op::Flush | Op::Cache => {}
    }
    Vec::new()
}
