"""Makes the golden step of a decoder over a frozen encoder's token states: weights, memories and targets by
lot, the loss with label smoothing over each target's list of tokens, and PyTorch's gradient of every tensor.

usage: make_golden_decoder.py [FOLDER]
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

SHAPE = dict(hidden=32, layers=2, heads=4, inner=48, positions=12, vocabulary=60, embed_scale=5.5, logit_scale=0.75,
             norm_eps=1e-5)
SMOOTHING, EOS = 0.1, 2
LISTS = [list(range(60)), [2, 5, 6, 9, *range(20, 41)], [2, *range(7, 30)]]


def weights(hidden, layers, inner, positions, vocabulary, **_):
    h = hidden
    draw = lambda *dims, std=0.3: (torch.randn(*dims) * std).requires_grad_()
    w = {"embed.weight": draw(vocabulary, h), "positions.weight": draw(positions, h), "output.bias": draw(vocabulary)}

    def norm(name):
        w[f"{name}.weight"] = (1 + torch.randn(h) * 0.2).requires_grad_()
        w[f"{name}.bias"] = draw(h, std=0.2)

    def linear(name, out, into):
        w[f"{name}.weight"], w[f"{name}.bias"] = draw(out, into, std=0.25), draw(out)

    for i in range(layers):
        for kind in ("self", "cross"):
            norm(f"layers.{i}.{kind}_norm")
            for part in ("query", "key", "value", "out"):
                linear(f"layers.{i}.{kind}.{part}", h, h)
        norm(f"layers.{i}.ffn_norm")
        linear(f"layers.{i}.ffn.expand", inner, h)
        linear(f"layers.{i}.ffn.contract", h, inner)
    norm("final_norm")
    return w


def logits(w, memory, ids):
    h, heads = SHAPE["hidden"], SHAPE["heads"]
    linear = lambda x, name: F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])
    norm = lambda x, name: F.layer_norm(x, (h,), w[f"{name}.weight"], w[f"{name}.bias"], SHAPE["norm_eps"])
    split = lambda x: x.view(len(x), heads, h // heads).transpose(0, 1)

    def attention(x, over, name, causal):
        q, k, v = (split(linear(y, f"{name}.{part}")) for y, part in ((x, "query"), (over, "key"), (over, "value")))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return linear(out.transpose(0, 1).reshape(len(x), h), f"{name}.out")

    x = w["embed.weight"][ids] * SHAPE["embed_scale"] + w["positions.weight"][: len(ids)]
    for i in range(SHAPE["layers"]):
        at = f"layers.{i}"
        y = norm(x, f"{at}.self_norm")
        x = x + attention(y, y, f"{at}.self", True)
        x = x + attention(norm(x, f"{at}.cross_norm"), memory, f"{at}.cross", False)
        x = x + linear(F.gelu(linear(norm(x, f"{at}.ffn_norm"), f"{at}.ffn.expand")), f"{at}.ffn.contract")
    return norm(x, "final_norm") @ w["embed.weight"].T * SHAPE["logit_scale"] + w["output.bias"]


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "decoder")
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(31)
    w = weights(**SHAPE)
    memories = [torch.randn(n, SHAPE["hidden"]) for n in (5, 17, 2)]
    targets = []
    for memory, which, length in ((0, 0, 6), (1, 1, 11), (1, 2, 3), (1, 1, 0), (2, 0, 8)):
        choice = [i for i in LISTS[which] if i != EOS and i < 57]
        tokens = [choice[int(torch.randint(len(choice), ()))] for _ in range(length)]
        targets.append(dict(memory=memory, list=which, ids=[57 + which, *tokens]))
    smoothed, plain, tokens = 0.0, 0.0, 0
    for target in targets:
        allowed = LISTS[target["list"]]
        scores = logits(w, memories[target["memory"]], torch.tensor(target["ids"]))[:, allowed]
        right = torch.tensor([allowed.index(i) for i in [*target["ids"][1:], EOS]])
        smoothed = smoothed + F.cross_entropy(scores, right, label_smoothing=SMOOTHING, reduction="sum")
        plain = plain + F.cross_entropy(scores, right, reduction="sum")
        tokens += len(right)
    (smoothed / tokens).backward()
    about = dict(shape=SHAPE, smoothing=SMOOTHING, eos=EOS, lists=LISTS, targets=targets, tokens=tokens,
                 smoothed=(smoothed / tokens).item(), plain=(plain / tokens).item())
    (folder / "golden.json").write_text(json.dumps(about))
    save_file({name: p.detach().contiguous() for name, p in w.items()}, folder / "model.safetensors")
    tensors = {f"grad.{name}": p.grad.contiguous() for name, p in w.items()}
    tensors |= {f"memory.{i}": m.contiguous() for i, m in enumerate(memories)}
    save_file(tensors, folder / "golden.safetensors")


if __name__ == "__main__":
    torch.set_default_dtype(torch.float32)
    main()
