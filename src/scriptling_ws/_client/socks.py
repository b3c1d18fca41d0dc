"""The way through a SOCKS proxy: versions 4, 4a and 5.

Rules (RFC 1928, RFC 1929; SOCKS4 and 4a have no RFC):

- `socksio` makes the requests and reads the answers. It takes each answer whole, and looks at
  neither its length nor its version: both are seen to here, and each is read to the byte, so that
  what follows it is the server's.
- A name is looked up by the proxy with socks4a and socks5h, here with socks4 and socks5, which then
  have the first address of it; of SOCKS4 that is IPv4.
- User and password are offered where the proxy's URL has them, and sent where the proxy asks.
- A zone of an IPv6 address is this machine's business, and not sent.
"""

from __future__ import annotations

import ipaddress
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from .._errors import ProxyError
from .._network.dial import look_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._handshakes.url import URL
    from .._network.deadline import Deadline
    from .conversation import Conversation
    from .proxy import Proxy

__all__ = ["import_socksio", "socks_request"]

_GRANTED_4: Final = 0x5A
_REFUSALS_4: Final = {
    0x5B: "it refuses, or could not reach the server",
    0x5C: "it wants to ask this machine's identd, which does not answer",
    0x5D: "it does not take this user",
}
_REFUSALS_5: Final = {
    1: "it failed",
    2: "its rules do not allow this",
    3: "the server's network is unreachable for it",
    4: "the server is unreachable for it, or it does not know the name",
    5: "the server refused it the connection",
    6: "the server did not answer it in time",
    7: "it does not know the command CONNECT",
    8: "it does not know this type of address",
}
_VERSION_5: Final = 5
_NO_METHOD: Final = 0xFF
_PASSWORD: Final = 2
_ADDRESS_SIZES: Final = {1: 4, 4: 16}  # by the type of the address; 3 is a name
_NAME: Final = 3


def import_socksio() -> Any:
    """The library, imported.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import socksio.socks4
        import socksio.socks5
    except ImportError as error:
        raise ImportError(
            "a SOCKS proxy needs socksio: pip install 'scriptling-ws[socks]'"
        ) from error
    return socksio


def socks_request(proxy: Proxy, url: URL, deadline: Deadline) -> Callable[[Conversation], None]:
    """What asks a SOCKS proxy to connect to a URL's host; a name is looked up here before, or not.

    Args:
        proxy: The proxy.
        url: The URL.
        deadline: When the lookup has to be over.

    Raises:
        ConnectTimeout: the deadline came first.
        ConnectError: the name, which has to be looked up here, has no address.
        ProxyError: the proxy knows no addresses like that of the host.
        ImportError: socksio is not installed.
    """
    import_socksio()  # before anything is sent
    host = url.host.partition("%")[0]
    old = proxy.scheme.startswith("socks4")
    if not proxy.resolves and not _is_address(host):
        host = _address_of(host, url.port, deadline, old=old)
    if old and ":" in host:
        raise ProxyError(f"{host} is an address of IPv6, which SOCKS4 does not know: use socks5")
    return partial(_ask_4 if old else _ask_5, proxy, host, url.port)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _address_of(host: str, port: int, deadline: Deadline, *, old: bool) -> str:
    """The address of a name, looked up here; `old`: of IPv4, if it has one."""
    addresses = look_up(host, port, deadline)
    v4 = [address for address in addresses if address[0] == socket.AF_INET]
    chosen = (v4 if old and v4 else addresses)[0]
    return str(chosen[4][0]).partition("%")[0]


def _ask_4(proxy: Proxy, host: str, port: int, conversation: Conversation) -> None:
    socks4: Any = import_socksio().socks4
    user = proxy.user or b""
    # Of an address 4a would make a name of four bytes.
    kind = socks4.SOCKS4Request if _is_address(host) else socks4.SOCKS4ARequest
    stream = socks4.SOCKS4Connection(user_id=user)
    stream.send(kind.from_address(socks4.SOCKS4Command.CONNECT, (host, port), user))
    conversation.send(stream.data_to_send())
    answer = conversation.read(8)
    if answer[0] != 0:
        raise _invalid(conversation, "SOCKS4")
    if answer[1] != _GRANTED_4:
        raise _refused(conversation, _REFUSALS_4.get(answer[1], f"it says {answer[1]}"))
    stream.receive_data(answer)


def _ask_5(proxy: Proxy, host: str, port: int, conversation: Conversation) -> None:
    socks5: Any = import_socksio().socks5
    stream = socks5.SOCKS5Connection()
    _authenticate(proxy, socks5, stream, conversation)
    request = socks5.SOCKS5CommandRequest.from_address(socks5.SOCKS5Command.CONNECT, (host, port))
    stream.send(request)
    conversation.send(stream.data_to_send())
    head = conversation.read(4)
    if head[0] != _VERSION_5:
        raise _invalid(conversation, "SOCKS5")
    if head[1]:  # some proxies end here, without an address
        raise _refused(conversation, _REFUSALS_5.get(head[1], f"it says {head[1]}"))
    size = _ADDRESS_SIZES.get(head[3], 0)
    if head[3] == _NAME:
        head += conversation.read(1)
        size = head[4]
    elif not size:
        raise _invalid(conversation, "SOCKS5")
    conversation.read(size + 2)  # the proxy's own address, of no use


def _authenticate(proxy: Proxy, socks5: Any, stream: Any, conversation: Conversation) -> None:
    method = socks5.SOCKS5AuthMethod
    offered = [method.NO_AUTH_REQUIRED]
    if proxy.user is not None:
        offered.append(method.USERNAME_PASSWORD)
    stream.send(socks5.SOCKS5AuthMethodsRequest(offered))
    conversation.send(stream.data_to_send())
    answer = conversation.read(2)
    if answer[0] != _VERSION_5:
        raise _invalid(conversation, "SOCKS5")
    if answer[1] == _NO_METHOD:
        advice = "" if proxy.user else ": put them into its URL, socks5h://user:password@host:port"
        raise _refused(conversation, f"it wants other credentials than it was offered{advice}")
    if answer[1] not in [each[0] for each in offered]:
        raise _refused(conversation, "it chose a way to authenticate that was not offered")
    stream.receive_data(answer)
    if answer[1] == _PASSWORD:
        stream.send(socks5.SOCKS5UsernamePasswordRequest(proxy.user, proxy.password))
        conversation.send(stream.data_to_send())
        if not stream.receive_data(conversation.read(2)).success:
            raise _refused(conversation, "it does not take these credentials")


def _invalid(conversation: Conversation, what: str) -> ProxyError:
    return ProxyError(f"the answer of the proxy {conversation.where} is not {what}")


def _refused(conversation: Conversation, why: str) -> ProxyError:
    return ProxyError(f"the proxy {conversation.where} does not connect: {why}")
