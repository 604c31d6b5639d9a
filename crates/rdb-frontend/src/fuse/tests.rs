//! Golden messages.
