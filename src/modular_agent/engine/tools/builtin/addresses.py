"""Which network addresses are the public internet's."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

__all__ = ["Address", "is_public", "literal"]

Address: TypeAlias = IPv4Address | IPv6Address

NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
LOCAL_NAT64: Final = ipaddress.IPv6Network("64:ff9b:1::/48")  # RFC 8215
COMPATIBLE: Final = ipaddress.IPv6Network("::/96")  # RFC 4291, deprecated
SPECIAL: Final = (
    ipaddress.ip_network("168.63.129.16/32"),  # Azure's host: not in a private range, and not public either
    ipaddress.ip_network("192.0.0.0/24"),  # protocol assignments (RFC 6890); a cloud's metadata service is among them
    ipaddress.ip_network("192.88.99.0/24"),  # 6to4 relays, RFC 7526
    ipaddress.ip_network("fec0::/10"),  # site-local, RFC 3879
)


def literal(host: str) -> Address | None:
    """The address that `host` writes down, if it is one (with or without brackets and zone)."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """False for private, loopback, link-local, multicast, reserved and cloud metadata addresses.

    An IPv6 address that carries an IPv4 address (mapped, compatible, 6to4, Teredo, NAT64) is judged by that too.
    """
    if any(address.version == network.version and address in network for network in SPECIAL):
        return False
    carried = _carried(address) if isinstance(address, IPv6Address) else []
    if carried:  # before the rest: a mapped address counts as reserved in IPv6, whatever it carries
        return all(is_public(inner) for inner in carried)
    if address.is_multicast or address.is_reserved or address.is_loopback or address.is_link_local:
        return False
    return address.is_global and not address.is_private and not address.is_unspecified


def _carried(address: IPv6Address) -> list[IPv4Address]:
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address.sixtofour is not None:
        return [address.sixtofour]
    if address.teredo is not None:
        return list(address.teredo)
    if any(address in network for network in (NAT64, LOCAL_NAT64, COMPATIBLE)):
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    return []
