//! Golden conversations and hostile clients.
use crate::DeviceInfo;
pub(super) fn info() -> DeviceInfo {
    DeviceInfo {
        size_bytes: 1 << 20,
        minimum_block: 512,
        preferred_block: 4096,
        maximum_request: 1 << 16,
        can_trim: true,
        can_zero: true,
        read_only: false,
    }
}
