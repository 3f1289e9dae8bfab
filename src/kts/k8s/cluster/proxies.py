"""Through which proxy an address is reached: HTTPS_PROXY, HTTP_PROXY and NO_PROXY as Go, so kubectl, has them.

Not as other libraries of Python do: networks in NO_PROXY count (10.0.0.0/8), ALL_PROXY does not, and this machine's own
addresses are never reached through one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

SCHEMES = ("http", "https", "socks5")
"""Of proxies that kubectl can use."""
_PORTS = {"http": 80, "https": 443}


def of_environment(url: str, env: Mapping[str, str]) -> tuple[str, str]:
    """(variable, URL of the proxy) for requests to ``url``; empty for none. ``url`` has a host, and a port or none."""
    parts = urlsplit(url)
    for variable in (f"{parts.scheme.upper()}_PROXY", f"{parts.scheme}_proxy"):
        if proxy := env.get(variable):
            direct = _direct(parts.hostname or "", parts.port or _PORTS[parts.scheme], _first(env, "NO_PROXY"))
            return ("", "") if direct else (variable, proxy if "://" in proxy else f"http://{proxy}")
    return "", ""


def is_here(host: str) -> bool:
    """Whether the name or address is this machine's own, whatever the network says."""
    if host == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _first(env: Mapping[str, str], name: str) -> str:
    return env.get(name) or env.get(name.lower()) or ""


def _direct(host: str, port: int, exceptions: str) -> bool:
    """Whether no proxy stands before the host, as NO_PROXY lists them."""
    host = host.lower().rstrip(".")
    return is_here(host) or any(
        _matches(host, port, entry) for one in exceptions.lower().split(",") if (entry := one.strip())
    )


def _matches(host: str, port: int, entry: str) -> bool:
    """Whether an entry of NO_PROXY means the host: ``*``, a network, an address or a domain, perhaps with a port."""
    if entry == "*":
        return True
    address = _address(host)
    try:
        network = ipaddress.ip_network(entry, strict=False) if "/" in entry else None
    except ValueError:
        network = None
    if network is not None:
        return address is not None and address in network
    name, wanted = _split(entry)
    if not name or wanted not in ("", str(port)):
        return False
    if (listed := _address(name)) is not None:
        return address == listed
    if address is not None:
        return False
    name = name.removeprefix("*")
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


def _split(entry: str) -> tuple[str, str]:
    """(host, port or nothing) of ``host``, ``host:port``, ``[v6]:port`` or a bare v6 address."""
    if entry.startswith("["):
        name, _, port = entry[1:].partition("]")
        return name, port.removeprefix(":")
    return (entry, "") if entry.count(":") != 1 else (entry.partition(":")[0], entry.partition(":")[2])


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
