from __future__ import annotations

import copy
import pickle

import pytest

from ultralytics.utils import IterableSimpleNamespace


def test_values() -> None:
    args = IterableSimpleNamespace(b=1, a="x")
    assert dict(args) == vars(args) == {"b": 1, "a": "x"}
    assert str(args) == "b=1\na=x"
    assert (args.get("b"), args.get("c"), args.get("c", 5)) == (1, None, 5)
    assert not hasattr(args, "c") and list(IterableSimpleNamespace()) == []
    with pytest.raises(AttributeError, match=r"no argument 'lr'.*default\.yaml"):
        _ = args.lr


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_user_keys_travel_but_do_not_show(clone: object) -> None:
    args = IterableSimpleNamespace(a=[1], b=2)
    assert args.user_keys == frozenset()
    args.user_keys = frozenset({"a"})
    new = clone(args)  # type: ignore[operator]
    assert new == args and new.user_keys == {"a"} and type(new) is IterableSimpleNamespace
    assert "user_keys" not in vars(new) and "user_keys" not in str(new)
    new.b = 3
    assert args.b == 2
