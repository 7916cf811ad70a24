"""Calls an address outside, without being led inside: to what only this machine or its network should reach.

The name is looked up here, every address of it is judged, and the call goes to just the address that was judged: a name that
means something else a moment later leads nowhere. Redirects are not followed and what is answered is not read.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

import httpx

from shared.errors import Invalid

SECONDS = 10.0
LONGEST_WAIT = 3600.0
EMBEDDED = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
"""Addresses in which another address is hidden, which a gateway on the way may lead to."""
Address = IPv4Address | IPv6Address


class Refused(Exception):
    """This address is not called; the reason is one of ours and holds nothing that the other side said."""


class Answer(NamedTuple):
    """What came of a call: 2xx is well; 0 and an error where there was no answer. `wait`: seconds asked for before the next."""

    status: int
    error: str = ""
    wait: float = 0

    @property
    def well(self) -> bool:
        return 200 <= self.status < 300


def parsed(url: str) -> httpx.URL:
    """A URL that may be called at all, as far as one sees without looking its host up. Raises Invalid."""
    try:
        found = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise Invalid("not a URL", field="/url") from None
    if found.scheme not in ("https", "http") or not found.host:
        raise Invalid("must begin with https:// and a host", field="/url")
    if found.userinfo or found.fragment:
        raise Invalid("must hold neither a user nor a fragment", field="/url")
    return found


def inside(address: Address, networks: Sequence[str]) -> bool:
    """Whether the node lists a network that this address is in."""
    return any(address in ip_network(n) for n in networks if ip_network(n).version == address.version)


def permitted(address: Address, scheme: str, networks: Sequence[str]) -> bool:
    """Whether a call may go there: over https to anywhere outside, and either way to the networks that the node lists."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if inside(address, networks):
        return True
    hidden = isinstance(address, IPv6Address) and (
        address.sixtofour or address.teredo or any(address in network for network in EMBEDDED)
    )
    return scheme == "https" and address.is_global and not address.is_multicast and not hidden


async def resolved(url: httpx.URL, networks: Sequence[str]) -> str:
    """The address to call. Raises Refused where the host has none, or any that nobody may be led to."""
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(url.raw_host.decode("ascii"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Refused("the host is not known") from None
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    for address in addresses:
        if not permitted(ip_address(address), url.scheme, networks):
            raise Refused("the address is not one to call from here")
    return addresses[0]


@cache
def _context() -> ssl.SSLContext:
    # The system's own store of trust, where an office adds its own authority.
    return ssl.create_default_context()


async def post(url: str, body: bytes, headers: Mapping[str, str], networks: Sequence[str]) -> Answer:
    """Call once and say what came of it; the whole call takes ten seconds at most."""
    try:
        async with asyncio.timeout(SECONDS):
            return await _post(parsed(url), body, headers, networks)
    except TimeoutError:
        return Answer(0, "no answer in time")
    except (Refused, Invalid) as error:
        return Answer(0, str(error))
    except (httpx.HTTPError, ssl.SSLError, OSError) as error:
        return Answer(0, type(error).__name__)


async def _post(url: httpx.URL, body: bytes, headers: Mapping[str, str], networks: Sequence[str]) -> Answer:
    address = await resolved(url, networks)
    said = {**headers, "Host": url.netloc.decode("ascii"), "Content-Type": "application/cloudevents+json", "User-Agent": "sanji"}
    # A connection is never used again: it was proven for one host, and another may have the same address.
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(verify=_context(), trust_env=False, timeout=SECONDS, limits=limits) as client:
        there, proven = url.copy_with(host=address), {"sni_hostname": url.raw_host.decode("ascii")}
        request = client.build_request("POST", there, content=body, headers=said, extensions=proven)
        response = await client.send(request, stream=True, follow_redirects=False)
        await response.aclose()
    status = response.status_code
    return Answer(status, "" if 200 <= status < 300 else f"status {status}", _wait(response))


def _wait(response: httpx.Response) -> float:
    """How long the other side asks to be left alone, within reason."""
    asked = response.headers.get("retry-after", "")
    return min(LONGEST_WAIT, float(asked)) if response.status_code in (429, 503) and asked.isascii() and asked.isdigit() else 0
