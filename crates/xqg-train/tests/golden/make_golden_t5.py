"""Makes the golden training steps of T5 and mT5, as make_golden.py does for encoders.

usage: make_golden_t5.py [FOLDER]
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import MT5Config, MT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration

from make_golden import ADAM, CLIP, DECAY, STEPS

SIZES = dict(d_model=24, d_kv=8, d_ff=40, num_layers=2, num_heads=3, vocab_size=50, dropout_rate=0.0,
             relative_attention_num_buckets=8, relative_attention_max_distance=12, decoder_start_token_id=0,
             initializer_factor=1.0)
SMOOTHING = 0.2
FAMILIES = {
    "t5": (21, lambda: T5ForConditionalGeneration(T5Config(**SIZES, feed_forward_proj="relu"))),
    "mt5": (22, lambda: MT5ForConditionalGeneration(MT5Config(**SIZES, num_decoder_layers=3,
                                                              feed_forward_proj="gated-gelu"))),
}


def groups(model):
    """No decay for norms; T5 has no biases."""
    plain = [p for n, p in model.named_parameters() if n.endswith("norm.weight")]
    rest = [p for n, p in model.named_parameters() if not n.endswith("norm.weight")]
    return [dict(params=rest, weight_decay=DECAY), dict(params=plain, weight_decay=0.0)]


def padded(rows, pad):
    width = max(map(len, rows))
    return torch.tensor([row + [pad] * (width - len(row)) for row in rows])


def make(folder, seed, build):
    torch.manual_seed(seed)
    model = build().train()
    for name, p in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.normal_(p, 1.0, 0.2)
        elif "relative_attention_bias" in name:
            torch.nn.init.normal_(p, 0.0, 1.0)
    if isinstance(model, MT5ForConditionalGeneration):  # as in the published checkpoints
        model.lm_head.weight = torch.nn.Parameter(torch.randn(50, SIZES["d_model"]) * 0.5)
    row = lambda n: [*torch.randint(3, 50, (n - 1,)).tolist(), 1]
    inputs, targets = [row(n) for n in (9, 21, 5, 14)], [row(n) for n in (4, 7, 11, 2)]
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    ids, labels = padded(inputs, 0), padded(targets, -100)
    mask = padded([[1] * len(r) for r in inputs], 0)
    tensors, losses = {}, []
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, labels=labels).logits.log_softmax(-1)
        logs = logits.gather(-1, labels.clamp(min=0)[..., None])[..., 0] * (labels >= 0)
        likelihoods = (logs.sum(1) / (labels >= 0).sum(1)).tolist()
    scores = model(input_ids=ids, attention_mask=mask, labels=labels).logits
    even = torch.nn.functional.cross_entropy(scores.flatten(0, 1), labels.flatten(), label_smoothing=SMOOTHING)
    even.backward()
    smoothed = dict(share=SMOOTHING, loss=even.item(), norm=torch.nn.utils.get_total_norm(
        [p.grad for p in model.parameters()]).item())
    optimiser = torch.optim.AdamW(groups(model), **ADAM)
    for step in range(STEPS):
        optimiser.zero_grad()
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        if step == 0:
            tensors |= {f"grad.{n}": p.grad.clone() for n, p in model.named_parameters()}
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        losses.append(loss.item())
    tensors |= {f"after.{n}": p for n, p in model.named_parameters()}
    save_file({n: t.detach().clone().contiguous() for n, t in tensors.items()}, folder / "golden.safetensors")
    about = dict(inputs=inputs, targets=targets, losses=losses, likelihoods=likelihoods, smoothed=smoothed, rate=ADAM["lr"],
                 decay=DECAY, clip=CLIP)
    (folder / "golden.json").write_text(json.dumps(about) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    here = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
    for name, (seed, build) in FAMILIES.items():
        make(here / name, seed, build)
