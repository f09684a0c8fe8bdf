//! Which addresses a name may lead to: public ones, and nothing else.
//!
//! A name is under somebody else's control, so an address behind it counts only where it is globally reachable
//! (the special-purpose registries of RFC 6890). IPv6 addresses that carry an IPv4 address are as good as the address
//! they carry. An address of any other class is reached only where a grant names it literally.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Globally reachable.
    Public,
    /// `0.0.0.0` or `::`.
    Unspecified,
    /// This machine.
    Loopback,
    /// A private network (RFC 1918, RFC 4193, and the old site-local addresses).
    Private,
    /// Valid on one link only (RFC 3927, RFC 4291).
    LinkLocal,
    /// Where clouds tell machines their credentials.
    Metadata,
    /// Carrier-grade NAT (RFC 6598).
    Shared,
    /// A group of machines.
    Multicast,
    /// Every machine of a link.
    Broadcast,
    /// For examples in texts (RFC 5737, RFC 3849, RFC 9637).
    Documentation,
    /// For measuring networks (RFC 2544, RFC 5180).
    Benchmarking,
    /// Set aside for other purposes, or not given out.
    Reserved,
}

/// Addresses of metadata services. The first is the one of most clouds; the others are those of Amazon's containers,
/// Alibaba, Oracle and Azure. The last one is in a public range, and still answers only from inside.
const METADATA_V4: [Ipv4Addr; 6] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];

/// Amazon's metadata services over IPv6, and Google's.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

impl Class {
    /// The class of `address`.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => v4(address),
            IpAddr::V6(address) => v6(address),
        }
    }

    /// Whether a name may lead there.
    #[must_use]
    pub fn is_public(self) -> bool {
        self == Self::Public
    }
}

/// Completes "this is ...".
impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "a public address",
            Self::Unspecified => "the unspecified address",
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "the address of a cloud's metadata service",
            Self::Shared => "an address of carrier-grade NAT",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "a broadcast address",
            Self::Documentation => "an address for documentation",
            Self::Benchmarking => "an address for benchmarks",
            Self::Reserved => "a reserved address",
        })
    }
}

fn v4(address: Ipv4Addr) -> Class {
    if METADATA_V4.contains(&address) {
        return Class::Metadata;
    }
    match address.octets() {
        [0, 0, 0, 0] => Class::Unspecified,
        [0, ..] => Class::Reserved,
        [127, ..] => Class::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private,
        [100, 64..=127, ..] => Class::Shared,
        [169, 254, ..] => Class::LinkLocal,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Class::Documentation,
        [198, 18..=19, ..] => Class::Benchmarking,
        // Protocol assignments, and the relays of 6to4.
        [192, 0, 0, _] | [192, 88, 99, _] => Class::Reserved,
        [224..=239, ..] => Class::Multicast,
        [255, 255, 255, 255] => Class::Broadcast,
        [240..=255, ..] => Class::Reserved,
        _ => Class::Public,
    }
}

fn v6(address: Ipv6Addr) -> Class {
    if METADATA_V6.contains(&address) {
        return Class::Metadata;
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => return Class::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => return Class::Loopback,
        _ => {}
    }
    if let Some(class) = carried(address).into_iter().flatten().map(v4).find(|class| !class.is_public()) {
        return class;
    }
    match address.segments() {
        // Mapped addresses, and NAT64 with its well-known prefix: public, since what they carry is.
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Class::Public,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Class::Private,
        [0xfe80..=0xfebf, ..] => Class::LinkLocal,
        [0xff00..=0xffff, ..] => Class::Multicast,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Class::Documentation,
        [0x2001, 2, 0, ..] => Class::Benchmarking,
        // Protocol assignments, except for Teredo (2001::/32).
        [0x2001, 1..=0x1ff, ..] => Class::Reserved,
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => Class::Reserved,
    }
}

/// The IPv4 addresses that an IPv6 address carries: packets to it end at these, or pass them.
fn carried(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let octets = address.octets();
    let at =
        |start: usize| Ipv4Addr::new(octets[start], octets[start + 1], octets[start + 2], octets[start + 3]);
    match address.segments() {
        // Mapped, compatible, NAT64.
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => [Some(at(12)), None],
        // 6to4.
        [0x2002, ..] => [Some(at(2)), None],
        // Teredo: the server, and the client with all bits turned over.
        [0x2001, 0, ..] => [Some(at(4)), Some(Ipv4Addr::from_bits(!at(12).to_bits()))],
        // ISATAP.
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => [Some(at(12)), None],
        _ => [None, None],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_their_class() {
        let table: [(Class, &[&str]); 12] = [
            (
                Class::Public,
                &[
                    "1.1.1.1",
                    "9.255.255.255",
                    "11.0.0.0",
                    "100.63.255.255",
                    "100.128.0.0",
                    "126.255.255.255",
                    "128.0.0.0",
                    "169.253.255.255",
                    "172.15.255.255",
                    "172.32.0.0",
                    "192.167.255.255",
                    "198.17.255.255",
                    "198.20.0.0",
                    "223.255.255.255",
                    "2606:4700:4700::1111",
                    "2a00:1450:4001::1",
                    "::ffff:1.1.1.1",
                    "64:ff9b::1.1.1.1",
                    "2002:101:101::1",
                ],
            ),
            (Class::Unspecified, &["0.0.0.0", "::", "::ffff:0.0.0.0", "64:ff9b::"]),
            (
                Class::Loopback,
                &[
                    "127.0.0.1",
                    "127.255.255.254",
                    "::1",
                    "::ffff:127.0.0.1",
                    "::127.0.0.1",
                    "64:ff9b::127.0.0.1",
                    "2002:7f00:1::",
                    // Teredo: the client is 127.0.0.1.
                    "2001:0:101:101:0:0:80ff:fffe",
                    // Teredo: the server is 127.0.0.1.
                    "2001:0:7f00:1::fefe:fefe",
                    "2a00:1450::5efe:7f00:1",
                ],
            ),
            (
                Class::Private,
                &[
                    "10.0.0.0",
                    "10.255.255.255",
                    "172.16.0.1",
                    "172.31.255.255",
                    "192.168.0.1",
                    "192.168.255.255",
                    "fc00::1",
                    "fdff:ffff::1",
                    "fec0::1",
                    "::ffff:10.0.0.1",
                    "::192.168.0.1",
                    "64:ff9b::10.0.0.1",
                    "2002:a00:1::1",
                    "2002:c0a8:1::",
                ],
            ),
            (
                Class::LinkLocal,
                &["169.254.0.1", "169.254.255.255", "fe80::1", "febf::1", "::ffff:169.254.1.1"],
            ),
            (
                Class::Metadata,
                &[
                    "169.254.169.254",
                    "169.254.170.2",
                    "100.100.100.200",
                    "168.63.129.16",
                    "192.0.0.192",
                    "fd00:ec2::254",
                    "fd20:ce::254",
                    "::ffff:169.254.169.254",
                    "::169.254.169.254",
                    "64:ff9b::a9fe:a9fe",
                    "2002:a9fe:a9fe::",
                ],
            ),
            (Class::Shared, &["100.64.0.0", "100.127.255.255", "::ffff:100.64.0.1"]),
            (Class::Multicast, &["224.0.0.1", "239.255.255.255", "ff02::1", "::ffff:224.0.0.1"]),
            (Class::Broadcast, &["255.255.255.255", "::ffff:255.255.255.255"]),
            (
                Class::Documentation,
                &["192.0.2.1", "198.51.100.1", "203.0.113.255", "2001:db8::1", "3fff::1", "3fff:fff::1"],
            ),
            (Class::Benchmarking, &["198.18.0.0", "198.19.255.255", "2001:2::1"]),
            (
                Class::Reserved,
                &[
                    "0.0.0.1",
                    "0.255.255.255",
                    "192.0.0.1",
                    "192.88.99.1",
                    "240.0.0.1",
                    "255.255.255.254",
                    "::1.1.1.1",
                    "::ffff:0:1.1.1.1",
                    "64:ff9b:1::1",
                    "100::1",
                    "2001:10::1",
                    "2001:1::1",
                    "5f00::1",
                    "4000::1",
                    "::2",
                ],
            ),
        ];
        for (class, addresses) in table {
            for address in addresses {
                assert_eq!(Class::of(address.parse().unwrap()), class, "{address}");
            }
        }
    }
}
