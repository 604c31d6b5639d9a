//! DRBD's refusals: numbers, texts, and the exit status that each becomes.
//!
//! Positive codes are the `ERR_` numbers of `docs/spec/admin.md`, section 4.3; negative ones the state change errors
//! of section 4.4.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The `ERR_` numbers that our own code names.
pub mod code {
    /// Local address(port) already in use.
    pub const LOCAL_ADDR: i32 = 102;
    /// Remote address(port) already in use.
    pub const PEER_ADDR: i32 = 103;
    /// Can not open backing device.
    pub const OPEN_DISK: i32 = 104;
    /// Can not open meta device.
    pub const OPEN_MD_DISK: i32 = 105;
    /// Lower device is already claimed.
    pub const BDCLAIM_DISK: i32 = 114;
    /// Meta device is already claimed.
    pub const BDCLAIM_MD_DISK: i32 = 115;
    /// Lower device / meta device / index combination invalid.
    pub const MD_IDX_INVALID: i32 = 116;
    /// The 'cram-hmac-alg' is not known.
    pub const AUTH_ALG: i32 = 120;
    /// Device is attached to a disk.
    pub const DISK_CONFIGURED: i32 = 124;
    /// Device has a net-config.
    pub const NET_CONFIGURED: i32 = 125;
    /// UnknownMandatoryTag.
    pub const MANDATORY_TAG: i32 = 126;
    /// Device minor not allocated.
    pub const MINOR_INVALID: i32 = 127;
    /// Device does not have a disk-config.
    pub const NO_DISK: i32 = 138;
    /// The 'data-integrity-alg' is not known.
    pub const INTEGRITY_ALG: i32 = 141;
    /// CSUMSAlgNotAvail.
    pub const CSUMS_ALG: i32 = 144;
    /// VERIFYAlgNotAvail.
    pub const VERIFY_ALG: i32 = 146;
    /// Can only attach to the data we lost last.
    pub const OLDER_DATA: i32 = 150;
    /// Permission denied.
    pub const PERM: i32 = 152;
    /// Fencing policy resource-and-stonith only with prot B or C allowed.
    pub const STONITH_AND_PROT_A: i32 = 154;
    /// Unknown resource.
    pub const RES_NOT_KNOWN: i32 = 158;
    /// Resource still in use.
    pub const RES_IN_USE: i32 = 159;
    /// Minor still configured.
    pub const MINOR_CONFIGURED: i32 = 160;
    /// Minor or volume exists already.
    pub const MINOR_OR_VOLUME_EXISTS: i32 = 161;
    /// Invalid configuration request.
    pub const INVALID_REQUEST: i32 = 162;
}

/// A refusal with DRBD's number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Refusal {
    /// Positive: an `ERR_` number; negative: a state change error.
    pub code: i32,
    /// DRBD's text for the number.
    pub text: String,
    /// What is known beyond the text; empty if nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub info: String,
}

impl Refusal {
    /// A configuration failure with its `ERR_` number.
    pub fn failure(code: i32, info: impl Into<String>) -> Refusal {
        Refusal {
            code,
            text: failure_text(code).to_owned(),
            info: info.into(),
        }
    }

    /// A state change error; `code` is negative.
    pub fn state(code: i32) -> Refusal {
        Refusal {
            code,
            text: state_text(code).to_owned(),
            info: String::new(),
        }
    }

    /// What DRBD has no number for, and no words.
    pub fn unnumbered(text: impl Into<String>) -> Refusal {
        Refusal {
            code: 0,
            text: text.into(),
            info: String::new(),
        }
    }

    /// The exit status of `drbdsetup` (`docs/spec/admin.md`, section 4.2).
    pub fn exit_code(&self) -> u8 {
        match self.code {
            -2 => 17,
            -4 => 16,
            -16 => 5,
            ..=-1 => 11,
            0 | 102.. => 10,
            _ => 20,
        }
    }

    /// The whole message of `drbdsetup` about `object`: a minor, a resource name or an address pair.
    pub fn message(&self, object: &str) -> String {
        format!("{object}: {self}")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.code == 0 {
            return f.write_str(&self.text);
        }
        let kind = if self.code < 0 {
            "State change failed"
        } else {
            "Failure"
        };
        write!(f, "{kind}: ({}) {}", self.code, self.text)?;
        if !self.info.is_empty() {
            write!(f, "\nadditional info from kernel:\n{}", self.info)?;
        }
        Ok(())
    }
}

/// DRBD's text for an `ERR_` number (`docs/spec/admin.md`, section 4.3).
pub fn failure_text(code: i32) -> &'static str {
    match code {
        101 => "No further Information available.",
        102 => "Local address(port) already in use.",
        103 => "Remote address(port) already in use.",
        104 => "Can not open backing device.",
        105 => "Can not open meta device.",
        106 => "Lower device already in use.",
        107 => "Lower device is not a block device.",
        108 => "Meta device is not a block device.",
        109 => "Open of lower device failed.",
        110 => "Open of meta device failed.",
        111 => "Low.dev. smaller than requested DRBD-dev. size.",
        112 => "Meta device too small.",
        113 => "You have to use the disk command first.",
        114 => "Lower device is already claimed. This usually means it is mounted.",
        115 => "Meta device is already claimed. This usually means it is mounted.",
        116 => "Lower device / meta device / index combination invalid.",
        118 => "IO error(s) occurred during initial access to meta-data.",
        119 => {
            "No valid meta-data signature found.\n\n\t==> Use 'rdbadm create-md res' to initialize meta-data area. <==\n"
        }
        120 => "The 'cram-hmac-alg' you specified is not known in the kernel.",
        121 => "The 'cram-hmac-alg' you specified is not a digest.",
        122 => "kmalloc() failed. Out of memory?",
        123 => "--discard-my-data not allowed when primary.",
        124 => "Device is attached to a disk (use detach first)",
        125 => "Device has a net-config (use disconnect first)",
        126 => "UnknownMandatoryTag",
        127 => "Device minor not allocated",
        128 => "Resulting device state would be invalid",
        129 => "Interrupted by Signal",
        130 => "Resize not allowed during resync.",
        131 => "Need one Primary node to resize.",
        132 => "The resync-after minor number is invalid",
        133 => "This would cause a resync-after dependency cycle",
        134 => "Sync-pause flag is already set",
        135 => "Sync-pause flag is already cleared",
        136 => "Disk state is lower than outdated",
        137 => "Kernel does not know how to handle your request.",
        138 => "Device does not have a disk-config",
        139 => "Protocol C required",
        140 => "vmalloc() failed. Out of memory?",
        141 => "The 'data-integrity-alg' you specified is not known in the kernel.",
        142 => "The 'data-integrity-alg' you specified is not a digest.",
        143 => "Invalid cpu-mask.",
        144 => "CSUMSAlgNotAvail",
        145 => "CSUMSAlgNotDigest",
        146 => "VERIFYAlgNotAvail",
        147 => "VERIFYAlgNotDigest",
        148 => "Can not change csums-alg while resync is in progress",
        149 => "Can not change verify-alg while online verify runs",
        150 => "Can only attach to the data we lost last (see kernel log).",
        151 => "Need to be StandAlone",
        152 => "Permission denied. CAP_SYS_ADMIN necessary",
        153 => "Protocol version 93 required to use --assume-clean",
        154 => "Fencing policy resource-and-stonith only with prot B or C allowed",
        155 => "on-congestion policy pull-ahead only with prot A allowed",
        156 => {
            "Sync-pause flag is already cleared.\nNote: Resync pause caused by a local resync-after dependency."
        }
        157 => "Sync-pause flag is already cleared.\nNote: Resync pause caused by the peer node.",
        158 => "Unknown resource",
        159 => "Resource still in use (delete all minors first)",
        160 => "Minor still configured (down it first)",
        161 => "Minor or volume exists already (delete it first)",
        162 => "Invalid configuration request",
        163 => {
            "Prot version 100 required in order to change\nthese network options while connected"
        }
        164 => "Can not clear allow_two_primaries as long as\nthere are primaries on both sides",
        165 => "Unclean meta-data found.\nYou need to 'rdbadm apply-al res'",
        166 => "Need a connection to change the layout of the meta-data",
        167 => "The activity log is too big",
        168 => "The activity log is too small",
        169 => "The activity log and bitmap do not fit",
        170 => "Implicit device shrinking not allowed. See kernel log.",
        _ => "Unknown failure",
    }
}

/// DRBD's text for a state change error (`docs/spec/admin.md`, section 4.4).
pub fn state_text(code: i32) -> &'static str {
    match code {
        -1 => "Multiple primaries not allowed by config",
        -2 => "Need access to UpToDate data",
        -4 => "Can not resync without local disk",
        -5 => "Can not resync without remote disk",
        -6 => "Refusing to be Outdated while Connected",
        -7 => "Refusing to be Primary while peer is not outdated",
        -8 => "Can not start OV/resync since it is already active",
        -9 => "Can not disconnect a StandAlone device",
        -10 => "State change was refused by peer node",
        -11 => "Device is diskless, the requested operation requires a disk",
        -12 => "Device is held open by someone",
        -13 => "Have no net/connection configuration",
        -14 => "Need a verify algorithm to start online verify",
        -15 => "Need a connection to start verify or resync",
        -16 => "Disk state is lower than outdated",
        -17 => "Peer does not support protocol",
        -18 => "In transient state, retry after next state change",
        -19 => "Concurrent state changes detected and aborted",
        -20 => "Other vol primary on peer not allowed by config",
        -21 => "Need a connection for a graceful disconnect/outdate peer",
        _ => "Unknown state change error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_drbds() {
        assert_eq!(
            Refusal::state(-2).message("0"),
            "0: State change failed: (-2) Need access to UpToDate data"
        );
        assert_eq!(
            Refusal::failure(code::MINOR_INVALID, "unknown minor").message("0"),
            "0: Failure: (127) Device minor not allocated\nadditional info from kernel:\nunknown minor"
        );
    }

    #[test]
    fn what_drbd_has_no_number_for_is_said_as_it_is() {
        let refusal = Refusal::unnumbered("the snapshot has failed");
        assert_eq!(refusal.message("r0"), "r0: the snapshot has failed");
    }

    #[test]
    fn exit_codes_are_drbds() {
        for (code, exit) in [
            (-2, 17),
            (-4, 16),
            (-16, 5),
            (-1, 11),
            (-12, 11),
            (-21, 11),
            (102, 10),
            (170, 10),
            (101, 20),
            // What DRBD has no number for.
            (0, 10),
        ] {
            let refusal = Refusal {
                code,
                text: String::new(),
                info: String::new(),
            };
            assert_eq!(refusal.exit_code(), exit, "{code}");
        }
    }

    #[test]
    fn every_number_the_engine_may_use_has_a_text() {
        for code in (101..=170).filter(|c| *c != 117) {
            assert_ne!(failure_text(code), "Unknown failure", "{code}");
        }
        for code in (-21..=-1).filter(|c| *c != -3) {
            assert_ne!(state_text(code), "Unknown state change error", "{code}");
        }
    }
}
