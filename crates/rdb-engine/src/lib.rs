//! The replication engine: every decision of one resource, and no I/O.
