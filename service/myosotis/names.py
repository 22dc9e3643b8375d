"""Resource names (AIP-122), parsed once at the edge."""

import re

from myosotis.errors import InvalidArgumentError

_ID = r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PATTERNS = {
    "policy": re.compile(rf"policies/({_ID})"),
    "model": re.compile(rf"models/({_ID})"),
    "concept": re.compile(rf"policies/({_ID})/concepts/({_ID})"),
    "run": re.compile(rf"models/({_ID})/unlearningRuns/([a-z0-9-]+)"),
    "patch": re.compile(rf"models/({_ID})/patches/([0-9a-f]{{64}})"),
    "generation": re.compile(rf"models/({_ID})/generations/([1-9][0-9]*)"),
    "inference server": re.compile(rf"inferenceServers/({_ID})"),
    "worker": re.compile(rf"workers/({_ID})"),
}
_FORMS = {
    "policy": "policies/{policy}",
    "model": "models/{model}",
    "concept": "policies/{policy}/concepts/{concept}",
    "run": "models/{model}/unlearningRuns/{run}",
    "patch": "models/{model}/patches/{plan digest}",
    "generation": "models/{model}/generations/{number}",
    "inference server": "inferenceServers/{server}",
    "worker": "workers/{worker}",
}


def parse(kind: str, name: str, *, field: str = "name") -> tuple[str, ...]:
    """The ids inside *name*, a resource name of *kind*.

    Raises:
        InvalidArgumentError: naming *field*, when *name* has another form.
    """
    match = _PATTERNS[kind].fullmatch(name)
    if match is None:
        raise InvalidArgumentError(field, f"{name!r} is not {_FORMS[kind]}")
    return match.groups()


def is_id(text: str) -> bool:
    """Whether *text* is a resource id: a-z, 0-9 and hyphens, at most 63."""
    return re.fullmatch(_ID, text) is not None
