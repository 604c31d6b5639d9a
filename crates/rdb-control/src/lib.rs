//! The control socket: requests, replies, events, and a client.
