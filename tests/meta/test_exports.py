"""The public names: each exists, has a docstring, and is public in exactly one place."""

import inspect
import pkgutil
import types

import pytest

import aiopoll


def test_all_is_complete_and_without_repetition() -> None:
    assert len(aiopoll.__all__) == len(set(aiopoll.__all__))
    shown = {
        name
        for name, value in vars(aiopoll).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert shown - set(aiopoll.__all__) == set()


@pytest.mark.parametrize("name", aiopoll.__all__)
def test_each_public_name_exists_and_is_documented(name: str) -> None:
    value = getattr(aiopoll, name)
    assert inspect.getdoc(value), f"{name} has no docstring"


@pytest.mark.parametrize("name", aiopoll.__all__)
def test_each_public_class_documents_its_methods(name: str) -> None:
    value = getattr(aiopoll, name)
    if not inspect.isclass(value):
        return
    for member_name, member in vars(value).items():
        if not member_name.startswith("_") and callable(member):
            assert inspect.getdoc(member), f"{name}.{member_name} has no docstring"


def test_no_two_public_names_are_the_same_thing() -> None:
    things = [
        (name, getattr(aiopoll, name))
        for name in aiopoll.__all__
        if not isinstance(getattr(aiopoll, name), (int, str))
    ]
    for index, (name, thing) in enumerate(things):
        twins = [other for other, value in things[index + 1 :] if value is thing]
        assert twins == [], f"{name} is public twice"


def test_no_public_module_shows_a_name_of_the_package_again() -> None:
    for info in pkgutil.iter_modules(aiopoll.__path__):
        if info.name.startswith("_"):
            continue
        module = vars(aiopoll).get(info.name)
        names = getattr(module, "__all__", ())
        assert set(names) & set(aiopoll.__all__) == set(), f"aiopoll.{info.name}"
