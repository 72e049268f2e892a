"""Studies: variants of a training run over several seeds, judged by statistics, and reports of the runs.

From low to high: `plan` (what the user asks for), `jobs` (one run, and its content address), `worker` (runs it in a
process), `check` (all variants before the first run), `engines` (where runs are executed), `statistics`, `results`
(what runs have measured), `tables`, `figures` and `report` (what is written), `run_study` and `run_groups` (the
commands).
"""
