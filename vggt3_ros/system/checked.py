"""Configs whose values are checked by pydantic, each with its meaning, unit and range: what ROS
parameters, config/backend.yaml and docs/parameters.md are made of.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypedDict, TypeVar, cast, get_args

from pydantic import ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

C = TypeVar("C", bound="Checked")


class ValueInfo(TypedDict):
    """What is known of a config value: its meaning, unit, range and choices, and whether it may
    change while the back end runs.
    """

    doc: str
    unit: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    live: bool


def value(
    default: float | str,
    doc: str,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    live: bool = True,
) -> Any:
    """A config field. `live`: may change while the back end runs (else it needs a restart)."""
    known: dict[str, Any] = {"doc": doc, "unit": unit, "low": low, "high": high, "live": live}
    return Field(default, description=doc, ge=low, le=high, json_schema_extra=known)


class Checked:
    """Base of the configs: pydantic dataclasses of values, or of components, which are configs of
    their own.

    A value is of exactly its type (an integer will do for a float), finite, and within its range;
    pydantic raises a ValidationError, which is a ValueError, for any other.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )
    __pydantic_fields__: ClassVar[dict[str, FieldInfo]]

    @classmethod
    def from_flat(cls, values: Mapping[str, object]) -> Self:
        """Return the config of {"loops.pairs_per_keyframe": 5, ...}; values not given have their
        defaults.

        ValueError: a name does not exist, or a value is refused. The text is one line and names
        the parameter, what it may be, and what was given.
        """
        parts: dict[str, dict[str, object]] = {}
        own: dict[str, object] = {}
        for name, given in values.items():
            component, _, leaf = name.rpartition(".")
            (parts.setdefault(component, {}) if component else own)[leaf] = given
        known = components(cls)
        for component, given_values in parts.items():
            if component not in known:
                raise ValueError(
                    f"unknown config component '{component}'; there are: {', '.join(known)}"
                )
            own[component] = _build(known[component], component + ".", given_values)
        return _build(cls, "", own)

    def flat(self) -> dict[str, tuple[Any, ValueInfo]]:
        """Return {"loops.pairs_per_keyframe": (value, what is known of it), ...} of every value,
        components last.
        """
        out = {name: (getattr(self, name), info) for name, info in describe(type(self)).items()}
        for component, kind in components(type(self)).items():
            part = getattr(self, component)
            for name, info in describe(kind).items():
                out[f"{component}.{name}"] = (getattr(part, name), info)
        return out

    def changed(self) -> dict[str, Any]:
        """Return {"loops.pairs_per_keyframe": value, ...} of the values that are not the
        defaults.
        """
        defaults = type(self)().flat()
        return {
            name: value for name, (value, _) in self.flat().items() if value != defaults[name][0]
        }


def components(config: type[Checked]) -> dict[str, type[Checked]]:
    """Return {name: config class} of the components of a config."""
    kinds = {name: field.annotation for name, field in config.__pydantic_fields__.items()}
    return {n: k for n, k in kinds.items() if isinstance(k, type) and issubclass(k, Checked)}


def describe(config: type[Checked]) -> dict[str, ValueInfo]:
    """Return {name: what is known of it} of a config's own values, without those of its
    components.
    """
    out, parts = {}, components(config)
    for name, field in config.__pydantic_fields__.items():
        if name not in parts:
            known = cast(dict[str, Any], field.json_schema_extra)
            out[name] = cast(ValueInfo, {**known, "choices": get_args(field.annotation)})
    return out


def _build(config: type[C], prefix: str, given: Mapping[str, object]) -> C:
    try:
        return config(**given)
    except ValidationError as error:
        found = error.errors(include_url=False)
    unknown = sorted(
        prefix + str(e["loc"][0])
        for e in found
        if e["loc"] and e["loc"][0] not in config.__pydantic_fields__
    )
    if unknown:
        names = ", ".join(prefix + name for name in sorted(config.__pydantic_fields__))
        raise ValueError(f"unknown config value '{unknown[0]}'; there are: {names}")
    raise ValueError("; ".join(prefix + _explain(config, e) for e in found))


def _explain(config: type[Checked], error: ErrorDetails) -> str:
    """Return what pydantic found wrong, as a person who sets ROS parameters would say it."""
    if error["type"] == "value_error":  # of a validator of our own, which names the value
        return str(error["ctx"]["error"])
    name, given = str(error["loc"][0]), error["input"]
    if name in components(config):
        return f"{name} is a component; set its values as {name}.NAME"
    field, info = config.__pydantic_fields__[name], describe(config)[name]
    if error["type"] in ("greater_than_equal", "less_than_equal"):
        return (
            f"{name} must be {info['low']} to {info['high']} {info['unit']}".rstrip()
            + f", got {given}"
        )
    if error["type"] == "finite_number":
        return f"{name} must be finite, got {given}"
    if info["choices"]:
        return f"{name} must be one of {', '.join(info['choices'])}, got {given!r}"
    return f"{name} must be {type(field.default).__name__}, got {given!r}"
