"""Arguments of `serve run` on their way to a plan, and what an application is made of by it."""

from __future__ import annotations

import pytest

from vicrop_engine.errors import ConfigError, SettingError, ViCropError
from vicrop_engine.ray_serve import app
from vicrop_engine.ray_serve.settings import read_arguments


def test_arguments_are_taken_as_the_command_line_and_as_yaml_have_them() -> None:
    text = {"engine": "5", "max_replicas": "6", "gpus": "0.5", "running": "3", "allow_remote_images": "true"}
    yaml = {"engine": "5", "max_replicas": 6, "gpus": 0.5, "running": 3, "allow_remote_images": True}
    plan = read_arguments(text)
    assert plan == read_arguments(yaml)
    assert (plan.scale.engine, plan.scale.max_replicas, plan.scale.gpus) == ("5", 6, 0.5)
    assert plan.server.allow_remote_images
    assert (plan.target_requests, plan.most_requests) == (3, 6)


def test_a_deadline_is_the_servers_and_the_schedulers() -> None:
    plan = read_arguments({"engine": "llava-signs", "deadline": "30"})
    assert plan.server.deadline == plan.scheduler.deadline == 30


@pytest.mark.parametrize(
    ("more", "kind", "said"),
    [
        ({"max_replica": "3"}, ConfigError, "did you mean 'max_replicas'"),
        ({"max_replicas": "many"}, ConfigError, "wanted int"),
        ({"api_keys": '["secret"]'}, ConfigError, "did you mean 'api_key_file'"),
        ({"port": "8000"}, ConfigError, "unknown key 'port'"),
        ({"min_replicas": "0"}, SettingError, "above 0"),
        ({"min_replicas": "5"}, SettingError, "no fewer at most"),
        ({"gpus": "-1"}, SettingError, "0 or more"),
        ({"running": "0"}, SettingError, "above 0"),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused(
    more: dict[str, str], kind: type[ViCropError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        read_arguments({"engine": "llava-signs", **more})


def test_an_engine_has_to_be_named() -> None:
    with pytest.raises(ConfigError, match="'engine' is missing"):
        app({})
