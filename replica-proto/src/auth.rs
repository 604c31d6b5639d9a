//! Challenge and response with a shared secret: docs/spec/wire.md, section 4.
//!
//! Each side sends 64 random bytes in `P_AUTH_CHALLENGE`; the other answers `P_AUTH_RESPONSE` with the HMAC of them under
//! the shared secret. Random bytes, the test for a reflected challenge, and what follows a mismatch are the caller's.

use alloc::vec::Vec;

use hmac::{Hmac, Mac};

use crate::digest::{DigestAlgorithm, UnknownAlgorithm};

/// Bytes of the challenge that a node sends.
pub const CHALLENGE_LEN: usize = 64;
/// Bytes of the longest challenge that a node accepts.
pub const CHALLENGE_LEN_MAX: usize = 128;
/// Bytes of the longest shared secret, without a NUL.
pub const SECRET_LEN_MAX: usize = 63;

/// The algorithm of cram-hmac-alg: a cryptographic hash of the kernel, used as HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HmacAlgorithm(DigestAlgorithm);

macro_rules! with_mac {
    ($algorithm:expr, $secret:expr, |$mac:ident| $body:expr) => {
        match $algorithm {
            DigestAlgorithm::Md5 => with_mac!(@ md5::Md5, $secret, |$mac| $body),
            DigestAlgorithm::Sha1 => with_mac!(@ sha1::Sha1, $secret, |$mac| $body),
            DigestAlgorithm::Sha224 => with_mac!(@ sha2::Sha224, $secret, |$mac| $body),
            DigestAlgorithm::Sha256 => with_mac!(@ sha2::Sha256, $secret, |$mac| $body),
            DigestAlgorithm::Sha384 => with_mac!(@ sha2::Sha384, $secret, |$mac| $body),
            DigestAlgorithm::Sha512 => with_mac!(@ sha2::Sha512, $secret, |$mac| $body),
            DigestAlgorithm::Crc32c | DigestAlgorithm::Crc32 => {
                unreachable!("from_name makes no HMAC of a checksum")
            }
        }
    };
    (@ $hash:ty, $secret:expr, |$mac:ident| $body:expr) => {{
        let $mac = <Hmac<$hash> as Mac>::new_from_slice($secret)
            .expect("an HMAC takes a key of any length");
        $body
    }};
}

impl HmacAlgorithm {
    /// The algorithm with this kernel name: `md5`, `sha1`, `sha224`, `sha256`, `sha384` or `sha512`.
    ///
    /// # Errors
    /// [`UnknownAlgorithm`] for any other name; checksums are no keyed hashes.
    pub fn from_name(name: &str) -> Result<Self, UnknownAlgorithm> {
        match DigestAlgorithm::from_name(name)? {
            DigestAlgorithm::Crc32c | DigestAlgorithm::Crc32 => Err(UnknownAlgorithm),
            algorithm => Ok(Self(algorithm)),
        }
    }

    /// The kernel's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0.name()
    }

    /// Bytes of a response.
    #[must_use]
    pub const fn response_len(self) -> usize {
        self.0.len()
    }

    /// The response to a peer's challenge, all bytes of it as received.
    #[must_use]
    pub fn respond(self, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
        with_mac!(self.0, secret, |mac| {
            mac.chain_update(challenge).finalize().into_bytes().to_vec()
        })
    }

    /// Whether `response` answers `challenge`, our own. The time it takes does not depend on where they differ.
    #[must_use]
    pub fn verify(self, secret: &[u8], challenge: &[u8], response: &[u8]) -> bool {
        with_mac!(self.0, secret, |mac| {
            mac.chain_update(challenge).verify_slice(response).is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    fn challenges() -> ([u8; 64], [u8; 64]) {
        (
            core::array::from_fn(|i| i as u8),
            core::array::from_fn(|i| 0xff - i as u8),
        )
    }

    #[test]
    fn worked_example_of_the_spec() {
        let (of_a, of_b) = challenges();
        let sha256 = HmacAlgorithm::from_name("sha256").unwrap();
        let a_to_b = hex!("439230e0fd8cbf7fbee9b1d1331bba2c7707745e3a34ee0e6361805b6de39619");
        let b_to_a = hex!("d4eb444fc808bf729aa7780ec5bfdd2c98ad6858bdeef03dbb4b3705a9ccedd8");
        assert_eq!(sha256.respond(b"s3cr3t", &of_b), a_to_b);
        assert_eq!(sha256.respond(b"s3cr3t", &of_a), b_to_a);
        let sha1 = HmacAlgorithm::from_name("sha1").unwrap();
        let a_to_b = hex!("4f4bb797a4b97b8d381e254e6da3b1a81fe08e60");
        let b_to_a = hex!("eb4a70a778ebcf003c4b07f08d8663e4cf60b89e");
        assert_eq!(sha1.respond(b"s3cr3t", &of_b), a_to_b);
        assert_eq!(sha1.respond(b"s3cr3t", &of_a), b_to_a);
    }

    #[test]
    fn only_the_right_response_is_verified() {
        let (challenge, other) = challenges();
        for name in ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"] {
            let algorithm = HmacAlgorithm::from_name(name).unwrap();
            let response = algorithm.respond(b"secret", &challenge);
            assert_eq!(response.len(), algorithm.response_len());
            assert_eq!(algorithm.name(), name);
            assert!(algorithm.verify(b"secret", &challenge, &response));
            assert!(!algorithm.verify(b"Secret", &challenge, &response));
            assert!(!algorithm.verify(b"secret", &other, &response));
            assert!(!algorithm.verify(b"secret", &challenge, &response[1..]));
            assert!(!algorithm.verify(b"secret", &challenge, &[]));
            for i in 0..response.len() {
                let mut wrong = response.clone();
                wrong[i] ^= 1;
                assert!(!algorithm.verify(b"secret", &challenge, &wrong));
            }
        }
    }

    /// RFC 2202 and RFC 4231, test case 2.
    #[test]
    fn values_of_the_standards() {
        for (name, expected) in [
            ("md5", &hex!("750c783e6ab0b503eaa86e310a5db738")[..]),
            ("sha1", &hex!("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79")),
            (
                "sha256",
                &hex!("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            ),
        ] {
            let algorithm = HmacAlgorithm::from_name(name).unwrap();
            assert_eq!(
                algorithm.respond(b"Jefe", b"what do ya want for nothing?"),
                expected
            );
        }
    }

    #[test]
    fn checksums_and_unknown_names_are_refused() {
        for name in ["crc32c", "crc32", "", "hmac(sha1)"] {
            assert_eq!(
                HmacAlgorithm::from_name(name),
                Err(UnknownAlgorithm),
                "{name}"
            );
        }
    }
}
