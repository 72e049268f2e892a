"""The search for arguments, `yolo tune`: many short runs on one Optuna study.

From low to high: `space` (what is varied), `holdout` (the images that choose), `database` (the Optuna study), `trial`
(one run, in a process of an engine of `study.engines`), `run_tuning` (the command and its report).
"""
