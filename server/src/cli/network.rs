//! The options about the server's addresses and ports.

use std::net::IpAddr;

use clap::Args;

/// Options about addresses and ports.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Addresses and ports")]
pub(crate) struct NetworkOptions {
    /// Address to listen on [default: every address of this machine]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<IpAddr>,

    /// TCP port of the control connections and UDP port of discovery; 0 takes any free one
    #[arg(long, value_name = "PORT", default_value_t = ka_transport::CONTROL_PORT)]
    pub(crate) control_port: u16,

    /// TCP port of the data connection to the first node; another one is taken when it is in use
    #[arg(long, value_name = "PORT", default_value_t = ka_transport::DATA_PORT)]
    pub(crate) data_port: u16,

    /// Let in nodes that listen for their successors at another address than the one they come from (address
    /// translation); without it they are refused, because a node that names another one's address harms that one
    #[arg(long)]
    pub(crate) any_address: bool,
}
