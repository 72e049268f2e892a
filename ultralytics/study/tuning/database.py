"""The Optuna study of a search: one SQLite file in its folder, which every process of the search opens.

Proposals are those of the tree-structured Parzen estimator (Bergstra et al., "Algorithms for Hyper-Parameter
Optimization", NeurIPS 2011, section 4) and each is drawn with a seed of its own, so that with one process a search that
was killed and resumed proposes what it would have proposed otherwise. Pruning is Optuna's median rule: a run stops
when its best value so far is below the median of the values of the finished runs at the same epoch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ultralytics.cfg.schema import Trait
from ultralytics.study.tuning.space import Space, as_record, read_space
from ultralytics.utils.config.yaml_io import plain
from ultralytics.utils.errors import ConfigError, MissingPackageError
from ultralytics.utils.files import atomic_write

if TYPE_CHECKING:
    import optuna

DATABASE, SETTINGS_FILE, STUDY_NAME = "study.db", "tune.json", "tune"
FREE_TRIALS = 4
"""Finished trials before one is pruned, and trials that are drawn at random before the estimator proposes."""
BUSY_S = 120
"""Seconds that a process waits for the file while another one writes."""


@dataclass(frozen=True)
class SearchSettings:
    """What all processes of a search agree on. `start` is the digest of the network and the ratio held out."""

    space: dict[str, Any]
    base: dict[str, Any]
    start: dict[str, Any]
    seed: int
    prune: bool
    parallel: bool

    @property
    def axes(self) -> Space:
        """The space."""
        return read_space(self.space, "", Trait.NONE)

    @property
    def warmup(self) -> int:
        """Epochs before a trial may be pruned."""
        return max(1, int(self.base.get("epochs", 100)) // 3)

    def save(self, folder: Path) -> None:
        """Write the file of settings.

        Raises:
            ConfigError: the folder holds another search.
        """
        known = SearchSettings.load(folder)
        if known is not None and (changed := self.changed(known)):
            remedy = "give another name=, or delete the folder"
            raise ConfigError(f"{folder}: holds a search with another {', '.join(changed)}", remedy)
        with atomic_write(folder / SETTINGS_FILE) as f:
            json.dump(plain(asdict(self)), f, indent=2)

    def changed(self, known: SearchSettings) -> list[str]:
        """Return the names of what differs from another search, so that trials of both could not be compared."""
        names = [k for k in ("space", "seed", "prune") if getattr(known, k) != getattr(self, k)]
        for mine, other in ((self.start, known.start), (self.base, known.base)):
            names += [k for k in dict.fromkeys([*mine, *other]) if mine.get(k) != other.get(k)]
        return list(dict.fromkeys(names))

    @staticmethod
    def load(folder: Path) -> SearchSettings | None:
        """Read the file of settings; None where there is none."""
        try:
            return SearchSettings(**json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def settings_of(
    space: Space, base: dict[str, Any], start: dict[str, Any], prune: bool, parallel: bool
) -> SearchSettings:
    """Return the settings of a search over `space` around the arguments `base`, whose seed is that of the draws too."""
    record = json.loads(json.dumps(plain(base)))
    return SearchSettings(as_record(space), record, start, int(record.get("seed") or 0), prune, parallel)


def need_optuna() -> None:
    """Raise MissingPackageError where Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise MissingPackageError("tune needs optuna", "pip install 'rtdetr-shsa[tune]'") from None


def open_study(folder: Path, settings: SearchSettings, draw: int = 0) -> optuna.study.Study:
    """Open the study of a folder, and make it where there is none; `draw` is the number of the trial to come."""
    need_optuna()
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{(folder / DATABASE).absolute()}", engine_kwargs={"connect_args": {"timeout": BUSY_S}}
    )
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=FREE_TRIALS, constant_liar=settings.parallel, seed=settings.seed * 100_003 + draw
    )
    pruner: Any = optuna.pruners.NopPruner()
    if settings.prune:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=FREE_TRIALS, n_warmup_steps=settings.warmup)
    return optuna.create_study(
        storage=storage,
        sampler=sampler,
        pruner=pruner,
        study_name=STUDY_NAME,
        direction="maximize",
        load_if_exists=True,
    )
