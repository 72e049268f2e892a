"""Build and run golden cases; `comparison.py` compares, `tests/test_golden.py` is the entry.

A case is data (`cases.json`): which class to build, how to fill its weights from names alone (`fill.py`), what to feed it,
and the numbers that the reference computed, with a tolerance for each. Logical class names are "module:Name".
"""

import copy
import importlib

import numpy as np
import torch

from tests.golden import fill

MAP = {
    "shvit": "ultralytics.nn.modules.shsa",
    "blocks:box_loss": "ultralytics.models.utils.box_losses:box_loss",
    "blocks": "ultralytics.nn.modules",
    **{f"ultralytics.nn.modules.head:{n}": f"ultralytics.nn.modules:{n}" for n in ("Detect", "v10Detect")},
}
PATHS = {
    "HungarianMatcher": "ultralytics.models.utils.ops:HungarianMatcher",
    "get_cdn_group": "ultralytics.models.utils.ops:get_cdn_group",
    "DETRLoss": "ultralytics.models.utils.loss:DETRLoss",
    "RTDETRDetectionLoss": "ultralytics.models.utils.loss:RTDETRDetectionLoss",
    "RTDETRDetectionModel": "ultralytics.nn.tasks:RTDETRDetectionModel",
    "metrics": "ultralytics.utils.metrics",
    "fuse_conv_and_bn": "ultralytics.utils.torch_utils:fuse_conv_and_bn",
    "fuse_deconv_and_bn": "ultralytics.utils.torch_utils:fuse_deconv_and_bn",
}


# ---------------------------------------------------------------------------------------------- building and running
def resolve(path):
    """Import 'module:Name' (or a module), after the name map."""
    path = MAP.get(path, path)
    module, _, name = path.partition(":")
    for old, new in MAP.items():
        if ":" not in old and (module == old or module.startswith(old + ".")):
            module = new + module[len(old) :]
            break
    obj = importlib.import_module(module)
    for part in name.split(".") if name else ():
        obj = getattr(obj, part)
    return obj


def make(spec, dtype=torch.float32):
    """Turn a JSON value spec into a Python value."""
    if isinstance(spec, list):
        return [make(x, dtype) for x in spec]
    if not isinstance(spec, dict):
        return spec
    if "$new" in spec:
        obj = resolve(spec["$new"])(*make(spec.get("args", []), dtype), **make(spec.get("kwargs", {}), dtype))
        if "fill" in spec:
            fill.fill_(obj, spec["fill"])
        return obj.to(dtype)
    if "$list" in spec:  # nn.ModuleList
        return torch.nn.ModuleList(make(x, dtype) for x in spec["$list"])
    if "$cls" in spec:
        return resolve(spec["$cls"])
    if "$tuple" in spec:
        return tuple(make(x, dtype) for x in spec["$tuple"])
    if "$long" in spec:
        return torch.tensor(spec["$long"], dtype=torch.long)
    if "$f32" in spec:
        return torch.tensor(spec["$f32"], dtype=torch.float32).reshape(-1, 4).to(dtype)
    if "$floats" in spec:  # 1-D float tensor
        return torch.tensor(spec["$floats"], dtype=torch.float32).to(dtype)
    if "$tensor" in spec:
        t = spec["$tensor"]
        x = fill.tensor(t["name"], t["shape"], t["kind"])
        return x.to(dtype) if x.is_floating_point() else x
    return {k: make(v, dtype) for k, v in spec.items()}


def flatten(out):
    """Return the tensors of a nested output, in order; anything else is left out."""
    if torch.is_tensor(out):
        return [out]
    if isinstance(out, dict):
        return [t for v in out.values() for t in flatten(v)]
    if isinstance(out, (list, tuple)):
        return [t for v in out for t in flatten(v)]
    return []


def pick(out, paths):
    """Return the parts of a nested output that the paths (lists of indices and keys) name, in order."""
    res = []
    for path in paths:
        o = out
        for k in path:
            o = o[k]
        res.append(o)
    return res


def fuse_children(net):
    """Replace every child that has `fuse()` by what it returns, all the way down."""
    for name, child in net.named_children():
        if hasattr(child, "fuse"):
            child = child.fuse()
            setattr(net, name, child)
        fuse_children(child)
    return net


def fuse(module, how):
    if how == "conv_bn":  # Conv, DWConv and everything built of them
        for m in module.modules():
            if hasattr(m, "bn") and hasattr(m, "conv") and hasattr(m, "forward_fuse"):
                m.conv = resolve(PATHS["fuse_conv_and_bn"])(m.conv, m.bn)
                delattr(m, "bn")
                m.forward = m.forward_fuse
    elif how == "repconv":
        for m in module.modules():
            if hasattr(m, "fuse_convs"):
                m.fuse_convs()
                m.forward = m.forward_fuse
    elif how == "deep":  # what a whole YOLO model does: every kind of block, parents first
        for m in list(module.modules()):
            if hasattr(m, "fuse_convs") and hasattr(m, "forward_fuse"):  # RepConv, Conv2
                m.fuse_convs()
                if hasattr(m, "bn") and isinstance(getattr(m, "bn", None), torch.nn.BatchNorm2d):
                    m.conv = resolve(PATHS["fuse_conv_and_bn"])(m.conv, m.bn)
                    delattr(m, "bn")
                m.forward = m.forward_fuse
            elif hasattr(m, "conv1") and hasattr(m, "fuse") and hasattr(m, "forward_fuse"):  # RepVGGDW
                m.fuse()
                m.forward = m.forward_fuse
            elif hasattr(m, "conv_transpose") and hasattr(m, "bn") and hasattr(m, "forward_fuse"):
                m.conv_transpose = resolve(PATHS["fuse_deconv_and_bn"])(m.conv_transpose, m.bn)
                delattr(m, "bn")
                m.forward = m.forward_fuse
            elif hasattr(m, "bn") and isinstance(getattr(m, "conv", None), torch.nn.Conv2d) and hasattr(m, "forward_fuse"):
                m.conv = resolve(PATHS["fuse_conv_and_bn"])(m.conv, m.bn)
                delattr(m, "bn")
                m.forward = m.forward_fuse
    elif how == "head":  # Detect.fuse(): works in place, drops the branch that inference does not use
        module.fuse()
    elif how == "method":
        module = module.fuse()
    elif how == "children":
        module = fuse_children(module)
    elif how is not None:
        raise ValueError(how)
    return module


def build_module(case, dtype=torch.float32):
    cls = resolve(case["class"])
    old = {k: getattr(cls, k) for k in case.get("class_attrs", {})}
    for k, v in case.get("class_attrs", {}).items():
        setattr(cls, k, v)
    try:
        module = cls(*make(case.get("args", []), dtype), **make(case.get("kwargs", {}), dtype))
    finally:
        for k, v in old.items():
            setattr(cls, k, v)
    for k, v in case.get("attrs", {}).items():
        setattr(module, k, make(v, dtype))
    fill.fill_(module, case["fill"]["prefix"], case["fill"]["conv_gain"])
    return module.to(dtype)


def summarize_grads(pairs):
    """Return (n, 2) array of [L2 norm, dot product with tensor('grad/'+name)] for (name, grad) pairs."""
    rows = []
    for name, g in pairs:
        g = torch.zeros(()) if g is None else g
        r = fill.tensor("grad/" + name, g.shape).double()
        rows.append([float(g.double().norm()), float((g.double() * r).sum())])
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def run_module(case, dtype=torch.float32):
    """Run a module case; return {array name: array} and the (unfused) state-dict shapes."""
    res = {}
    if case.get("function"):
        module, shapes = resolve(case["class"]), {}
    else:
        module = build_module(case, dtype)
        shapes = {k: list(v.shape) for k, v in module.state_dict().items()}
        module.train(case["mode"] == "train")
        if case.get("fuse"):
            module = fuse(module, case["fuse"])
            if case.get("fused_state"):
                for k, v in module.state_dict().items():
                    res[f"fused/{k}"] = v.detach().numpy()
    args, kwargs = make(case["inputs"], dtype), make(case.get("input_kwargs", {}), dtype)
    for m in [*args, *kwargs.values()]:  # sub-modules given as inputs
        if isinstance(m, torch.nn.Module):
            m.train(case["mode"] == "train")
    leaves = [t for t in flatten(args) if t.is_floating_point()]
    grad = bool(case.get("grad"))
    for t in leaves:
        t.requires_grad_(grad)
    with torch.set_grad_enabled(grad):
        out = module(*args, **kwargs)
        out = flatten(pick(out, case["pick"]) if "pick" in case else out)
    if grad:
        fl = [o for o in out if o.is_floating_point() and o.requires_grad]
        loss = sum((o * fill.tensor(f"{case['id']}/g{i}", o.shape).to(dtype)).sum() for i, o in enumerate(fl))
        loss.backward()
        res["grad/inputs"] = summarize_grads([(f"{case['id']}/in{i}", t.grad) for i, t in enumerate(leaves)])
        if not case.get("function"):
            res["grad/params"] = summarize_grads([(n, p.grad) for n, p in module.named_parameters()])
    for i, o in enumerate(out):
        res[f"out{i}"] = o.detach().numpy()
    if case.get("state_after"):
        for k, v in module.state_dict().items():
            if k.endswith(("running_mean", "running_var")):
                res[f"after/{k}"] = v.detach().numpy()
    return res, shapes


def build_model(case):
    cfg = case["cfg"]
    model = resolve(PATHS["RTDETRDetectionModel"])(
        copy.deepcopy(cfg["yaml"]) if "yaml" in cfg else cfg["name"], nc=case.get("nc"), verbose=False
    )
    fill.fill_(model, case["fill"]["prefix"], case["fill"]["conv_gain"])
    return model


def table(model):
    """Per-layer rows [index, from, class name, parameters] of a parsed model."""
    rows = []
    for i, m in enumerate(model.model):
        f = m.f if isinstance(m.f, int) else list(m.f)
        rows.append([i, f, type(m).__name__, sum(p.numel() for p in m.parameters())])
    return rows


def run_model(case, dtype=torch.float32, layers=False):
    """Run a whole-model case; return arrays and facts."""
    model = build_model(case)
    facts = {
        "params": sum(p.numel() for p in model.parameters()),
        "save": sorted(set(model.save)),
        "table": table(model),
        "state_dict": {k: list(v.shape) for k, v in model.state_dict().items()},
    }
    model = model.to(dtype)
    res = {}
    if case["mode"] == "loss":
        model.train()
        nc = facts["nc"] = case["nc"] if case.get("nc") else model.yaml["nc"]
        model.nc = nc
        model.model[-1].num_denoising = 0
        batch = make(case["batch"], dtype)
        total, items = model.loss(batch)
        total.backward()
        items = list(items.values()) if isinstance(items, dict) else list(items)
        res["loss"] = np.array([float(total.detach()), *(float(v) for v in items)], dtype=np.float64)
        res["grad"] = summarize_grads([(n, p.grad) for n, p in model.named_parameters()])
        return res, facts
    model.eval()
    if case.get("fuse"):
        fused = model.fuse(verbose=False)
        model = model if fused is None else fused
        facts["fused_params"] = sum(p.numel() for p in model.parameters())
    stats, hooks = [], []
    if layers:
        def hook(i):
            def f(mod, inp, out):
                if torch.is_tensor(out):
                    o = out.double()
                    stats.append([i, o.mean().item(), o.std().item(), o.abs().max().item()])
            return f
        hooks = [m.register_forward_hook(hook(i)) for i, m in enumerate(model.model)]
    with torch.no_grad():
        y, raw = model(make(case["input"], dtype))[:2]
    for h in hooks:
        h.remove()
    res["y"] = y.numpy()
    for name, t in zip(("dec_bboxes", "dec_scores", "enc_bboxes", "enc_scores"), raw):
        res[name] = t.numpy()
    if layers:
        res["layers"] = np.array(stats)
    return res, facts


def model_summary(res, top):
    """Order-free summary of a model output: top rows by score plus statistics [mean, std, abs max] of each tensor."""
    y = res["y"]
    order = np.argsort(-y[..., 4], axis=1, kind="stable")[:, :top]
    rows = np.take_along_axis(y, order[..., None], axis=1)
    stats = {}
    for k in ("y", "dec_bboxes", "dec_scores", "enc_bboxes", "enc_scores"):
        v = res[k].astype(np.float64)
        v = v[..., :5] if k == "y" else v
        stats[k] = [float(v.mean()), float(v.std()), float(np.abs(v).max())]
    return rows, stats


def run_matcher(case, z):
    matcher = resolve(PATHS["HungarianMatcher"])(**case["kwargs"])
    t = {k: torch.from_numpy(z[f"{case['id']}/{k}"]) for k in ("pred_bboxes", "pred_scores", "gt_bboxes", "gt_cls")}
    out = matcher(t["pred_bboxes"], t["pred_scores"], t["gt_bboxes"], t["gt_cls"], list(case["gt_groups"]))
    return [[i.tolist(), j.tolist()] for i, j in out]


def run_loss(case, z, dtype=torch.float32):
    """Run a loss case; return {term: value} and the gradients of the sum of all terms."""
    g = lambda k: torch.from_numpy(z[f"{case['id']}/{k}"])  # noqa: E731
    loss = resolve(PATHS[case["class"]])(**case["kwargs"])
    boxes = g("pred_bboxes").to(dtype).requires_grad_()
    scores = g("pred_scores").to(dtype).requires_grad_()
    batch = {"cls": g("gt_cls"), "bboxes": g("gt_bboxes").to(dtype), "gt_groups": list(case["gt_groups"])}
    if case["class"] == "DETRLoss":
        out = loss(boxes, scores, batch, postfix=case.get("postfix", ""))
        leaves = [boxes, scores]
    else:
        dn = {}
        leaves = [boxes, scores]
        if case.get("dn_meta"):
            dnb, dns = g("dn_bboxes").to(dtype).requires_grad_(), g("dn_scores").to(dtype).requires_grad_()
            m = case["dn_meta"]
            dn = {
                "dn_bboxes": dnb,
                "dn_scores": dns,
                "dn_meta": {
                    "dn_pos_idx": [torch.tensor(x, dtype=torch.long) for x in m["dn_pos_idx"]],
                    "dn_gt_idx": [torch.tensor(x, dtype=torch.long) for x in m["dn_gt_idx"]],
                    "dn_num_group": m["dn_num_group"],
                    "dn_num_split": list(m["dn_num_split"]),
                },
            }
            leaves += [dnb, dns]
        out = loss((boxes, scores), batch, **dn)
    total = sum(out.values())
    if total.requires_grad:
        total.backward()
    grads = [torch.zeros_like(t) if t.grad is None else t.grad for t in leaves]
    return {k: float(v.detach()) for k, v in out.items()}, [t.numpy() for t in grads]


def run_cdn(case, z):
    g = lambda k: torch.from_numpy(z[f"{case['id']}/{k}"])  # noqa: E731
    batch = {"cls": g("cls"), "bboxes": g("bboxes"), "batch_idx": g("batch_idx"), "gt_groups": list(case["gt_groups"])}
    torch.manual_seed(0)
    emb, box, mask, meta = resolve(PATHS["get_cdn_group"])(
        batch, case["num_classes"], case["num_queries"], g("class_embed"), training=True, **case["kwargs"]
    )
    if meta is None:
        return None, None, None, None
    meta = {k: [x.tolist() for x in v] if k in {"dn_pos_idx", "dn_gt_idx"} else v for k, v in meta.items()}
    return emb.numpy(), box.numpy(), mask.numpy(), meta


def run_metrics(case, z):
    """Run metric functions on a stored data set; return {name: array}."""
    m = resolve(PATHS["metrics"])
    pred, gt = z[f"{case['id']}/pred"], z[f"{case['id']}/gt"]  # pred: img cls conf x1 y1 x2 y2; gt: img cls x1 y1 x2 y2
    tp = z[f"{case['id']}/tp"]
    res = {}
    names = {i: f"c{i}" for i in range(case["nc"])}
    out = m.ap_per_class(tp, pred[:, 2], pred[:, 1], gt[:, 1], names=names)
    for k, v in zip(("n_tp", "n_fp", "p", "r", "f1", "ap", "classes", "p_curve", "r_curve", "f1_curve", "px", "prec"), out):
        res[k] = np.asarray(v, dtype=np.float64)
    det = m.DetMetrics(names)
    cm = m.ConfusionMatrix(names=names)
    for i in range(case["images"]):
        p, g, t = pred[pred[:, 0] == i], gt[gt[:, 0] == i], tp[pred[:, 0] == i]
        det.update_stats({"tp": t, "conf": p[:, 2], "pred_cls": p[:, 1], "target_cls": g[:, 1],
                          "target_img": np.unique(g[:, 1]), "im_name": f"{i}.jpg"})
        f = lambda a: torch.from_numpy(np.ascontiguousarray(a))  # noqa: E731
        cm.process_batch({"bboxes": f(p[:, 3:]), "conf": f(p[:, 2]), "cls": f(p[:, 1])},
                         {"bboxes": f(g[:, 2:]), "cls": f(g[:, 1])},
                         conf=case["cm_conf"], iou_thres=case["cm_iou"])
    det.process()
    box = det.box
    res["summary"] = np.array([box.mp, box.mr, box.map50, box.map75, box.map, det.fitness], dtype=np.float64)
    res["maps"] = np.asarray(det.maps, dtype=np.float64)
    res["confusion"] = np.asarray(cm.matrix, dtype=np.float64)
    return res


def run_iou(case, z):
    m = resolve(PATHS["metrics"])
    a, b = (torch.from_numpy(z[f"{case['id']}/{k}"]) for k in ("a", "b"))
    f = lambda t: torch.cat([t[..., :2] - t[..., 2:] / 2, t[..., :2] + t[..., 2:] / 2], -1)  # noqa: E731
    xa, xb = f(a), f(b)
    res = {"box_iou": m.box_iou(xa, xb)}
    for k in ("IoU", "GIoU", "DIoU", "CIoU"):
        kw = {} if k == "IoU" else {k: True}
        res[f"{k}_xywh"] = m.bbox_iou(a, b[: len(a)], xywh=True, **kw)
        res[f"{k}_xyxy"] = m.bbox_iou(xa, xb[: len(a)], xywh=False, **kw)
        res[f"{k}_grid"] = m.bbox_iou(a.unsqueeze(1), b.unsqueeze(0), xywh=True, **kw).squeeze(-1)
    return {k: v.numpy() for k, v in res.items()}
