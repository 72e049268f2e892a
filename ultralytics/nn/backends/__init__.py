"""Runners of exported files, one module a runtime; each runtime is an optional package, imported when it is used."""
