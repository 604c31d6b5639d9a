//! The drbd.conf language: parse, check, translate old styles, print.
