"""Records are what `dataclasses` would make of the same classes."""

from __future__ import annotations

import dataclasses
import pickle
from types import ModuleType
from typing import Any

import pytest

from device_ui import shape


def made(module: ModuleType, *, frozen: bool) -> Any:
    """A class of two words and more, as this module decorates it."""

    @module.dataclass(frozen=frozen)
    class Letter:
        """A letter."""

        number: int
        text: str = ""
        pages: list[int] = module.field(default_factory=list)
        secret: str = module.field(default="", repr=False)
        seen: float = module.field(default=0.0, compare=False)

        @property
        def size(self) -> int:
            return len(self.text)

    return Letter


@pytest.fixture(params=[True, False], ids=["frozen", "plain"])
def pair(request):
    """The same class twice: ours, and the standard library's."""
    return [made(module, frozen=request.param) for module in (shape, dataclasses)]


@pytest.mark.parametrize(
    ("given", "named"),
    [((1,), {}), ((1, "a"), {"seen": 2.0}), ((), {"number": 1, "secret": "x"}), ((1, "a", [3], "x", 1.0), {})],
)
def test_what_is_given_and_what_is_not(pair, given, named):
    ours, theirs = (cls(*given, **named) for cls in pair)
    assert vars(ours) == vars(theirs)
    assert repr(ours) == repr(theirs)
    assert ours.size == theirs.size
    assert shape.asdict(ours) == dataclasses.asdict(theirs) == dataclasses.asdict(ours)
    assert shape.names(ours) == shape.names(type(ours)) == tuple(each.name for each in dataclasses.fields(theirs))


@pytest.mark.parametrize(
    ("given", "named"), [((), {}), ((1, "a", [], "x", 1.0, 2), {}), ((1,), {"colour": 2}), ((1,), {"number": 1})]
)
def test_what_does_not_fit_is_refused(pair, given, named):
    for cls in pair:
        with pytest.raises(TypeError):
            cls(*given, **named)


def test_each_record_has_a_list_of_its_own(pair):
    assert all(cls(1).pages is not cls(1).pages for cls in pair)


def test_records_are_compared_by_what_counts(pair):
    for cls in pair:
        assert cls(1, "a") == cls(1, "a", seen=5.0)
        assert cls(1, "a") != cls(2, "a")
        assert cls(1) != (1,)
    assert pair[0](1) != pair[1](1)


def test_a_frozen_record_stays_as_it_is_and_can_be_a_key():
    for module in (shape, dataclasses):
        cls = made(module, frozen=True)
        one = cls(1, pages=())
        with pytest.raises(AttributeError):
            one.number = 2
        with pytest.raises(AttributeError):
            del one.number
        assert len({one, cls(1, pages=(), seen=3.0)}) == 1


def test_a_plain_record_changes_and_is_no_key():
    for module in (shape, dataclasses):
        one = made(module, frozen=False)(1)
        one.number = 2
        assert one.number == 2
        with pytest.raises(TypeError):
            hash(one)


def test_a_changed_copy(pair):
    one = pair[0](1, "a")
    for other in (shape.replace(one, text="b"), dataclasses.replace(one, text="b")):
        assert (other, one.text) == (pair[0](1, "b"), "a")
    with pytest.raises(TypeError):
        shape.replace(one, colour="red")


@shape.dataclass(frozen=True)
class Inner:
    """A record in a record, and one that tells itself in its own way."""

    name: str

    def __repr__(self) -> str:
        return "…"


@shape.dataclass(frozen=True)
class Outer:
    """A record that holds another."""

    inner: Inner
    kind: str = "plain"


def test_a_record_within_another():
    one = Outer(Inner("x"))
    assert shape.asdict(one) == dataclasses.asdict(one) == {"inner": {"name": "x"}, "kind": "plain"}
    assert repr(one) == "Outer(inner=…, kind='plain')"
    assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301
    match one:
        case Outer(Inner(name), "plain"):
            assert name == "x"
        case _:
            pytest.fail("no match")


def test_brackets_are_for_the_type_checker_alone():
    kind = shape.TypeVar("kind")

    class Box(shape.Generic[kind]):
        """A box of something."""

    class Letters(Box[str]):
        """A box of letters."""

    assert isinstance(Letters(), Box)
