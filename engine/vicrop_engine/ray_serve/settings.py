"""How an engine is spread over a cluster, and the reader of the arguments of `serve run`. Knows nothing of Ray."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vicrop_engine.config import parse
from vicrop_engine.errors import SettingError
from vicrop_engine.serving.settings import SchedulerSettings

SEVERAL_ALREADY = 2  # times what a scheduler works on at once: a replica with so many is overloaded


@dataclass(frozen=True)
class ReplicaSettings:
    """Copies of `engine` (a directory every machine has, or a model name) and when there are more or fewer.

    Between `min_replicas` and `max_replicas` there are as many as leave each `target_requests` (None: as many
    as its scheduler works on at once). A replica that has `most_requests` (None: twice as many) passes further
    ones on to the next; each ingress, of `ingresses`, lets `queued` requests wait for a replica. A replica
    takes `cpus` cores, which are its engine's threads, and `gpus`. A request whose replica was lost is
    asked again until it was sent `attempts` times. A replica `stuck_seconds` late with an answer is replaced.
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

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0 and name != "gpus":
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
    """All that an application is made of: replicas, and in each a scheduler."""

    replicas: ReplicaSettings
    scheduler: SchedulerSettings = dataclasses.field(default_factory=SchedulerSettings)

    @property
    def target_requests(self) -> int:
        """Requests a replica should have."""
        return self.replicas.target_requests or self.scheduler.running

    @property
    def most_requests(self) -> int:
        """Requests a replica has at most."""
        return self.replicas.most_requests or SEVERAL_ALREADY * self.scheduler.running


def read_arguments(arguments: Mapping[str, Any]) -> Plan:
    """The plan of flat `key=value` arguments, values as text or as YAML has them.

    Raises ConfigError for a key there is not, one that is missing or a value of another type, and
    SettingError for a value outside its range.
    """
    scheduler = {field.name for field in dataclasses.fields(SchedulerSettings)}
    values = {key: value if key == "engine" else _plain(value) for key, value in arguments.items()}
    of_scheduler = {key: value for key, value in values.items() if key in scheduler}
    of_replicas = {key: value for key, value in values.items() if key not in scheduler}
    where = "the arguments"
    return Plan(parse(ReplicaSettings, of_replicas, where), parse(SchedulerSettings, of_scheduler, where))


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return json.loads(value)
    return value
