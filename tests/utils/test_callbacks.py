from __future__ import annotations

import re

import pytest

from ultralytics.utils import ROOT, callbacks
from ultralytics.utils.callbacks import EVENTS, CallbackMixin, Callbacks, base, get_default_callbacks
from ultralytics.utils.errors import ConfigError, ConfigTypeError


def test_events() -> None:
    assert len(EVENTS) == len(set(EVENTS)) == 25
    assert list(get_default_callbacks()) == list(EVENTS)
    assert get_default_callbacks()["teardown"] is not get_default_callbacks()["teardown"]


def test_the_table_under_the_paths_of_the_interface() -> None:
    for module in (callbacks, base):
        assert module.default_callbacks == {event: [] for event in EVENTS}
        assert module.get_default_callbacks is get_default_callbacks and module.add_integration_callbacks(None) is None
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        _ = base.nothing_of_this_name


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_is_fired_somewhere(event: str) -> None:
    """Who adds a callback relies on it being called; the order is tested with the owners."""
    calls = re.compile(rf"""(run_callbacks|callbacks\.run|notify)\(\s*"{event}\"""")
    assert any(calls.search(file.read_text(encoding="utf-8")) for file in (ROOT / "engine").rglob("*.py"))


def test_functions_run_in_order_with_the_owner() -> None:
    seen: list[tuple[str, object]] = []
    callbacks = Callbacks({"on_train_start": [lambda o: seen.append(("a", o))]})
    callbacks.add("on_train_start", lambda o: seen.append(("b", o)))
    callbacks.run("on_train_start", 7)
    callbacks.run("on_train_end", 8)
    assert seen == [("a", 7), ("b", 7)]
    copy = Callbacks(callbacks)
    callbacks.clear("on_train_start")
    assert not callbacks.table["on_train_start"] and len(copy.table["on_train_start"]) == 2
    copy.clear()
    assert not any(copy.table.values())


def test_a_callback_may_add_another() -> None:
    callbacks = Callbacks()
    callbacks.add("teardown", lambda o: callbacks.add("teardown", print))
    callbacks.run("teardown", None)
    assert len(callbacks.table["teardown"]) == 2


@pytest.mark.parametrize(("event", "word"), [("on_train_strat", "on_train_start"), ("zzz", "Events:"), ("", "Events:")])
def test_unknown_events(event: str, word: str) -> None:
    for act in (lambda: Callbacks().add(event, print), lambda: Callbacks().run(event, None)):
        with pytest.raises(ConfigError, match=word):
            act()
    with pytest.raises(ConfigError):
        Callbacks({event: [print]})


def test_a_callback_must_be_callable() -> None:
    with pytest.raises(ConfigTypeError, match="function"):
        Callbacks().add("teardown", "text")  # type: ignore[arg-type]


def test_mixin() -> None:
    class Owner(CallbackMixin):
        def __init__(self) -> None:
            self.callbacks = Callbacks()

    seen: list[object] = []
    owner = Owner()
    owner.add_callback("teardown", seen.append)
    owner.run_callbacks("teardown")
    assert seen == [owner]
