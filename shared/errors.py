"""The error tree: what can go wrong inside, knowing nothing of HTTP; `shared.problems` maps it at the edge."""

from __future__ import annotations


class SanjiError(Exception):
    """Root of every error that we raise on purpose. `field` names the input at fault as a JSON pointer, where there is one."""

    code = "error"

    def __init__(self, detail: str, field: str | None = None, **extra: object) -> None:
        super().__init__(detail)
        self.detail, self.field, self.extra = detail, field, extra


class Invalid(SanjiError):
    """The input cannot be what it says."""

    code = "invalid"


class NotFound(SanjiError):
    """No such thing here; also the answer for a thing the caller may not see."""

    code = "not-found"


class Conflict(SanjiError):
    """The thing is in another state or version than the caller believes."""

    code = "conflict"


class Forbidden(SanjiError):
    """The caller is known and may not."""

    code = "forbidden"


class Unauthenticated(SanjiError):
    """The caller is not known."""

    code = "unauthenticated"


class Busy(SanjiError):
    """Over capacity; try again after `retry_after` seconds. Nothing was done."""

    code = "busy"

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
