//! The disk of a volume: its attach, what is written to its metadata, what becomes of its I/O, and how it goes.

mod at_gate;
mod attach;
mod door;
mod full;
mod giving_up;
mod hung;
mod metadata;
mod written;
