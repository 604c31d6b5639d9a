//! Hashes by the names of the kernel: docs/spec/wire.md, section 7.10.
//!
//! They are used unkeyed, over data bytes only, for data-integrity-alg, verify-alg and csums-alg. The two checksums are
//! stored little-endian, and `crc32` is not the one of zip: it starts at zero and is not inverted at the end.

use alloc::boxed::Box;
use core::fmt;

use sha2::Digest as _;

/// Bytes of the longest digest (SHA-512).
pub const MAX_DIGEST_LEN: usize = 64;

/// A digest, 1 to 64 bytes. (Not in place: packets and events, which carry one now and then, are moved at every write.)
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Digest(Box<[u8]>);

impl Digest {
    /// A digest of these bytes; `None` if there are none or more than 64.
    #[must_use]
    pub fn from_slice(digest: &[u8]) -> Option<Self> {
        let fits = !digest.is_empty() && digest.len() <= MAX_DIGEST_LEN;
        fits.then(|| Self(digest.into()))
    }

    /// `len` zero bytes: what K answers when it cannot read the block to be verified
    /// (docs/spec/wire.md, section 10.7). `None` as for [`Digest::from_slice`].
    #[must_use]
    pub fn zeros(len: usize) -> Option<Self> {
        Self::from_slice([0; MAX_DIGEST_LEN].get(..len)?)
    }

    /// The digest's bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Number of bytes, 1 to 64.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // it never is
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(")?;
        for byte in self.as_slice() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// A name that is not one of the hashes we have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no such hash algorithm; there are crc32c, crc32, md5, sha1, sha224, sha256, sha384, sha512"
)]
pub struct UnknownAlgorithm;

/// A hash algorithm of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DigestAlgorithm {
    /// CRC-32C (Castagnoli), 4 bytes, little-endian.
    Crc32c,
    /// Linux's `crc32`: polynomial 0xEDB88320 reflected, starting at 0, not inverted; 4 bytes, little-endian.
    Crc32,
    /// MD5, 16 bytes.
    Md5,
    /// SHA-1, 20 bytes.
    Sha1,
    /// SHA-224, 28 bytes.
    Sha224,
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-384, 48 bytes.
    Sha384,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl DigestAlgorithm {
    /// Every algorithm.
    pub const ALL: &[Self] = &[
        Self::Crc32c,
        Self::Crc32,
        Self::Md5,
        Self::Sha1,
        Self::Sha224,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
    ];

    /// The algorithm with this kernel name.
    ///
    /// # Errors
    /// [`UnknownAlgorithm`] for any other name, the empty one included.
    pub fn from_name(name: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL
            .iter()
            .copied()
            .find(|alg| alg.name() == name)
            .ok_or(UnknownAlgorithm)
    }

    /// The kernel's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crc32c => "crc32c",
            Self::Crc32 => "crc32",
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Bytes of its digests.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // it never is
    pub const fn len(self) -> usize {
        match self {
            Self::Crc32c | Self::Crc32 => 4,
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The digest of `data`.
    #[must_use]
    pub fn digest(self, data: &[u8]) -> Digest {
        let bytes: Box<[u8]> = match self {
            Self::Crc32c => crc32c::crc32c(data).to_le_bytes()[..].into(),
            Self::Crc32 => crc32_linux(data).to_le_bytes()[..].into(),
            Self::Md5 => md5::Md5::digest(data)[..].into(),
            Self::Sha1 => sha1::Sha1::digest(data)[..].into(),
            Self::Sha224 => sha2::Sha224::digest(data)[..].into(),
            Self::Sha256 => sha2::Sha256::digest(data)[..].into(),
            Self::Sha384 => sha2::Sha384::digest(data)[..].into(),
            Self::Sha512 => sha2::Sha512::digest(data)[..].into(),
        };
        Digest(bytes)
    }
}

impl fmt::Display for DigestAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// `TABLES[k][b]`: what byte `b` contributes to the remainder when `k` more bytes follow it.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ POLYNOMIAL
            } else {
                crc >> 1
            };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[k - 1][byte];
            tables[k][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        k += 1;
    }
    tables
}

fn crc32_linux(data: &[u8]) -> u32 {
    let (chunks, rest) = data.as_chunks::<8>();
    let mut crc = 0;
    for chunk in chunks {
        let mixed = u64::from_le_bytes(*chunk) ^ u64::from(crc);
        crc = 0;
        for (table, byte) in TABLES.iter().rev().zip(mixed.to_le_bytes()) {
            crc ^= table[usize::from(byte)];
        }
    }
    for byte in rest {
        crc = crc >> 8 ^ TABLES[0][usize::from((crc as u8) ^ byte)]; // the low byte is meant
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    fn check(name: &str, data: &[u8], expected: &[u8]) {
        let algorithm = DigestAlgorithm::from_name(name).unwrap();
        let digest = algorithm.digest(data);
        assert_eq!(digest.as_slice(), expected, "{name}");
        assert_eq!(
            (digest.len(), algorithm.len()),
            (expected.len(), expected.len())
        );
        assert_eq!(algorithm.name(), name);
    }

    #[test]
    fn values_of_the_spec() {
        let data = [0xab; 4096];
        check("crc32c", &data, &hex!("93413794"));
        check("crc32", &data, &hex!("1a5c656f"));
        check("md5", &data, &hex!("1696b8fe138e867797eb6683cf13d99c"));
        check(
            "sha1",
            &data,
            &hex!("81acc7725860d18cbf7862fe494ba0e35392c517"),
        );
        check("crc32c", b"123456789", &hex!("839206e3"));
        check("crc32", b"123456789", &hex!("882dfd2d"));
    }

    /// Check values of FIPS 180-4 for "abc".
    #[test]
    fn values_of_the_standard() {
        check(
            "sha1",
            b"abc",
            &hex!("a9993e364706816aba3e25717850c26c9cd0d89d"),
        );
        check(
            "sha224",
            b"abc",
            &hex!("23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
        );
        check(
            "sha256",
            b"abc",
            &hex!("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        );
        check(
            "sha384",
            b"abc",
            &hex!(
                "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
                "8086072ba1e7cc2358baeca134c825a7"
            ),
        );
        check(
            "sha512",
            b"abc",
            &hex!(
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
            ),
        );
    }

    #[test]
    fn other_names_are_unknown() {
        for name in [
            "",
            "sha",
            "SHA1",
            "sha1 ",
            "crc32 ",
            "hmac(sha1)",
            "sha3-256",
        ] {
            assert_eq!(
                DigestAlgorithm::from_name(name),
                Err(UnknownAlgorithm),
                "{name}"
            );
        }
    }

    #[test]
    fn a_digest_has_1_to_64_bytes() {
        assert_eq!(Digest::from_slice(&[]), None);
        assert_eq!(Digest::from_slice(&[0; 65]), None);
        assert_eq!(Digest::zeros(65), None);
        assert_eq!(Digest::zeros(4), Digest::from_slice(&[0; 4]));
        assert_ne!(Digest::zeros(4), Digest::zeros(5));
        assert_eq!(
            alloc::format!("{:?}", Digest::from_slice(&[1, 0xab]).unwrap()),
            "Digest(01ab)"
        );
    }

    /// Linux's crc32 starts at zero and is not inverted.
    #[test]
    fn pitfall_30_crc32_is_not_that_of_zip() {
        let zip = 0xcbf4_3926_u32; // the check value of the zip CRC for 123456789
        assert_ne!(
            DigestAlgorithm::Crc32.digest(b"123456789").as_slice(),
            zip.to_le_bytes()
        );
        assert_eq!(DigestAlgorithm::Crc32.digest(&[0; 4096]).as_slice(), [0; 4]);
    }

    proptest! {
        #[test]
        fn fast_crc32_agrees_with_one_bit_at_a_time(data in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut crc = 0u32;
            for byte in &data {
                crc ^= u32::from(*byte);
                for _ in 0..8 {
                    crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
                }
            }
            prop_assert_eq!(crc32_linux(&data), crc);
        }
    }
}
