//! DRBD 8.4's wire protocol: packets, headers, feature and authentication exchange, bitmap code.
