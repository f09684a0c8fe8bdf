//! May this plugin reach this target, and at which addresses?
//!
//! The name is resolved here, once, and what comes out is all that is ever connected to: a name that leads elsewhere a
//! moment later changes nothing.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::timeout;
use wasmtime_wasi_http::Error;

use super::addresses::Class;
use super::grants::NetworkGrant;
use super::resolver::Resolver;
use super::target::{Host, Target};

/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;

/// Why a target is not reached.
#[derive(Debug)]
pub(super) enum Refusal {
    /// No grant covers it.
    NotGranted(Target),
    /// It leads to an address that names must not lead to.
    Prohibited { target: Target, address: IpAddr, class: Class },
    /// Its name cannot be resolved.
    Unresolved { target: Target, problem: String },
    /// Resolving it takes too long.
    ResolverTimeout(Target),
}

impl Refusal {
    /// Whether the operator's file is what refuses, and not the network.
    pub(super) fn is_policy(&self) -> bool {
        matches!(self, Self::NotGranted(_) | Self::Prohibited { .. })
    }

    /// What the guest is told.
    pub(super) fn error(&self) -> Error {
        match self {
            Self::NotGranted(_) => Error::HttpRequestDenied,
            Self::Prohibited { .. } => Error::DestinationIpProhibited,
            Self::Unresolved { .. } => Error::DnsError { rcode: None, info_code: None },
            Self::ResolverTimeout(_) => Error::DnsTimeout,
        }
    }
}

/// Completes "plugin `x` ...".
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted(target) => {
                write!(f, "asked for {target}; grant it with network = [\"{target}\"]")
            }
            Self::Prohibited { target, address, class } => {
                let literal = Target { host: Host::Address(*address), ..target.clone() };
                write!(
                    f,
                    "asked for {target}, which leads to {address}, {class}; a name may only lead to public \
                     addresses, unless the address itself is granted as well: network = [\"{target}\", \"{literal}\"]"
                )
            }
            Self::Unresolved { target, problem } => {
                write!(f, "asked for {target}, whose name cannot be resolved: {problem}")
            }
            Self::ResolverTimeout(target) => {
                write!(f, "asked for {target}, whose name was not resolved in time")
            }
        }
    }
}

/// The addresses of `target` that may be connected to, all of them checked.
pub(super) async fn admit(
    target: &Target,
    grants: &[NetworkGrant],
    resolver: &dyn Resolver,
    wait: Duration,
) -> Result<Vec<SocketAddr>, Refusal> {
    if !grants.iter().any(|grant| grant.covers(target)) {
        return Err(Refusal::NotGranted(target.clone()));
    }
    let name = match &target.host {
        // Covered means named by its grant.
        Host::Address(address) => return Ok(vec![SocketAddr::new(*address, target.port)]),
        Host::Name(name) => name,
    };
    let unresolved = |problem: String| Refusal::Unresolved { target: target.clone(), problem };
    let found = match timeout(wait, resolver.resolve(name)).await {
        Ok(Ok(found)) if found.is_empty() => return Err(unresolved("it has no address".to_owned())),
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(unresolved(error.to_string())),
        Err(_) => return Err(Refusal::ResolverTimeout(target.clone())),
    };
    // One bad address among good ones is a trap set by the name's owner, so it spoils the whole answer.
    for address in &found {
        let class = Class::of(*address);
        let is_named = || grants.iter().any(|grant| grant.names_address(*address, target));
        if !class.is_public() && !is_named() {
            return Err(Refusal::Prohibited { target: target.clone(), address: *address, class });
        }
    }
    let mut addresses: Vec<_> =
        found.into_iter().map(|address| SocketAddr::new(address, target.port)).collect();
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    Ok(addresses)
}
