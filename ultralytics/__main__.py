"""`python -m ultralytics` is the command line."""

from ultralytics.cli.main import entrypoint

if __name__ == "__main__":
    entrypoint()
