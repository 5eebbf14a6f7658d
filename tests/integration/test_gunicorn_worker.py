"""aiopoll.gunicorn.UvicornWorker, of whichever class is installed; test_run_servers.py runs it."""

import importlib
import sys
from types import ModuleType

import pytest
import uvicorn.config

import aiopoll


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A fresh aiopoll.gunicorn, which has not made its class."""
    monkeypatch.delitem(sys.modules, "aiopoll.gunicorn", raising=False)
    return importlib.import_module("aiopoll.gunicorn")


@pytest.mark.parametrize(
    ("missing", "base"),
    [
        ([], "uvicorn_worker"),
        (["uvicorn_worker"], "uvicorn.workers"),
        (["uvicorn.workers"], "uvicorn_worker"),
    ],
)
def test_the_class_is_made_of_what_is_there(
    missing: list[str], base: str, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    worker = module.UvicornWorker
    assert worker.__mro__[1] is importlib.import_module(base).UvicornWorker
    assert worker is module.UvicornWorker
    assert (worker.__module__, worker.__qualname__) == ("aiopoll.gunicorn", "UvicornWorker")
    assert worker.CONFIG_KWARGS["http"] == "auto"
    config = uvicorn.config.Config("app", **worker.CONFIG_KWARGS)
    assert config.get_loop_factory() is aiopoll.new_event_loop


def test_what_to_install_is_named(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("uvicorn_worker", "uvicorn.workers"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install gunicorn 'uvicorn>=0\.36' uvicorn-worker"):
        _ = module.UvicornWorker


def test_an_old_uvicorn_is_refused(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(uvicorn.config.Config, "get_loop_factory")
    with pytest.raises(ImportError, match=r"0\.36 or later.*takes no loop factory"):
        _ = module.UvicornWorker


def test_no_other_name_is_there(module: ModuleType) -> None:
    with pytest.raises(AttributeError, match="UvicornH11Worker"):
        _ = module.UvicornH11Worker
