//! DHCP with clients and servers of other projects, in namespaces of our own. Needs root, like the lab.

mod clients;
mod crowd;
mod others;
mod room;
