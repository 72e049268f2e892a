"""Build, run and compare the golden cases of the YOLO family; `tests/test_golden_yolo.py` is the entry.

Cases are of the kind that `tests/golden/runner.py` describes, with groups of their own; see `check_*` for what each holds.
"""

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from tests.golden import comparison, fill
from tests.golden.comparison import close, close_grads, match_rows, same_keys
from tests.golden.runner import make, resolve, summarize_grads, table

HERE = Path(__file__).resolve().parent
PATHS = {
    "DetectionModel": "ultralytics.nn.yolo:YOLODetectionModel",
    "TaskAlignedAssigner": "ultralytics.utils.tal:TaskAlignedAssigner",
    "v8DetectionLoss": "ultralytics.utils.loss:v8DetectionLoss",
    "E2ELoss": "ultralytics.utils.loss:E2ELoss",
    "Detect": "ultralytics.nn.modules:Detect",
    "non_max_suppression": "ultralytics.utils.nms:non_max_suppression",
    "MuSGD": "ultralytics.optim:MuSGD",
    "LetterBox": "ultralytics.data.augment:LetterBox",
    "guess_model_scale": "ultralytics.nn.tasks:guess_model_scale",
    "guess_model_task": "ultralytics.nn.tasks:guess_model_task",
    "yaml_model_load": "ultralytics.nn.tasks:yaml_model_load",
}


def hyper(**kw):
    """Training arguments that the losses read."""
    return SimpleNamespace(**{"box": 7.5, "cls": 0.5, "dfl": 1.5, "epochs": 100, "cls_pw": 0.0, **kw})


def items_of(items):
    """Loss items as [(name, value)]; a plain tensor or list gets the stock names."""
    if isinstance(items, dict):
        return [(k, float(v)) for k, v in items.items()]
    return list(zip(("box_loss", "cls_loss", "dfl_loss"), (float(v) for v in items)))


def build_yolo(case):
    cfg = case["cfg"]
    return resolve(PATHS["DetectionModel"])(
        copy.deepcopy(cfg["yaml"]) if "yaml" in cfg else cfg["name"], ch=case.get("ch", 3), nc=case.get("nc"), verbose=False
    )


def run_yolo(case, dtype=torch.float32):
    """Run a whole YOLO model; return arrays and facts."""
    model = build_yolo(case)
    fill.fill_(model, case["fill"]["prefix"], case["fill"]["conv_gain"])
    facts = {
        "params": sum(p.numel() for p in model.parameters()),
        "save": sorted(set(model.save)),
        "stride": [float(x) for x in model.stride],
        "table": table(model),
        "state_dict": {k: list(v.shape) for k, v in model.state_dict().items()},
    }
    model, res = model.to(dtype), {}
    if case.get("end2end") is not None:
        model.end2end = case["end2end"]
    for k, v in case.get("head_attrs", {}).items():
        setattr(model.model[-1], k, v)
    if case["mode"] in {"loss", "valloss"}:
        model.args = hyper(**case.get("hyp", {}))
        if case.get("class_weights"):
            model.class_weights = torch.tensor(case["class_weights"], dtype=dtype)
        model.train(case["mode"] == "loss")
        batch = make(case["batch"], dtype)
        for k in ("cls", "batch_idx"):
            batch[k] = batch[k].to(dtype)
        if case["mode"] == "valloss":
            with torch.no_grad():
                total, items = model.loss(batch, model(batch["img"]))
        else:
            for p in model.parameters():
                p.requires_grad_(p.is_floating_point())
            for m in model.modules():  # always frozen in training
                if type(m).__name__ == "DFL":
                    m.conv.weight.requires_grad_(False)
            total, items = model.loss(batch)
            total.sum().backward()
            res["grad"] = summarize_grads([(n, p.grad) for n, p in model.named_parameters()])
        res["total"] = np.atleast_1d(total.detach().double().numpy())
        facts["items"] = [k for k, _ in items_of(items)]
        res["items"] = np.array([v for _, v in items_of(items)], dtype=np.float64)
        return res, facts
    model.eval()
    if case.get("fuse"):
        fused = model.fuse(verbose=False)
        model = model if fused is None else fused
        facts["fused_params"] = sum(p.numel() for p in model.parameters())
        facts["fused_keys"] = len(model.state_dict())
    stats, hooks = [], []

    def hook(i):
        def f(mod, inp, out):
            if torch.is_tensor(out):
                o = out.detach().double()
                stats.append([i, o.mean().item(), o.std().item(), o.abs().max().item()])
        return f

    if case["mode"] == "eval":
        hooks = [m.register_forward_hook(hook(i)) for i, m in enumerate(model.model)]
    with torch.no_grad():
        out = model(make(case["input"], dtype), augment=True) if case["mode"] == "tta" else model(make(case["input"], dtype))
    for h in hooks:
        h.remove()
    res["y"] = (out if torch.is_tensor(out) else out[0]).numpy()
    if case["mode"] == "eval":
        res["layers"] = np.array(stats)
    return res, facts


def run_assigner(case, z, dtype=torch.float32):
    t = {k: torch.from_numpy(z[f"{case['id']}/{k}"]) for k in ("pd_scores", "pd_bboxes", "anc", "gt_labels", "gt_bboxes", "mask_gt")}
    t = {k: v.to(dtype) if v.is_floating_point() and k != "gt_labels" else v for k, v in t.items()}
    out = resolve(PATHS["TaskAlignedAssigner"])(**case["kwargs"])(*t.values())
    return dict(zip(("labels", "bboxes", "scores", "fg", "gt_idx"), (o.numpy() for o in out)))


class LossStub(torch.nn.Module):
    """The least that a loss asks of a model: parameters, args and a last layer with nc, reg_max and stride."""

    def __init__(self, case, dtype):
        super().__init__()
        head = resolve(PATHS["Detect"])(case["nc"], case["reg_max"], case["class"] == "E2ELoss", [16] * len(case["shapes"]))
        head.stride = torch.tensor([float(s) for s in case["stride"]], dtype=dtype)
        self.model = torch.nn.ModuleList([head])
        self.args = hyper(**case.get("hyp", {}))
        if case.get("class_weights"):
            self.class_weights = torch.tensor(case["class_weights"], dtype=dtype)


def run_yololoss(case, z, dtype=torch.float32):
    """Run a loss on given predictions; return total, items and gradients per branch."""
    g = lambda k: torch.from_numpy(z[f"{case['id']}/{k}"])  # noqa: E731
    dual = case["class"] == "E2ELoss"
    loss = resolve(PATHS[case["class"]])(LossStub(case, dtype).to(dtype), **case.get("kwargs", {}))
    for _ in range(case.get("updates", 0)):
        loss.update()
    feats = [torch.zeros(case["batch"], 16, *s, dtype=dtype) for s in case["shapes"]]
    preds, leaves = {}, []
    for branch in ("one2many", "one2one") if dual else ("",):
        p, na = f"{case['id']}/{branch}_", sum(h * w for h, w in case["shapes"])
        b = fill.tensor(p + "boxes", (case["batch"], 4 * case["reg_max"], na), "normal" if case["reg_max"] > 1 else "uniform")
        b = 1.5 * b if case["reg_max"] > 1 else 0.3 + 3.7 * b
        s = 1.5 * fill.tensor(p + "scores", (case["batch"], case["nc"], na)) - 1.0
        b, s = b.to(dtype).requires_grad_(), s.to(dtype).requires_grad_()
        leaves += [b, s]
        preds[branch] = {"boxes": b, "scores": s, "feats": feats}
    batch = {"batch_idx": g("batch_idx").to(dtype), "cls": g("cls").to(dtype), "bboxes": g("bboxes").to(dtype)}
    total, items = loss(preds if dual else preds[""], batch)
    total.sum().backward()
    res = {"total": total.detach().double().numpy(), "items": np.array([v for _, v in items_of(items)], dtype=np.float64)}
    for i, t in enumerate(leaves):
        res[f"grad{i}"] = (torch.zeros_like(t) if t.grad is None else t.grad).numpy()
    return res, [k for k, _ in items_of(items)]


def run_nms(case, z):
    pred = torch.from_numpy(z[f"{case['id']}/pred"])
    out = resolve(PATHS["non_max_suppression"])(pred.clone(), **case["kwargs"])
    idx = None
    if case["kwargs"].get("return_idxs"):
        out, idx = out
        idx = [i.reshape(-1).long().numpy() for i in idx]
    return [o.numpy() for o in out], idx


def run_musgd(case, dtype=torch.float32):
    """Some steps of the optimizer on named tensors; return the movement of each parameter."""
    params = {n: torch.nn.Parameter(fill.tensor(f"{case['id']}/{n}", s).to(dtype)) for n, s in case["params"].items()}
    start = {n: p.detach().clone() for n, p in params.items()}
    groups = [{**g, "params": [params[n] for n in g["params"]]} for g in case["groups"]]
    opt = resolve(PATHS["MuSGD"])(groups, **case["kwargs"])
    for k in range(case["steps"]):
        for n, p in params.items():
            p.grad = fill.tensor(f"{case['id']}/{n}/g{k}", p.shape).to(dtype) * case.get("grad_scale", 1.0)
        opt.step()
    return {n: (p.detach() - start[n]).float().numpy() for n, p in params.items()}


def named_model(part, prefix):
    """A DetectionModel with filled weights and the class names of a transfer case."""
    model = build_yolo(part)
    fill.fill_(model, prefix, 1.0)
    if part.get("names"):
        model.names = dict(enumerate(part["names"]))
    return model


def run_transfer(case):
    """Load one model's weights into another; say of each tensor where it comes from."""
    src, dst = named_model(case["source"], "src/"), named_model(case["target"], "dst/")
    if case["source"].get("fuse"):
        src.eval().fuse(verbose=False)
    before = {k: v.clone() for k, v in dst.state_dict().items()}
    want = {k: v.clone() for k, v in src.state_dict().items()}
    dst.load(src, verbose=False)
    after, res = dst.state_dict(), {}
    for k, v in after.items():
        if k.endswith("num_batches_tracked"):
            continue
        if k in want and want[k].shape == v.shape and torch.equal(want[k], v):
            res[k] = "source"
        elif k in before and before[k].shape == v.shape and torch.equal(before[k], v):
            res[k] = "own"
        else:
            r = fill.tensor("grad/" + k, v.shape).double()
            res[k] = [list(v.shape), round(float(v.double().norm()), 5), round(float((v.double() * r).sum()), 5)]
    return res, dict(dst.names)


def check_yolo(case, z):
    res, facts = run_yolo(case)
    errors = same_keys(facts["state_dict"], case["state_dict"])
    for k in ("params", "save", "stride", "fused_params", "fused_keys", "items"):
        if k in case and facts.get(k) != case[k]:
            errors.append(f"{k} {facts.get(k)}, want {case[k]}")
    for got, want in zip(facts["table"], case["table"]):
        if got != want:
            errors.append(f"layer {got}, want {want}")
            break
    if len(facts["table"]) != len(case["table"]):
        errors.append(f"{len(facts['table'])} layers, want {len(case['table'])}")
    if case["mode"] in {"loss", "valloss"}:
        for k in ("total", "items"):
            errors += close(k, res[k], z[f"{case['id']}/{k}"], case["rtol"], case["atol"])
        if "grad" in res:
            errors += close_grads("grad", res["grad"], z[f"{case['id']}/grad"], case["rtol_grad"])
        return errors
    want = z[f"{case['id']}/y"]
    if case.get("class_step"):  # boxes and every n-th class are stored
        res["y"] = np.concatenate([res["y"][:, :4], res["y"][:, 4 :: case["class_step"]]], 1)
    if res["y"].shape != want.shape:
        return [*errors, f"y {res['y'].shape}, want {want.shape}"]
    if case.get("rows"):
        for b in range(len(want)):
            errors += [f"image {b}: {e}" for e in match_rows(res["y"][b], want[b], case["tol_score"], case["tol_box"])]
    else:
        errors += close("boxes", res["y"][:, :4], want[:, :4], 1e-5, case["tol_box"])
        errors += close("scores", res["y"][:, 4:], want[:, 4:], 0, case["tol_score"])
    if "layers" in res and f"{case['id']}/layers" in z:
        want = z[f"{case['id']}/layers"]
        if res["layers"].shape != want.shape:
            errors.append(f"layer statistics {res['layers'].shape}, want {want.shape}")
        else:
            d = np.abs(res["layers"] - want)[:, 1:] / (np.abs(want[:, 3:]) + 1e-9)
            bad = (d > case["rtol_stats"]).any(1)
            if bad.any():
                errors.append(f"layer {int(want[bad.argmax(), 0])} is the first whose statistics differ ({d.max():.2g})")
    return errors


def check_init(case, z):
    model = build_yolo(case)
    state, errors = model.state_dict(), []
    for k, v in case["const"]:
        if k not in state or not torch.allclose(state[k].float(), torch.full_like(state[k].float(), v), atol=1e-5, rtol=1e-5):
            errors.append(f"{k}: {state[k].flatten()[:2].tolist() if k in state else 'missing'}, want {v}")
    for k, v in case["values"]:
        if k not in state or not torch.allclose(state[k].float().flatten(), torch.tensor(v), atol=1e-6):
            errors.append(f"{k}: want {v}")
    for k, mean, std in case["normal"]:
        v = state[k].float()
        if abs(v.std().item() / std - 1) > 0.15 or abs(v.mean().item() - mean) > 0.15 * std:
            errors.append(f"{k}: mean {v.mean():.4f}, std {v.std():.4f}, want {mean}, {std}")
    bns = {(m.eps, m.momentum) for m in model.modules() if type(m) is torch.nn.BatchNorm2d}
    if bns != {tuple(case["bn"])}:
        errors.append(f"BatchNorm eps, momentum {bns}, want {case['bn']}")
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    if frozen != case["frozen"]:
        errors.append(f"frozen {frozen}, want {case['frozen']}")
    return errors


def check_assigner(case, z):
    res = run_assigner(case, z)
    w = {k: z[f"{case['id']}/{k}"] for k in ("labels", "bboxes", "scores", "fg", "gt_idx")}
    if res["fg"].shape != w["fg"].shape:
        return [f"fg {res['fg'].shape}, want {w['fg'].shape}"]
    errors = close("fg", res["fg"].astype(bool), w["fg"].astype(bool), 0, 0)
    errors += close("scores", res["scores"], w["scores"], 1e-4, case["atol"])
    if not errors:
        f = w["fg"].astype(bool)
        errors += close("gt_idx at fg", res["gt_idx"].astype(np.int64)[f], w["gt_idx"].astype(np.int64)[f], 0, 0)
        errors += close("labels at fg", res["labels"].astype(np.int64)[f], w["labels"].astype(np.int64)[f], 0, 0)
        errors += close("bboxes at fg", res["bboxes"][f], w["bboxes"][f], 1e-6, 1e-4)
    return errors


def check_yololoss(case, z):
    res, names = run_yololoss(case, z)
    errors = [] if names == case["items"] else [f"items {names}, want {case['items']}"]
    for k in ("total", "items"):
        errors += close(k, res[k], z[f"{case['id']}/{k}"], case["rtol"], case["atol"])
    for i in range(sum(k.startswith("grad") for k in res)):
        errors += close(f"grad{i}", res[f"grad{i}"], z[f"{case['id']}/grad{i}"], 1e-3, case["atol_grad"])
    return errors


def check_nms(case, z):
    out, idx = run_nms(case, z)
    errors = [] if len(out) == case["images"] else [f"{len(out)} images, want {case['images']}"]
    for b in range(min(len(out), case["images"])):
        want = z[f"{case['id']}/out{b}"]
        if out[b].shape != want.shape:
            errors.append(f"image {b}: {out[b].shape}, want {want.shape}")
        elif case.get("ordered", True):
            errors += [f"image {b}: {e}" for e in close("rows", out[b], want, 1e-6, 1e-4)]
        else:  # equal scores: any order
            a, w = (sorted(map(tuple, np.round(x, 3))) for x in (out[b], want))
            errors += [] if a == w else [f"image {b}: other rows"]
        if idx is not None and not errors:
            want = z[f"{case['id']}/idx{b}"]
            errors += [] if np.array_equal(idx[b], want) else [f"image {b}: indices {idx[b][:6]}, want {want[:6]}"]
    return errors


def check_musgd(case, z):
    res = run_musgd(case)
    return [e for n, v in res.items() for e in close(n, v, z[f"{case['id']}/{n}"], case["rtol"], case["atol"][n])]


def check_e2e(case, z):
    """Weights of the two branches after k calls of update()."""
    stub = LossStub({"class": "E2ELoss", "nc": 3, "reg_max": 1, "shapes": [[4, 4]], "stride": [8], "hyp": {"epochs": case["epochs"]}}, torch.float32)
    loss, got = resolve(PATHS["E2ELoss"])(stub), []
    for k in range(case["calls"] + 1):
        got.append([loss.o2m, loss.o2o])
        loss.update()
    return close("weights", np.array(got), np.array(case["weights"]), 0, 1e-9)


def check_transfer(case, z):
    res, names = run_transfer(case)
    errors = [] if {str(k): v for k, v in names.items()} == case["names"] else [f"names {names}, want {case['names']}"]
    if set(res) != set(case["from"]):
        errors.append(f"keys differ: {sorted(set(res) ^ set(case['from']))[:4]}")
    for k, w in case["from"].items():
        g = res.get(k)
        if w == "fresh":  # rebuilt branch: any new values of that shape
            ok = isinstance(g, list) or g == "own"
        elif isinstance(w, list):
            ok = isinstance(g, list) and g[0] == w[0] and np.allclose(g[1:], w[1:], rtol=1e-4, atol=1e-4)
        else:
            ok = g == w
        if not ok:
            errors.append(f"{k}: {g}, want {w}")
    return errors[:4]


def check_letterbox(case, z):
    img = np.full((*case["image"], 3), 7, np.uint8)
    out = resolve(PATHS["LetterBox"])(**{k: tuple(v) if isinstance(v, list) else v for k, v in case["kwargs"].items()})(image=img)
    ys, xs = np.where((out == 7).all(-1))
    got = [*out.shape[:2], int(ys.min()), int(xs.min()), int(ys.max()) + 1, int(xs.max()) + 1]
    pad = sorted({int(v) for v in out[(out != 7).all(-1)].flatten()})
    return ([] if got == case["result"] else [f"[h, w, top, left, bottom, right] {got}, want {case['result']}"]) + (
        [] if pad == case["pad"] else [f"padding {pad}, want {case['pad']}"])


def check_parse(case, z):
    if "facts" in case:
        file, _, name = case["facts"].partition(":")
        f = json.loads((HERE / file).read_text())[name]
        case = {**case, **f, "save": sorted(set(f["save"])), "nc": None, "fused": f["fused"] if case["check_fused"] else None}
    model = build_yolo(case)
    facts = {"params": sum(p.numel() for p in model.parameters()), "save": sorted(set(model.save)),
             "stride": [float(x) for x in model.stride], "keys": len(model.state_dict())}
    errors = [f"{k} {facts[k]}, want {case[k]}" for k in facts if facts[k] != case[k]]
    for m, want in zip(model.model, case["table"]):
        got = [m.i, m.f if isinstance(m.f, int) else list(m.f), sum(p.numel() for p in m.parameters())]
        if got != [want[0], want[1], want[3]]:
            errors.append(f"layer {got}, want {want}")
            break
    if case.get("fused"):
        model.eval().fuse(verbose=False)
        got = {"params": sum(p.numel() for p in model.parameters()), "keys": len(model.state_dict())}
        errors += [f"fused {k} {got[k]}, want {case['fused'][k]}" for k in got if got[k] != case["fused"][k]]
    return errors


def check_guess(case, z):
    errors = []
    for name, scale in case["scales"]:
        got = resolve(PATHS["guess_model_scale"])(name)
        if (got or "") != scale:
            errors.append(f"{name}: scale {got!r}, want {scale!r}")
    for name, task in case["tasks"]:
        got = resolve(PATHS["guess_model_task"])(resolve(PATHS["yaml_model_load"])(name))
        if got != task:
            errors.append(f"{name}: task {got!r}, want {task!r}")
    return errors


CHECK = {"yolo": check_yolo, "init": check_init, "assigner": check_assigner, "yololoss": check_yololoss, "nms": check_nms,
         "musgd": check_musgd, "e2e": check_e2e, "transfer": check_transfer, "letterbox": check_letterbox,
         "parse": check_parse, "guess": check_guess, "module": comparison.check_module}


def load_cases():
    """Return the list of all cases, with `"@other"` state dicts resolved."""
    return comparison.load_cases(HERE / "cases.json")


def check(case):
    """Return the list of differences between the project's numbers and the golden ones; empty when the case passes."""
    return comparison.check(case, HERE, CHECK)
