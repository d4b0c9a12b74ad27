//! DHCP against the clients and servers of other houses, in namespaces of our own. Needs root, like the lab.

mod clients;
mod crowd;
mod kit;
mod others;
