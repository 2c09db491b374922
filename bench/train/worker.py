"""The PyTorch side of bench/train: the same steps as crates/xqg-train/examples/step_worker.rs.

usage: worker.py MODEL_DIR PAIRS QUERY_TOKENS PASSAGE_TOKENS VOCAB DROPOUT RAGGED THREADS [DEVICE [PRECISION]]
"""

import sys
import time

import torch
from transformers import AutoConfig, BertModel


class Lcg:
    """Knuth's MMIX constants, upper 31 bits, as in the Rust worker."""

    def __init__(self, seed):
        self.state = seed

    def below(self, limit):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return int((self.state >> 33) / 2147483648.0 * limit)

    def id(self, vocab):
        u = self.below(1 << 30) / (1 << 30)
        return 4 + int((vocab - 4) * u * u * u)

    def texts(self, count, tokens, vocab, ragged):
        def one():
            n = tokens // 4 + self.below(tokens * 3 // 4 + 1) if ragged else tokens
            return [self.id(vocab) for _ in range(n)]

        return [one() for _ in range(count)]


def embed(model, rows):
    """Mean of the token states, normalised; padded to the longest."""
    width, device = max(map(len, rows)), model.device
    ids = torch.tensor([row + [1] * (width - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
    pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return torch.nn.functional.normalize(pooled)


def main():
    folder, dropout, ragged = sys.argv[1], float(sys.argv[6]), sys.argv[7] == "1"
    pairs, query, passage, vocab = map(int, sys.argv[2:6])
    torch.set_num_threads(int(sys.argv[8]))
    device, precision = (sys.argv[9:] + ["cpu", "f32"][len(sys.argv) - 9:])[:2]
    config = AutoConfig.from_pretrained(folder)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
    model = BertModel.from_pretrained(folder, config=config, add_pooling_layer=False).train()
    if vocab < config.vocab_size:
        words = model.embeddings.word_embeddings
        words.weight = torch.nn.Parameter(words.weight.detach()[:vocab].clone())
    model = model.to(device)
    plain = [p for n, p in model.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
    rest = [p for n, p in model.named_parameters() if not (n.endswith("bias") or "LayerNorm" in n)]
    groups = [dict(params=rest, weight_decay=0.01), dict(params=plain, weight_decay=0.0)]
    optimiser = torch.optim.AdamW(groups, lr=2e-5, fused=True)
    lcg = Lcg(1)
    for _ in sys.stdin:
        q = lcg.texts(pairs, query, vocab, ragged)
        p = lcg.texts(pairs, passage, vocab, ragged)
        start = time.perf_counter()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
            queries, passages = embed(model, q), embed(model, p)
        scores = queries @ passages.T / 0.05
        loss = torch.nn.functional.cross_entropy(scores, torch.arange(pairs, device=device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if device != "cpu":
            torch.cuda.synchronize()
        print(time.perf_counter() - start, loss.item(), flush=True)


if __name__ == "__main__":
    main()
