//! A loop device whose disk is memory, over FUSE: how [`Session`] is driven, at its simplest.
//!
//! `fuse_mem DIRECTORY [SIZE_MIB]` mounts on the directory, prints the loop device, and serves until its
//! standard input ends; then it detaches and unmounts, or says who still uses the device.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::ExitCode;

use rdb_frontend::fuse::{MESSAGE_SIZE_MAX, Root, Session, Step, mount};
use rdb_frontend::loopdev::{AttachOptions, LoopDevice};
use rdb_frontend::{DeviceInfo, Op, Request};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(directory) = arguments.first() else {
        eprintln!("usage: fuse_mem DIRECTORY [SIZE_MIB]");
        return ExitCode::from(2);
    };
    let size_mib = arguments
        .get(1)
        .and_then(|size| size.parse().ok())
        .unwrap_or(64);
    match run(Path::new(directory), size_mib) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fuse_mem: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(directory: &Path, size_mib: usize) -> Result<(), Box<dyn std::error::Error>> {
    let info = DeviceInfo {
        size_bytes: (size_mib as u64) << 20,
        minimum_block: 512,
        preferred_block: 4096,
        maximum_request: 1 << 20,
        can_trim: false,
        can_zero: true,
        read_only: false,
    };
    mount::clear_stale(directory)?;
    let (connection, mounted) = mount::mount(directory, mount::Kind::Directory, "rdb:mem/0")?;
    let root = Root::Directory {
        file_name: "image".to_owned(),
    };
    let mut server = Server {
        connection: connection.into(),
        session: Session::new(info, root),
        disk: vec![0; size_mib << 20],
        trimmed: 0,
        flushed: 0,
    };
    // The thread that serves must not be the one that attaches: attaching reads the served file.
    let thread = std::thread::spawn(move || {
        let ended = server.run();
        (ended, server.trimmed, server.flushed)
    });
    let options = AttachOptions {
        block_size: 512,
        read_only: false,
    };
    let device = LoopDevice::attach(&directory.join("image"), options)?;
    println!("{}", device.path().display());
    io::stdin().read_to_end(&mut Vec::new())?;
    device.detach()?;
    mounted.unmount()?;
    let (ended, trimmed, flushed) = thread.join().map_err(|_| "the server panicked")?;
    ended?;
    println!("trimmed {trimmed} flushed {flushed}");
    Ok(())
}

struct Server {
    connection: File,
    session: Session,
    disk: Vec<u8>,
    /// Bytes.
    trimmed: u64,
    /// Requests.
    flushed: u64,
}

impl Server {
    fn run(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; MESSAGE_SIZE_MAX];
        loop {
            wait_readable(&self.connection)?;
            let length = match self.connection.read(&mut buffer) {
                Ok(length) => length,
                Err(error) => match error.raw_os_error() {
                    Some(libc::ENODEV) => return Ok(()),
                    Some(libc::EAGAIN | libc::EINTR | libc::ENOENT) => continue,
                    _ => return Err(error),
                },
            };
            let message = &buffer[..length];
            match self.session.advance(message).map_err(io::Error::other)? {
                Step::Reply(reply) | Step::Released(reply) => self.send(reply.as_bytes())?,
                Step::Request { request, payload } => {
                    let data = self.execute(&request, &message[payload]);
                    let mut reply = self
                        .session
                        .reply_header(&request, Ok(()))
                        .as_bytes()
                        .to_vec();
                    reply.extend_from_slice(&data);
                    self.send(&reply)?;
                }
                Step::Nothing => {}
                Step::Destroyed => return Ok(()),
            }
        }
    }

    fn execute(&mut self, request: &Request, payload: &[u8]) -> Vec<u8> {
        let start = request.offset as usize;
        let range = start..start + request.length as usize;
        match request.op {
            Op::Read => return self.disk[range].to_vec(),
            Op::Write => self.disk[range].copy_from_slice(payload),
            Op::WriteZeroes { may_unmap } => {
                self.disk[range].fill(0);
                self.trimmed += if may_unmap {
                    u64::from(request.length)
                } else {
                    0
                };
            }
            Op::Flush => self.flushed += 1,
            Op::Trim | Op::Cache => {}
        }
        Vec::new()
    }

    fn send(&mut self, reply: &[u8]) -> io::Result<()> {
        match self.connection.write(reply) {
            // Whoever asked was killed meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Err(error) => Err(error),
            Ok(written) if written == reply.len() => Ok(()),
            Ok(_) => Err(io::Error::other("a reply was cut short")),
        }
    }
}

fn wait_readable(file: &File) -> io::Result<()> {
    let mut polled = libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one initialised entry that outlives the call.
    match unsafe { libc::poll(&mut polled, 1, -1) } {
        -1 if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted => {
            Err(io::Error::last_os_error())
        }
        _ => Ok(()),
    }
}
