"""Makes the golden training steps of this folder with PyTorch and transformers, from nothing but seeds.

Each family is a tiny random encoder. Its folder holds the untrained checkpoint (config.json, model.safetensors), the
texts and losses (golden.json), and tensors (golden.safetensors): token states, embeddings, the gradient of every
parameter after one backward pass (grad.NAME), and every parameter after ten steps of AdamW (after.NAME).

usage: make_golden.py [FOLDER]
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

SIZES = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=60,
             hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.3)
FAMILIES = {
    "bert": dict(seed=11, pooling="mean", normalize=True, temperature=0.2,
                 make=lambda: BertModel(BertConfig(**SIZES, max_position_embeddings=24, type_vocab_size=2))),
    "bert-tanh": dict(seed=12, pooling="cls", normalize=False, temperature=8.0,
                      make=lambda: BertModel(BertConfig(**SIZES, max_position_embeddings=24, hidden_act="gelu_new"),
                                             add_pooling_layer=False)),
    "xlmr": dict(seed=13, pooling="mean", normalize=False, temperature=6.0,
                 make=lambda: XLMRobertaModel(XLMRobertaConfig(**SIZES, max_position_embeddings=26, type_vocab_size=1,
                                                               pad_token_id=1), add_pooling_layer=False)),
}
QUERIES = 4
ADAM = dict(lr=2e-3, betas=(0.9, 0.999), eps=1e-8)
DECAY, CLIP, STEPS = 0.05, 1.0, 10


def texts(vocab):
    """Ids of 4 queries and 8 passages of 3 to 14 tokens; ids below 4 are special and appear nowhere inside."""
    lengths = [3, 5, 9, 4] + [6, 14, 3, 8, 11, 4, 7, 9]
    return [[0, *torch.randint(4, vocab, (n - 2,)).tolist(), 2] for n in lengths]


def forward(model, batch, family):
    """Token states of all texts end to end, and their embeddings. Padded, as everybody does it."""
    width, pad = max(map(len, batch)), model.config.pad_token_id
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in batch])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch])
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    if family["pooling"] == "cls":
        pooled = states[:, 0]
    else:
        pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    if family["normalize"]:
        pooled = torch.nn.functional.normalize(pooled)
    return states[mask.bool()], pooled


def loss_of(embeddings, temperature):
    """InfoNCE over in-batch passages: query i's positive is passage 2i, 2i + 1 its hard negative."""
    queries, passages = embeddings[:QUERIES], embeddings[QUERIES:]
    return torch.nn.functional.cross_entropy(queries @ passages.T / temperature, torch.arange(QUERIES) * 2)


def groups(model):
    """No decay for biases and norms."""
    plain = [p for n, p in model.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
    rest = [p for n, p in model.named_parameters() if not (n.endswith("bias") or "LayerNorm" in n)]
    return [dict(params=rest, weight_decay=DECAY), dict(params=plain, weight_decay=0.0)]


def make(folder, family):
    torch.manual_seed(family["seed"])
    model = family["make"]().train()
    for name, p in model.named_parameters():  # norms and biases that are not just ones and zeros
        if p.dim() == 1:
            torch.nn.init.normal_(p, 1.0 if name.endswith("LayerNorm.weight") else 0.0, 0.2)
    batch = texts(model.config.vocab_size)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    states, embeddings = forward(model, batch, family)
    tensors = {"states": states, "embeddings": embeddings}
    optimiser = torch.optim.AdamW(groups(model), **ADAM)
    losses = []
    for step in range(STEPS):
        optimiser.zero_grad()
        loss = loss_of(forward(model, batch, family)[1], family["temperature"])
        loss.backward()
        if step == 0:
            tensors |= {f"grad.{n}": p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        losses.append(loss.item())
    tensors |= {f"after.{n}": p for n, p in model.named_parameters() if p.grad is not None}
    save_file({n: t.detach().clone().contiguous() for n, t in tensors.items()}, folder / "golden.safetensors")
    about = {k: family[k] for k in ("pooling", "normalize", "temperature")}
    about |= dict(queries=QUERIES, texts=batch, losses=losses, rate=ADAM["lr"], decay=DECAY, clip=CLIP)
    (folder / "golden.json").write_text(json.dumps(about) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    here = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
    for name, family in FAMILIES.items():
        make(here / name, family)
