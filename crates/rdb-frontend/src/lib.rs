//! How a block device reaches its user: NBD server, FUSE and loop.
