"""Parts of a training run: set-up, optimizer, state that is saved, recovery, console output."""
