"""What the hosts of a world keep in `host.state`, as events: for pages, which show it as spans.

Facts: no state changes between two steps of a world, and `always` looks after each step.

Rule: values that fit a word are taken: booleans, numbers, texts, members of enums. Others are left
out, since what is inside of them changes without being assigned.
Cost: a look at every host after every step, in a run that is recorded.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..world import World

TEXT_MAX = 40


def record_states(world: World) -> None:
    """Let `world` record an event "state" whenever the state of a host has changed."""
    seen: dict[str, dict[str, Any]] = {}

    def look() -> bool:
        for name, host in world.hosts.items():
            found = {key: shown(value) for key, value in vars(host.state).items() if fits(value)}
            before = seen.get(name)
            if found != before:
                seen[name] = found
                changed = {
                    key: value
                    for key, value in found.items()
                    if before is None or key not in before or before[key] != value
                }
                if changed:
                    world.observe("state", host=name, **changed)
        return True

    world.always("states are recorded", look)


def fits(value: object) -> bool:
    """Whether a value can be shown as a span."""
    return isinstance(value, bool | int | float | str | enum.Enum) or value is None


def shown(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, str) and len(value) > TEXT_MAX:
        return value[: TEXT_MAX - 1] + "…"
    return value
