"""Small functions that scripts of the interface import; they are found under its paths, such as `utils.checks`."""
