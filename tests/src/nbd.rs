//! A small NBD client (fixed newstyle, simple replies), as the NBD protocol document describes it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;
const TRIM: u16 = 4;
const WRITE_ZEROES: u16 = 6;

/// `NBD_CMD_FLAG_FUA`.
pub const FUA: u16 = 1;

/// A connection in transmission.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    size: u64,
    flags: u16,
    next: u64,
}

/// What the server answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// The request's handle.
    pub handle: u64,
    /// 0, or an NBD error number.
    pub error: u32,
}

impl Client {
    /// Connects and asks for the export (`NBD_OPT_GO`).
    ///
    /// # Errors
    /// When there is no socket, no such export, or a reply that the protocol does not know.
    pub fn connect(socket: &Path, export: &str) -> Result<Self> {
        let mut stream = UnixStream::connect(socket)
            .with_context(|| format!("cannot connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting)?;
        if &greeting[..16] != b"NBDMAGICIHAVEOPT" {
            bail!("the server greets with {greeting:02x?}");
        }
        // Fixed newstyle, no zeroes.
        stream.write_all(&3u32.to_be_bytes())?;
        let mut option = b"IHAVEOPT".to_vec();
        option.extend(7u32.to_be_bytes());
        option.extend(u32::try_from(export.len() + 6)?.to_be_bytes());
        option.extend(u32::try_from(export.len())?.to_be_bytes());
        option.extend(export.as_bytes());
        option.extend(0u16.to_be_bytes());
        stream.write_all(&option)?;
        let (mut size, mut flags) = (0, 0);
        loop {
            let mut head = [0; 20];
            stream.read_exact(&mut head)?;
            if head[..8] != 0x0003_e889_0455_65a9u64.to_be_bytes() {
                bail!("no option reply: {head:02x?}");
            }
            let kind = be32(&head[12..16]);
            let mut data = vec![0; be32(&head[16..20]) as usize];
            stream.read_exact(&mut data)?;
            match kind {
                1 => break,
                3 if data.len() >= 12 && data[..2] == [0, 0] => {
                    size = be64(&data[2..10]);
                    flags = u16::from_be_bytes([data[10], data[11]]);
                }
                3 => {}
                _ => bail!(
                    "export {export:?} refused: {kind:#x} {}",
                    String::from_utf8_lossy(&data)
                ),
            }
        }
        Ok(Self {
            stream,
            size,
            flags,
            next: 1,
        })
    }

    /// The export's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its transmission flags.
    #[must_use]
    pub fn flags(&self) -> u16 {
        self.flags
    }

    /// Sends a request without waiting; returns its handle.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn send(
        &mut self,
        command: u16,
        flags: u16,
        offset: u64,
        length: u32,
        data: &[u8],
    ) -> io::Result<u64> {
        let handle = self.next;
        self.next += 1;
        let mut request = Vec::with_capacity(28 + data.len());
        request.extend(0x2560_9513u32.to_be_bytes());
        request.extend(flags.to_be_bytes());
        request.extend(command.to_be_bytes());
        request.extend(handle.to_be_bytes());
        request.extend(offset.to_be_bytes());
        request.extend(length.to_be_bytes());
        request.extend(data);
        self.stream.write_all(&request)?;
        Ok(handle)
    }

    /// Sends a write without waiting for its reply.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn send_write(&mut self, offset: u64, data: &[u8], flags: u16) -> io::Result<u64> {
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        self.send(WRITE, flags, offset, length, data)
    }

    /// Takes the next reply of a request that returns no data.
    ///
    /// # Errors
    /// When the connection fails or the reply is not one.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut head = [0; 16];
        self.stream.read_exact(&mut head)?;
        if be32(&head[..4]) != 0x6744_6698 {
            return Err(io::Error::other(format!("no simple reply: {head:02x?}")));
        }
        Ok(Reply {
            error: be32(&head[4..8]),
            handle: be64(&head[8..16]),
        })
    }

    fn finish(&mut self, handle: u64, what: &str) -> Result<()> {
        let reply = self.reply().with_context(|| what.to_owned())?;
        if reply.handle != handle {
            bail!("{what}: reply to {} instead of {handle}", reply.handle);
        }
        if reply.error != 0 {
            bail!("{what}: NBD error {}", reply.error);
        }
        Ok(())
    }

    /// Reads.
    ///
    /// # Errors
    /// When the connection fails or the server refuses.
    pub fn read(&mut self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let handle = self.send(READ, 0, offset, u32::try_from(length)?, &[])?;
        self.finish(handle, &format!("read of {length} at {offset}"))?;
        let mut data = vec![0; length];
        self.stream.read_exact(&mut data)?;
        Ok(data)
    }

    /// Writes.
    ///
    /// # Errors
    /// When the connection fails or the server refuses.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        let handle = self.send_write(offset, data, 0)?;
        self.finish(handle, &format!("write of {} at {offset}", data.len()))
    }

    /// Writes zeroes.
    ///
    /// # Errors
    /// When the connection fails or the server refuses.
    pub fn write_zeroes(&mut self, offset: u64, length: u32) -> Result<()> {
        let handle = self.send(WRITE_ZEROES, 0, offset, length, &[])?;
        self.finish(handle, &format!("write-zeroes of {length} at {offset}"))
    }

    /// Discards.
    ///
    /// # Errors
    /// When the connection fails or the server refuses.
    pub fn trim(&mut self, offset: u64, length: u32) -> Result<()> {
        let handle = self.send(TRIM, 0, offset, length, &[])?;
        self.finish(handle, &format!("trim of {length} at {offset}"))
    }

    /// Flushes.
    ///
    /// # Errors
    /// When the connection fails or the server refuses.
    pub fn flush(&mut self) -> Result<()> {
        let handle = self.send(FLUSH, 0, 0, 0, &[])?;
        self.finish(handle, "flush")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.send(DISCONNECT, 0, 0, 0, &[]);
    }
}

fn be32(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .take(4)
        .fold(0, |value, &byte| value << 8 | u32::from(byte))
}

fn be64(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .take(8)
        .fold(0, |value, &byte| value << 8 | u64::from(byte))
}
