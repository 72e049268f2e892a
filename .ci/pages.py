"""Hook of mkdocs: pages at the root of the tree (README, CONTRIBUTING, ...) become pages of the site, links adapted.

Headings in Chinese get anchors of their own characters, as on the hosts of repositories, so that a link works in both.
"""

from __future__ import annotations

from pathlib import Path

from markdown.extensions.toc import slugify_unicode
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = {
    "README.md": "index.md",
    "README.zh-CN.md": "zh-CN.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Keep the letters of every script in anchors; the default drops all but ASCII."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify_unicode
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the root's pages to those of the docs folder."""
    root = Path(config.config_file_path).parent
    for source, page in PAGES.items():
        text = (root / source).read_text(encoding="utf-8").replace("](docs/", "](")
        for name, target in PAGES.items():
            text = text.replace(f"]({name}", f"]({target}")
        files.append(File.generated(config, page, content=text))
    return files
