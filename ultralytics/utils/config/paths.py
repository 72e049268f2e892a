"""Where the package's own files lie."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""Folder of the import package."""
ASSETS = ROOT / "assets"
"""Folder of bundled pictures."""
CFG_DIR = ROOT / "cfg"
"""Folder of default.yaml and of the model, data set and recipe YAMLs."""
DEFAULT_CFG_PATH = CFG_DIR / "default.yaml"
"""The file of default arguments."""
