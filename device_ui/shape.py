"""Records, and what the type checker alone needs: the words of `dataclasses` and `typing` without what they load.

`dataclasses` loads `inspect`, and that one `ast`, `dis` and `tokenize`; then it compiles code for each class: 1.4 MiB of
a process that waits for alarms. `typing` holds half a MiB more. A type checker is shown the standard library's own, so
that the words mean the same here; left out is what nobody here uses (order, slots, records that inherit from records).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import asdict, dataclass, field, replace
    from typing import Any, Generic, Protocol, TypeVar

__all__ = ["TYPE_CHECKING", "Any", "Generic", "Protocol", "TypeVar", "asdict", "dataclass", "field", "names", "replace"]


NOTHING: object = object()


class Field:
    """What is known of one name of a record: its default, or what makes one, and whether it is compared and shown."""

    def __init__(
        self,
        *,
        default: Any = NOTHING,
        default_factory: Callable[[], Any] | None = None,
        compare: bool = True,
        repr: bool = True,  # noqa: A002
    ) -> None:
        self.default, self.factory, self.compare, self.repr = default, default_factory, compare, repr

    def made(self, cls: type, name: str) -> Any:
        """The value of a name that was not given. Raises TypeError when it has no default."""
        if self.factory:
            return self.factory()
        if self.default is NOTHING:
            raise TypeError(f"{cls.__name__} needs {name}")
        return self.default


class Standard:
    """What the standard library's own functions (`dataclasses.replace`, `fields`) ask a record for, made when one does."""

    def __get__(self, record: object, cls: type) -> dict[str, Any]:
        import dataclasses

        made = dataclasses.make_dataclass(cls.__name__, names(cls))
        return {each.name: each for each in dataclasses.fields(made)}


def names(record: object) -> tuple[str, ...]:
    """The names of a record, or of its class, in their order."""
    return tuple(record.__match_args__)  # type: ignore[attr-defined]


def _dataclass(cls: type | None = None, /, *, frozen: bool = False) -> Any:
    if cls is None:
        return lambda cls: _dataclass(cls, frozen=frozen)
    fields = {name: _field(cls, name) for name in cls.__annotations__}
    compared = tuple(name for name, each in fields.items() if each.compare)
    shown = tuple(name for name, each in fields.items() if each.repr)

    def values(self: object) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in compared])

    made: dict[str, Any] = {
        "__init__": _init(cls, fields),
        "__eq__": lambda self, other: values(self) == values(other) if type(self) is type(other) else NotImplemented,
        "__hash__": (lambda self: hash(values(self))) if frozen else None,
        "__repr__": lambda self: (
            f"{cls.__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"
        ),
        "__match_args__": tuple(fields),
        "__dataclass_fields__": Standard(),
        **({"__setattr__": _refuse, "__delattr__": _refuse} if frozen else {}),
    }
    for name, each in made.items():
        if name not in cls.__dict__:
            setattr(cls, name, each)
    return cls


def _field(cls: type, name: str) -> Field:
    """The field of a name in a class's body; what stands there afterwards is its default alone."""
    found = cls.__dict__.get(name, NOTHING)
    if not isinstance(found, Field):
        return Field(default=found)
    if found.default is NOTHING:
        delattr(cls, name)
    else:
        setattr(cls, name, found.default)
    return found


def _init(cls: type, fields: dict[str, Field]) -> Callable[..., None]:
    order = tuple(fields)

    def init(self: object, *given: Any, **named: Any) -> None:
        # Past __setattr__, which a frozen record refuses.
        into = self.__dict__
        if len(given) > len(order):
            raise TypeError(f"{cls.__name__} takes {len(order)} values")
        into.update(zip(order, given, strict=False))
        for name in order[len(given) :]:
            into[name] = named.pop(name) if name in named else fields[name].made(cls, name)
        if named:
            raise TypeError(f"{cls.__name__} cannot take {', '.join(named)}")

    return init


def _refuse(self: object, name: str, *_: object) -> None:
    raise AttributeError(f"{type(self).__name__} is frozen: {name} stays as it is")


def _replace(record: Any, /, **changes: Any) -> Any:
    return type(record)(**{**record.__dict__, **changes})


def _asdict(record: object) -> dict[str, Any]:
    values = ((name, getattr(record, name)) for name in names(record))
    return {
        name: _asdict(value) if isinstance(getattr(value, "__match_args__", None), tuple) else value
        for name, value in values
    }


if not TYPE_CHECKING:
    asdict, dataclass, field, replace = _asdict, _dataclass, Field, _replace
    Any = Protocol = object
    TypeVar = str

    class Generic:
        """A class that is told apart by the types in its brackets, for a type checker alone."""

        __class_getitem__ = classmethod(type(list[int]))
