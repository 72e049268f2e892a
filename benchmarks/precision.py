"""What bfloat16 costs in AP: one set of weights validated in float32 and in bfloat16 (emulated where it is not native).

python benchmarks/precision.py --model best.pt --data data.yaml
"""

from __future__ import annotations

import sys
import tempfile

from common import ROOT, Report, arguments, machine

sys.path.insert(0, str(ROOT))

from ultralytics import RTDETR


def main() -> None:
    """Validate twice and report."""
    args = arguments(__doc__ or "", "model", "data")
    report = Report("precision", "AP by precision", {"model": args.model, "data": args.data}, machine(args.threads))
    ap = {}
    with tempfile.TemporaryDirectory() as folder:
        for amp in (False, "bf16"):
            how = {"data": args.data, "amp": amp, "plots": False, "project": folder, "device": "cpu", "workers": 0}
            ap[amp] = float(RTDETR(args.model).val(**how).box.map)
            report.fact(f"mAP50-95, amp={amp}", round(ap[amp], 5))
    difference = abs(ap[False] - ap["bf16"])
    report.fact("difference", round(difference, 5), "at most 0.003", difference <= 0.003)
    report.write(args.out)


if __name__ == "__main__":
    main()
