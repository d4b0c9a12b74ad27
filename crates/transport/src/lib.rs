//! Sockets and clocks around `ka_proto`.
