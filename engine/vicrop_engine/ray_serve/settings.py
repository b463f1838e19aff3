"""How an engine is spread over a cluster, and the reader of the arguments of `serve run`.

Knows nothing of Ray.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vicrop_engine.engine_dir.parsing import parse
from vicrop_engine.errors import SettingError
from vicrop_engine.server.settings import ServerSettings
from vicrop_engine.serving.settings import MOST_RUNNING, SchedulerSettings

WHERE = "the arguments"
SEVERAL_ALREADY = 2  # times what a scheduler works on at once: a replica with so many is overloaded


@dataclass(frozen=True)
class ScaleSettings:
    """Copies of `engine` (a directory every machine has, or a model name) and when there are more or fewer.

    Between `min_replicas` and `max_replicas` there are as many as leave each `target_requests` (None: as many
    as its scheduler works on at once). A replica that has `most_requests` (None: twice as many) passes
    further ones on to the next; each of `ingresses` lets `queued` requests wait for a replica. A replica
    takes `cpus` cores, for all its scheduler's workers, and `gpus`. A request whose replica was lost is sent
    again, up to `attempts` times in all. A replica `stuck_seconds` late with an answer is replaced.
    `api_key_file` is read where the ingresses are.
    """

    engine: str
    min_replicas: int = 1
    max_replicas: int = 4
    target_requests: int | None = None
    most_requests: int | None = None
    queued: int = 256
    ingresses: int = 1
    cpus: int = 1
    gpus: float = 0.0
    attempts: int = 3
    stuck_seconds: float = 60.0
    share_weights: bool = False
    api_key_file: str | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if (
                isinstance(value, int | float)
                and not isinstance(value, bool)
                and value <= 0
                and name != "gpus"
            ):
                raise SettingError(f"got {name} {value!r}, wanted a number above 0")
        if self.gpus < 0:
            raise SettingError(f"got gpus {self.gpus!r}, wanted 0 or more")
        if self.min_replicas > self.max_replicas:
            raise SettingError(
                f"got min_replicas {self.min_replicas} and max_replicas {self.max_replicas}; "
                "wanted no fewer at most than at least"
            )


@dataclass(frozen=True)
class Plan:
    """All that an application is made of: engines, in each a scheduler, and in front of them servers."""

    scale: ScaleSettings
    scheduler: SchedulerSettings = field(default_factory=SchedulerSettings)
    server: ServerSettings = field(default_factory=ServerSettings)

    @property
    def bounds(self) -> SchedulerSettings:
        """Those of a replica's scheduler, which has a core for everything it computes at a time."""
        return replace(self.scheduler, workers=min(self.scheduler.workers, self.scale.cpus))

    @property
    def threads(self) -> int:
        """Cores that each of these computations has."""
        return self.scale.cpus // self.bounds.workers

    @property
    def num_running(self) -> int:
        """Requests that a replica has under way, unless its memory holds fewer."""
        return self.scheduler.running or MOST_RUNNING

    @property
    def target_requests(self) -> int:
        """Requests a replica should have."""
        return self.scale.target_requests or self.num_running

    @property
    def most_requests(self) -> int:
        """Requests a replica has at most."""
        return self.scale.most_requests or SEVERAL_ALREADY * self.num_running


def read_arguments(arguments: Mapping[str, Any]) -> Plan:
    """The plan of flat `key=value` arguments, values as text or as YAML has them.

    The keys are the fields of the three settings; `deadline` is the scheduler's and the server's. Raises
    ConfigError for a key there is not, one that is missing or a value of another type, and SettingError for
    a value outside its range.
    """
    values = {key: _plain(value, _TEXTS.get(key)) for key, value in arguments.items()}
    unknown = set(values) - _names(ScaleSettings) - _names(SchedulerSettings) - _names(ServerSettings)
    of_scale = {key: value for key, value in values.items() if key in _names(ScaleSettings) | unknown}
    return Plan(
        parse(ScaleSettings, of_scale, WHERE),
        parse(SchedulerSettings, _of(SchedulerSettings, values), WHERE),
        parse(ServerSettings, _of(ServerSettings, values), WHERE),
    )


def _of(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key in _names(kind)}


def _names(kind: type) -> set[str]:
    """Keys that can be given: where Ray listens is Ray's affair, and secrets are in no configuration."""
    return {each.name for each in dataclasses.fields(kind)} - {"port", "api_keys"}


def _plain(value: Any, text: bool | None) -> Any:
    if isinstance(value, str) and not text:
        with contextlib.suppress(ValueError):
            return json.loads(value)
    return value


_TEXTS = {
    each.name: "str" in str(each.type)
    for kind in (ScaleSettings, SchedulerSettings, ServerSettings)
    for each in dataclasses.fields(kind)
}
