"""Refuse every connection and name lookup outside this machine.

An audit hook cannot be removed again, sees through every library that uses Python's sockets, and
costs nothing where no socket is touched. It does not see sockets that are opened below Python (a
browser's, or zmq's own); kernels and their clients talk over loopback there.
"""

import sys

_LOCAL_NAMES = {"localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"}
_REMEDY = "The tests run without a network: ship the data, or serve it on 127.0.0.1."
_installed = False


class OutsideRefused(ConnectionRefusedError):
    """Something tried to reach beyond this machine during the tests."""


def install() -> None:
    """Put the guard in place, once per process."""
    global _installed
    if not _installed:
        _installed = True
        sys.addaudithook(_hook)


def _hook(event, args):
    if not event.startswith("socket."):
        return
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        sock, address = args[0], args[1]
        # A connected socket sends without an address: its connect was judged already.
        if address is not None and not _near(sock, address):
            raise OutsideRefused(f"offline guard: {event} to {address!r} refused. {_REMEDY}")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        if not _local(args[0], own_name=True):
            raise OutsideRefused(f"offline guard: lookup of {args[0]!r} refused. {_REMEDY}")
    elif event == "socket.getnameinfo" and not _local(args[0][0], own_name=True):
        raise OutsideRefused(f"offline guard: lookup of {args[0]!r} refused. {_REMEDY}")


def _near(sock, address) -> bool:
    import socket

    if sock.family in (socket.AF_INET, socket.AF_INET6):
        return _local(address[0])
    return sock.family in (getattr(socket, name, None) for name in ("AF_UNIX", "AF_NETLINK"))


def _local(host, own_name: bool = False) -> bool:
    """Whether ``host`` is this machine: loopback, the unspecified address, or (for lookups) its own name."""
    import ipaddress
    import socket

    if host is None:
        return True
    if isinstance(host, (bytes, bytearray)):
        host = bytes(host).decode("ascii", "replace")
    host = host.rstrip(".").lower()
    if host == "" or host in _LOCAL_NAMES:
        return True
    if own_name and host.split(".")[0] == socket.gethostname().lower().split(".")[0]:
        return True
    try:
        address = ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified
