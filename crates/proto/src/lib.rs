//! Messages, codec and state machines of KA, without sockets, files, threads or clocks.
