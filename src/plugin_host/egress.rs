//! What guests may reach over the network.
//!
//! A plugin reaches a host only where its operator's file grants it (`network`, see [`grants`]), and never an address
//! that is not public unless the grant names that address.

pub mod addresses;
pub mod grants;
pub mod target;
