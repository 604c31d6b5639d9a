//! Backing disks that are files: making, reading, comparing them.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// A sparse file of this size.
///
/// # Errors
/// When it cannot be made.
pub fn create(path: &Path, bytes: u64) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    file.set_len(bytes)?;
    Ok(())
}

/// Where the data of a disk with internal metadata of the default log ends, in bytes
/// (`docs/spec/metadata.md`, section 1.2).
#[must_use]
pub fn data_end(bytes: u64) -> u64 {
    let sectors = bytes / 512;
    let superblock = sectors - sectors % 8 - 8;
    let bitmap = 8 * sectors.div_ceil(262_144);
    (superblock - 64 - bitmap) * 512
}

/// Where the superblock of internal metadata begins, in bytes.
#[must_use]
pub fn superblock(bytes: u64) -> u64 {
    let sectors = bytes / 512;
    (sectors - sectors % 8 - 8) * 512
}

/// Compares the first `bytes` of two disks.
///
/// # Errors
/// When they differ, naming the first block of 4096 bytes that does and how many do.
pub fn compare(one: &Path, other: &Path, bytes: u64) -> Result<()> {
    let (mut a, mut b) = (File::open(one)?, File::open(other)?);
    let mut left = bytes;
    let (mut x, mut y) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let (mut first, mut count) = (None, 0u64);
    while left > 0 {
        let part = usize::try_from(left.min(1 << 20))?;
        a.read_exact(&mut x[..part])?;
        b.read_exact(&mut y[..part])?;
        if x[..part] != y[..part] {
            for (index, (p, q)) in x[..part]
                .chunks(4096)
                .zip(y[..part].chunks(4096))
                .enumerate()
            {
                if p != q {
                    count += 1;
                    first.get_or_insert((bytes - left) / 4096 + index as u64);
                }
            }
        }
        left -= part as u64;
    }
    if let Some(first) = first {
        bail!(
            "{} and {} differ in {count} blocks of 4 KiB, the first is block {first}",
            one.display(),
            other.display()
        );
    }
    Ok(())
}

/// Reads a part of a disk.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    File::open(path)?.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Overwrites a part of a disk.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
    let file = File::options().write(true).open(path)?;
    file.write_all_at(bytes, offset)?;
    Ok(file.sync_all()?)
}

/// A number that changes with the content of the first `bytes`: to see that nothing was touched.
///
/// # Errors
/// When it cannot be read.
pub fn fingerprint(path: &Path, bytes: u64) -> Result<u64> {
    // FNV-1a over words; no protection against malice is wanted here.
    let mut file = File::open(path)?.take(bytes);
    let mut buffer = vec![0; 1 << 20];
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(hash);
        }
        for &byte in &buffer[..length] {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_layout_agrees_with_the_worked_examples() {
        // docs/spec/metadata.md, section 1.4
        assert_eq!(data_end(64 << 20), 67_067_904);
        assert_eq!(superblock(64 << 20), 67_104_768);
        assert_eq!(data_end((64 << 20) + 3 * 512), 67_067_904);
        assert_eq!(data_end(1 << 30), 1_073_672_192);
        assert_eq!(data_end(1 << 40), 1_099_478_036_480);
    }
}
