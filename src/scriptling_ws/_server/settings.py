"""How the connections and the pages of one route behave: the options, checked.

Rules:

- A route's option goes before the server's; `authorize=None` of a route is for everybody, also
  where the server has one.
- What a program gives as a function is checked as a handler is: where it is registered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .._options import Options, check_subprotocols
from .admission import Origins
from .authorization import Verdict, check_authorize, verdict_of
from .cors import Cors
from .handlers import check_handler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._handshakes.head import Request
    from .authorization import Authorize

    Choose = Callable[[list[str]], str | None]

__all__ = ["PageSettings", "Settings", "keep"]


def keep(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with lists in place of iterators, which could be read only once."""
    return {
        name: list(value) if isinstance(value, Iterator) else value
        for name, value in options.items()
    }


@dataclass(frozen=True)
class Settings:
    """How the connections of one route behave.

    Attributes:
        origins: Which origins may connect.
        subprotocols: The subprotocols that the route speaks, the preferred one first; or the
            function that chooses one.
        authorize: The function that decides about each upgrade; None for nobody.
        connection: What every connection of the route is made with.
    """

    origins: Origins = field(default_factory=Origins)
    subprotocols: tuple[str, ...] | Choose = ()
    authorize: Authorize | None = None
    connection: Options = field(default_factory=Options)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Settings:
        """Check the options that a caller gave; `check_names` has seen their names.

        Raises:
            TypeError: an option is of the wrong type.
            ValueError: an option's value cannot be used.
            ImportError: the name of a function leads nowhere.
        """
        rest = dict(options)
        origins = Origins(rest.pop("origins", None))
        subprotocols = _subprotocols(rest.pop("subprotocols", ()))
        authorize = check_authorize(rest.pop("authorize", None))
        return cls(origins, subprotocols, authorize, Options(**rest))

    @property
    def asks(self) -> bool:
        """Whether the program has a say in each upgrade."""
        return self.authorize is not None or callable(self.subprotocols)

    def decide(self, request: Request, offered: list[str]) -> Verdict:
        """Have the program decide about an upgrade: whoever serves a route calls this by `ask`.

        Blocks for as long as that takes.

        Args:
            request: The upgrade.
            offered: The subprotocols that the client offers, in its order.

        Raises:
            Exception: what the program raises, and what is wrong with what it returns.
        """
        verdict = Verdict() if self.authorize is None else verdict_of(self.authorize(request))
        if verdict.response is not None:
            return verdict
        return verdict._replace(subprotocol=self.choose_subprotocol(offered))

    def choose_subprotocol(self, offered: list[str]) -> str | None:
        """What is agreed on with a client: by the function; or the first that it offers.

        Args:
            offered: What the client offers, in its order.

        Raises:
            TypeError, ValueError: the function has returned what was not offered.
        """
        if not callable(self.subprotocols):
            return next((name for name in self.subprotocols if name in offered), None)
        chosen = self.subprotocols(list(offered))
        if chosen is not None and not isinstance(chosen, str):
            raise TypeError(
                f"the subprotocols function returned {type(chosen).__name__}: it has to return "
                "one of those that are offered, or None"
            )
        if chosen is not None and chosen not in offered:
            raise ValueError(
                f"the subprotocols function returned {chosen!r}, which the client does not offer"
            )
        return chosen


def _subprotocols(given: object) -> tuple[str, ...] | Choose:
    if callable(given):
        return check_handler(given, "offer", "subprotocols function")  # type: ignore[return-value]
    return tuple(check_subprotocols(given))


@dataclass(frozen=True)
class PageSettings:
    """How one page behaves.

    Attributes:
        authorize: The function that decides about each request; None for nobody.
        cors: Which other origins may use it.
    """

    authorize: Authorize | None = None
    cors: Cors = field(default_factory=Cors)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> PageSettings:
        """As `Settings.of`; options of WebSockets are none of a page's."""
        return cls(check_authorize(options.get("authorize")), Cors(options.get("cors")))
