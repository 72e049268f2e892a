"""Label files: parsed, kept as flat tables, cached, reported."""
