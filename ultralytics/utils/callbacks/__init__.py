"""Events of a run, and the functions that listen to them.

A callback takes its owner (trainer, validator, predictor or exporter) as its only argument.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from ultralytics.utils.errors import ConfigError, ConfigTypeError

Callback: TypeAlias = Callable[[Any], object]

EVENTS: tuple[str, ...] = (
    "on_pretrain_routine_start",
    "on_pretrain_routine_end",
    "on_train_start",
    "on_train_epoch_start",
    "on_train_batch_start",
    "optimizer_step",
    "on_before_zero_grad",
    "on_train_batch_end",
    "on_train_epoch_end",
    "on_fit_epoch_end",
    "on_model_save",
    "on_train_end",
    "on_params_update",
    "teardown",
    "on_val_start",
    "on_val_batch_start",
    "on_val_batch_end",
    "on_val_end",
    "on_predict_start",
    "on_predict_batch_start",
    "on_predict_postprocess_end",
    "on_predict_batch_end",
    "on_predict_end",
    "on_export_start",
    "on_export_end",
)


def get_default_callbacks() -> dict[str, list[Callback]]:
    """Return a fresh table with an empty list for each event."""
    return {event: [] for event in EVENTS}


def __getattr__(name: str) -> Any:
    if name == "default_callbacks":  # the interface's table, a copy each time
        return get_default_callbacks()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def add_integration_callbacks(instance: object) -> None:
    """Do nothing: the loggers of `loggers=` and of the settings are attached when a run starts."""


def check_event(event: str) -> str:
    """Return the event's name; an unknown one raises ConfigError with the nearest names."""
    if event not in EVENTS:
        near = difflib.get_close_matches(event, EVENTS, n=3, cutoff=0.5)
        hint = f"Did you mean {', '.join(near)}?" if near else f"Events: {', '.join(EVENTS)}."
        raise ConfigError(f"there is no callback event {event!r}\n{hint}")
    return event


class Callbacks:
    """A table of callbacks per event; `table` may be what `Callbacks.table` of another owner holds.

    >>> seen = []
    >>> callbacks = Callbacks()
    >>> callbacks.add("on_train_start", seen.append)
    >>> callbacks.run("on_train_start", "owner")
    >>> seen
    ['owner']
    """

    def __init__(self, table: Mapping[str, Iterable[Callback]] | Callbacks | None = None) -> None:
        self.table = get_default_callbacks()
        given = table.table if isinstance(table, Callbacks) else table or {}
        for event, functions in given.items():
            for fn in functions:
                self.add(event, fn)

    def add(self, event: str, fn: Callback) -> None:
        """Append a function to an event's list; functions run in the order in which they were added."""
        if not callable(fn):
            raise ConfigTypeError(f"the callback for {event!r} must be a function of one argument, not {fn!r}")
        self.table[check_event(event)].append(fn)

    def add_missing(self, other: Callbacks) -> Callbacks:
        """Append the functions of another table that are not here yet; return a table of them."""
        added = Callbacks()
        for event, functions in other.table.items():
            for fn in functions:
                if fn not in self.table[event]:
                    self.add(event, fn)
                    added.add(event, fn)
        return added

    def remove(self, other: Callbacks) -> None:
        """Take out the functions of another table, where they are still here."""
        for event, functions in other.table.items():
            for fn in functions:
                if fn in self.table[event]:
                    self.table[event].remove(fn)

    def __getitem__(self, event: str) -> list[Callback]:
        """The list of an event's functions."""
        return self.table[check_event(event)]

    def clear(self, event: str | None = None) -> None:
        """Empty one event's list, or all of them."""
        for name in EVENTS if event is None else (check_event(event),):
            self.table[name].clear()

    def run(self, event: str, owner: object) -> None:
        """Call each function of an event with the owner."""
        for fn in tuple(self.table[check_event(event)]):
            fn(owner)


class CallbackMixin:
    """Gives an owner `add_callback` and `run_callbacks` over `self.callbacks`, which its constructor must set."""

    callbacks: Callbacks

    def add_callback(self, event: str, callback: Callback) -> None:
        """Append a function to an event's list."""
        self.callbacks.add(event, callback)

    def set_callback(self, event: str, callback: Callback) -> None:
        """Let an event have this function alone."""
        self.callbacks.clear(event)
        self.callbacks.add(event, callback)

    def run_callbacks(self, event: str) -> None:
        """Call each function of an event with this object."""
        self.callbacks.run(event, self)
