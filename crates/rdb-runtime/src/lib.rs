//! The data plane: one io_uring loop a resource.
