"""Compare what golden cases give with the recorded numbers; the entries are `load_cases` and `check`."""

import json
from functools import cache
from pathlib import Path

import numpy as np

from tests.golden.runner import (
    model_summary,
    run_cdn,
    run_iou,
    run_loss,
    run_matcher,
    run_metrics,
    run_model,
    run_module,
)

HERE = Path(__file__).resolve().parent


def close(name, got, want, rtol, atol):
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        return [f"{name}: shape {got.shape}, want {want.shape}"]
    if want.dtype == bool or np.issubdtype(want.dtype, np.integer):
        return [] if np.array_equal(got, want) else [f"{name}: {(got != want).sum()} of {want.size} entries differ"]
    got, want = got.astype(np.float64), want.astype(np.float64)
    inf = ~np.isfinite(want)
    if not np.array_equal(got[inf], want[inf], equal_nan=True):
        return [f"{name}: non-finite entries differ"]
    d = np.abs(got - want)[~inf]
    bad = d > atol + rtol * np.abs(want)[~inf]
    return [f"{name}: {bad.sum()} of {want.size} entries off, max {d.max():.3g} (atol {atol:.1g})"] if bad.any() else []


def same_keys(got, want):
    missing, extra = sorted(set(want) - set(got)), sorted(set(got) - set(want))
    bad = [k for k in want if k in got and list(got[k]) != list(want[k])]
    out = []
    if missing:
        out.append(f"state dict lacks {missing[:4]} ({len(missing)})")
    if extra:
        out.append(f"state dict has extra {extra[:4]} ({len(extra)})")
    if bad:
        out.append(f"state dict shapes differ: {[(k, got[k], want[k]) for k in bad[:3]]} ({len(bad)})")
    return out


def close_grads(name, got, want, rtol):
    if got.shape != want.shape:
        return [f"{name}: {len(got)} gradients, want {len(want)}"]
    scale = np.maximum(want[:, 0], 1e-4 * max(float(want[:, 0].max()), 1e-9) if len(want) else 1.0)
    d = np.abs(got - want) / scale[:, None]
    bad = (d > rtol).any(1)
    return [f"{name}: {bad.sum()} of {len(want)} off (first row {int(bad.argmax())}, max rel {d.max():.3g})"] if bad.any() else []


def match_rows(rows, want, tol_score, tol_box):
    """Check golden rows [cx cy w h score class] against candidate rows of one image; near-equal scores may swap."""
    s = np.sort(rows[:, 4])[::-1][: len(want)]
    if len(s) < len(want):
        return [f"{len(s)} rows, want {len(want)}"]
    out = close("sorted scores", s, want[:, 4], 0, tol_score)
    used = np.zeros(len(rows), bool)
    for n, w in enumerate(want):
        d = np.maximum(np.abs(rows[:, :4] - w[:4]).max(1) / tol_box, np.abs(rows[:, 4] - w[4]) / tol_score)
        d[(rows[:, 5] != w[5]) | used] = np.inf
        j = int(d.argmin())
        if not d[j] <= 1:
            out.append(f"row {n} (score {w[4]:.5f}) has no partner (nearest {d[j]:.3g} tolerances)")
        else:
            used[j] = True
    return out[:4]


def check_module(case, z):
    res, shapes = run_module(case)
    errors = [] if case.get("function") else same_keys(shapes, case["state_dict"])
    for o in case["outputs"]:
        k = o["name"]
        if k not in res:
            errors.append(f"{k}: missing")
        elif o.get("rows"):  # rows sorted by score: near-equal scores may swap
            want = z[f"{case['id']}/{k}"]
            if res[k].shape != want.shape:
                errors.append(f"{k}: shape {res[k].shape}, want {want.shape}")
            else:
                errors += [f"{k}[{b}]: {e}" for b in range(len(want)) for e in match_rows(res[k][b], want[b], o["atol"], o["atol"])]
        elif k.startswith("grad/"):
            errors += close_grads(k, res[k], z[f"{case['id']}/{k}"], o["rtol"])
        else:
            errors += close(k, res[k], z[f"{case['id']}/{k}"], o["rtol"], o["atol"])
    n = sum(k.startswith("out") for k in res)
    m = sum(o["name"].startswith("out") for o in case["outputs"])
    if n != m:
        errors.append(f"{n} outputs, want {m}")
    return errors


def check_model(case, z):
    res, facts = run_model(case)
    errors = same_keys(facts["state_dict"], case["state_dict"])
    if facts["params"] != case["params"]:
        errors.append(f"{facts['params']} parameters, want {case['params']}")
    if case.get("fused_params") and facts.get("fused_params") != case["fused_params"]:
        errors.append(f"{facts.get('fused_params')} parameters after fuse, want {case['fused_params']}")
    if facts["save"] != sorted(set(case["save"])):
        errors.append(f"save {facts['save']}, want {case['save']}")
    for got, want in zip(facts["table"], case["table"]):
        if got != want:
            errors.append(f"layer {got}, want {want}")
            break
    if len(facts["table"]) != len(case["table"]):
        errors.append(f"{len(facts['table'])} layers, want {len(case['table'])}")
    if case["mode"] == "loss":
        errors += close("loss", res["loss"], z[f"{case['id']}/loss"], case["rtol"], case["atol"])
        errors += close_grads("grad", res["grad"], z[f"{case['id']}/grad"], case["rtol_grad"])
        return errors
    _, stats = model_summary(res, case["top"])
    want = z[f"{case['id']}/top"]
    if len(res["y"]) != len(want):
        return [*errors, f"batch {len(res['y'])}, want {len(want)}"]
    for b in range(len(want)):
        errors += [f"image {b}: {e}" for e in match_rows(res["y"][b], want[b], case["tol_score"], case["tol_box"])]
    for k, v in case["stats"].items():
        errors += close(f"stats of {k}", stats[k], v, case["rtol_stats"], case["rtol_stats"])
    return errors


def check_matcher(case, z):
    got = run_matcher(case, z)
    if len(got) != len(case["indices"]):
        return [f"{len(got)} images, want {len(case['indices'])}"]
    return [f"image {i}: {a}, want {b}" for i, (a, b) in enumerate(zip(got, case["indices"]))
            if sorted(zip(*a)) != sorted(zip(*b))]


def check_loss(case, z):
    terms, grads = run_loss(case, z)
    errors = []
    if set(terms) != set(case["terms"]):
        errors.append(f"terms {sorted(terms)}, want {sorted(case['terms'])}")
    for k, v in case["terms"].items():
        if k in terms:
            errors += close(k, terms[k], v, case["rtol"], case["atol"])
    for i, g in enumerate(grads):
        errors += close(f"grad{i}", g, z[f"{case['id']}/grad{i}"], 1e-3, case["atol_grad"])
    return errors


def check_cdn(case, z):
    emb, box, mask, meta = run_cdn(case, z)
    want = case["result"]
    if want is None:
        return [] if meta is None else ["want None"]
    if meta is None:
        return ["got None"]
    errors = [] if list(emb.shape) == want["embed_shape"] else [f"embed {emb.shape}, want {want['embed_shape']}"]
    errors += [] if list(box.shape) == want["bbox_shape"] else [f"bbox {box.shape}, want {want['bbox_shape']}"]
    n = want["mask_shape"]
    packed = np.unpackbits(z[f"{case['id']}/mask"])[: n[0] * n[1]].reshape(n).astype(bool)
    errors += close("mask", mask, packed, 0, 0)
    for k in ("dn_pos_idx", "dn_num_group", "dn_num_split"):
        if json.loads(json.dumps(meta.get(k))) != want[k]:
            errors.append(f"{k}: {meta.get(k)}, want {want[k]}")
    return errors


def check_metrics(case, z):
    res = run_metrics(case, z)
    return [e for k in case["outputs"] for e in close(k, res[k], z[f"{case['id']}/{k}"], case["rtol"], case["atol"])]


def check_iou(case, z):
    res = run_iou(case, z)
    return [e for k in case["outputs"] for e in close(k, res[k], z[f"{case['id']}/{k}"], case["rtol"], case["atol"])]


CHECK = {"module": check_module, "model": check_model, "matcher": check_matcher, "loss": check_loss,
         "cdn": check_cdn, "metrics": check_metrics, "iou": check_iou}


def load_cases(file=HERE / "cases.json"):
    """Return the list of all cases of a file, with `"@other"` state dicts resolved."""
    cases = json.loads(Path(file).read_text(encoding="utf-8"))["cases"]
    by_id = {c["id"]: c for c in cases}
    for c in cases:
        if isinstance(c.get("state_dict"), str):
            c["state_dict"] = by_id[c["state_dict"][1:]]["state_dict"]
    return cases


@cache
def read_arrays(file):
    """Return the recorded arrays of a file by the id of their case."""
    found = {}
    with np.load(file) as z:
        for key in z.files:
            found.setdefault(key.partition("/")[0], {})[key] = z[key]
    return found


def check(case, folder=HERE, groups=CHECK):
    """Return the list of differences between the project's numbers and the golden ones; empty when the case passes."""
    arrays = read_arrays(folder / case["file"]).get(case["id"], {}) if case.get("file") else {}
    return groups[case["group"]](case, {k: v.copy() for k, v in arrays.items()})
