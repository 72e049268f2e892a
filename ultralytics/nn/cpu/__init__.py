"""The fast path of inference on a CPU, behind one function; `versions`, `finite` and `malloc` serve the engine too."""

from ultralytics.nn.cpu.late_upsample import upsample_late
from ultralytics.nn.cpu.optimize import optimize_for_cpu
from ultralytics.nn.cpu.prepacked import prepack

__all__ = ["optimize_for_cpu", "prepack", "upsample_late"]
