//! A small NBD client: old export-name handshake, simple replies.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub(super) const READ: u16 = 0;
pub(super) const WRITE: u16 = 1;
pub(super) const DISC: u16 = 2;
pub(super) const FLUSH: u16 = 3;
pub(super) const TRIM: u16 = 4;
pub(super) const ZEROES: u16 = 6;
pub(super) const FUA: u16 = 1;

pub(super) struct Client {
    pub(super) stream: UnixStream,
    pub(super) size: u64,
    cookie: u64,
}

impl Client {
    pub(super) fn connect(path: &Path) -> io::Result<Client> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting)?;
        assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
        stream.write_all(&3_u32.to_be_bytes())?;
        stream.write_all(b"IHAVEOPT")?;
        stream.write_all(&1_u32.to_be_bytes())?;
        stream.write_all(&0_u32.to_be_bytes())?;
        let mut export = [0; 10];
        stream.read_exact(&mut export)?;
        let size = u64::from_be_bytes(export[..8].try_into().expect("eight bytes"));
        Ok(Client {
            stream,
            size,
            cookie: 0,
        })
    }

    /// The driver's end of a connection of the kernel's client, which does not negotiate, and the server's.
    pub(super) fn kernel(size: u64) -> (Client, OwnedFd) {
        let (stream, server) = UnixStream::pair().expect("a pair");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a timeout");
        let client = Client {
            stream,
            size,
            cookie: 0,
        };
        (client, server.into())
    }

    /// The same connection, for another thread.
    pub(super) fn twin(&self) -> Client {
        let stream = self.stream.try_clone().expect("a copy of a descriptor");
        Client {
            stream,
            size: self.size,
            cookie: self.cookie,
        }
    }

    pub(super) fn send(
        &mut self,
        (flags, kind): (u16, u16),
        offset: u64,
        length: u32,
        data: &[u8],
    ) -> u64 {
        self.cookie += 1;
        let mut bytes = Vec::with_capacity(28 + data.len());
        bytes.extend_from_slice(&0x2560_9513_u32.to_be_bytes());
        bytes.extend_from_slice(&flags.to_be_bytes());
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&self.cookie.to_be_bytes());
        bytes.extend_from_slice(&offset.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(data);
        self.stream.write_all(&bytes).expect("the server reads");
        self.cookie
    }

    /// The next reply: error and cookie.
    pub(super) fn reply(&mut self) -> (u32, u64) {
        let mut reply = [0; 16];
        self.stream.read_exact(&mut reply).expect("a reply");
        assert_eq!(reply[..4], 0x6744_6698_u32.to_be_bytes());
        let error = u32::from_be_bytes(reply[4..8].try_into().expect("four bytes"));
        (
            error,
            u64::from_be_bytes(reply[8..].try_into().expect("eight bytes")),
        )
    }

    pub(super) fn ask(&mut self, what: (u16, u16), offset: u64, length: u32, data: &[u8]) -> u32 {
        let cookie = self.send(what, offset, length, data);
        let (error, echoed) = self.reply();
        assert_eq!(echoed, cookie);
        error
    }

    pub(super) fn read(&mut self, offset: u64, length: u32) -> Vec<u8> {
        assert_eq!(
            self.ask((0, READ), offset, length, &[]),
            0,
            "read at {offset}"
        );
        let mut data = vec![0; length as usize];
        self.stream.read_exact(&mut data).expect("the data");
        data
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        assert_eq!(
            self.ask((0, WRITE), offset, data.len() as u32, data),
            0,
            "write at {offset}"
        );
    }
}
