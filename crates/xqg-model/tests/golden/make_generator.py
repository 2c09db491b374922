"""Makes `generator/`: a tiny random shared-encoder generator over the golden encoder `e5like`, with the scores and the
texts that PyTorch gives for it.

The decoder is written here plainly, by the formulas that the folder's format states; greedy and beam search are
transformers' own `generate` over it. `config.json` lacks the encoder's contract, which only the Rust side can compute:
the test puts it in. Nothing here was made by our own code.

usage: make_generator.py       (versions: requirements.txt; some seconds on one core)
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModel, GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import CausalLMOutput

HERE = Path(__file__).resolve().parent
ENCODER = HERE / "e5like"
OUT = HERE / "generator"
SEED, LANGS, H, HEADS, LAYERS, F, PLACES, PIECES = 5, ["ar", "fi", "te"], 32, 4, 2, 48, 24, 280
END, PAD = 2, 1
EPS, WORD_SCALE, SCORE_SCALE = 1e-5, 1.5, 0.7
MAX_TOKENS = 12
PASSAGES = [("p1", "", "The quick brown fox jumps over the lazy dog, doesn't it?"),
            ("p2", "Finland", "Where is the highest mountain of Finland?"),
            ("p3", "Москва", "река течёт на север, " * 12),
            ("p4", "", "a")]
TARGETS = [[17, 44, 120, 9, END], [201, END], [33, 34, 35, 36, 37, 38, 39, 40]]


def weights():
    torch.manual_seed(SEED)
    size = PIECES + len(LANGS)
    linear = lambda o, i: (torch.randn(o, i) * 1.6 / i**0.5, torch.randn(o) * 0.1)
    t = {"embed.weight": torch.randn(size, H) * 0.6, "positions.weight": torch.randn(PLACES, H) * 0.5,
         "output.bias": torch.randn(size) * 0.5}
    t["output.bias"][END] += 3.5
    norms = ["final_norm"] + [f"layers.{i}.{n}" for i in range(LAYERS) for n in ("self_norm", "cross_norm", "ffn_norm")]
    for name in norms:
        t[f"{name}.weight"], t[f"{name}.bias"] = 1 + torch.randn(H) * 0.2, torch.randn(H) * 0.1
    for i in range(LAYERS):
        for kind in ("self", "cross"):
            for part in ("query", "key", "value", "out"):
                name = f"layers.{i}.{kind}.{part}"
                t[f"{name}.weight"], t[f"{name}.bias"] = linear(H, H)
        t[f"layers.{i}.ffn.expand.weight"], t[f"layers.{i}.ffn.expand.bias"] = linear(F, H)
        t[f"layers.{i}.ffn.contract.weight"], t[f"layers.{i}.ffn.contract.bias"] = linear(H, F)
    for lang in LANGS:
        some = torch.randperm(PIECES)[:90]
        t[f"shortlist.{lang}"] = torch.unique(torch.cat([some, torch.tensor([END])])).to(torch.uint32)
    return t


class Config(PreTrainedConfig):
    model_type = "xqg-decoder-golden"


class Decoder(PreTrainedModel, GenerationMixin):
    config_class = Config
    _supports_cache_class = False

    def __init__(self, config):
        super().__init__(config)
        self.t = weights()
        self.dummy = nn.Parameter(torch.zeros(1))

    def linear(self, x, name):
        return x @ self.t[f"{name}.weight"].T + self.t[f"{name}.bias"]

    def norm(self, x, name):
        return nn.functional.layer_norm(x, (H,), self.t[f"{name}.weight"], self.t[f"{name}.bias"], EPS)

    def attend(self, x, memory, name, causal):
        split = lambda y: y.unflatten(-1, (HEADS, H // HEADS)).transpose(-2, -3)
        q, k, v = (split(self.linear(y, f"{name}.{p}")) for y, p in ((x, "query"), (memory, "key"), (memory, "value")))
        scores = q @ k.transpose(-1, -2) / (H // HEADS)**0.5
        if causal:
            n = x.shape[-2]
            scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), float("-inf"))
        context = (scores.softmax(-1) @ v).transpose(-2, -3).flatten(-2)
        return self.linear(context, f"{name}.out")

    def scores(self, ids, memory):
        x = self.t["embed.weight"][ids] * WORD_SCALE + self.t["positions.weight"][: ids.shape[-1]]
        for i in range(LAYERS):
            at = f"layers.{i}"
            normed = self.norm(x, f"{at}.self_norm")
            x = x + self.attend(normed, normed, f"{at}.self", True)
            x = x + self.attend(self.norm(x, f"{at}.cross_norm"), memory, f"{at}.cross", False)
            inner = nn.functional.gelu(self.linear(self.norm(x, f"{at}.ffn_norm"), f"{at}.ffn.expand"))
            x = x + self.linear(inner, f"{at}.ffn.contract")
        return (self.norm(x, "final_norm") @ self.t["embed.weight"].T) * SCORE_SCALE + self.t["output.bias"]

    def forward(self, input_ids, memory=None, allowed=None, **_):
        scores = self.scores(input_ids, memory)
        if allowed is not None:
            scores = scores.masked_fill(~allowed[:, None, :], -1e30)
        return CausalLMOutput(logits=scores)

    def prepare_inputs_for_generation(self, input_ids, memory=None, allowed=None, **_):
        return {"input_ids": input_ids, "memory": memory, "allowed": allowed}


def memory_of(encoder, tokenizer, title, text):
    ids = tokenizer.encode("passage: " + (f"{title} {text}" if title else text)).ids
    return encoder(input_ids=torch.tensor([ids])).last_hidden_state


def text_of(tokenizer, ids):
    pieces = [tokenizer.id_to_token(i) for i in ids if i not in (0, 1, 2, 3)]
    return "".join(p for p in pieces if p).replace("▁", " ").strip()


def searched(decoder, tokenizer, memory, lang, allowed, beams):
    config = GenerationConfig(max_new_tokens=MAX_TOKENS, num_beams=beams, num_return_sequences=min(beams, 3), do_sample=False,
                              eos_token_id=END, pad_token_id=PAD, length_penalty=1.0, early_stopping=False, use_cache=False,
                              return_dict_in_generate=True, output_scores=True)
    start = torch.tensor([[PIECES + LANGS.index(lang)]])
    out = decoder.generate(start, generation_config=config, memory=memory, allowed=allowed)
    rows = []
    for row in out.sequences:
        ids = row[1:].tolist()
        ids = ids[: ids.index(END) + 1] if END in ids else ids
        given = torch.tensor([[start.item(), *ids[:-1]]])
        logs = decoder(given, memory, allowed).logits[0].log_softmax(-1)
        logprob = logs[torch.arange(len(ids)), torch.tensor(ids)].sum().item()
        rows.append(dict(ids=ids, text=text_of(tokenizer, [i for i in ids if i != END]), logprob=logprob))
    return rows


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(str(ENCODER / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(40)
    encoder = AutoModel.from_pretrained(ENCODER, dtype=torch.float32, attn_implementation="eager").eval()
    decoder = Decoder(Config(vocab_size=PIECES + len(LANGS), num_hidden_layers=LAYERS)).eval()
    OUT.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in decoder.t.items()}, OUT / "model.safetensors")
    shutil.copy(ENCODER / "tokenizer.json", OUT / "tokenizer.json")
    config = dict(model_type="xqg-decoder", hidden_size=H, num_layers=LAYERS, num_heads=HEADS, intermediate_size=F,
                  max_positions=PLACES, vocab_size=PIECES + len(LANGS), activation="gelu", norm_eps=EPS,
                  embed_scale=WORD_SCALE, logit_scale=SCORE_SCALE, eos_id=END, pad_id=PAD, langs=LANGS,
                  start_ids={lang: PIECES + i for i, lang in enumerate(LANGS)})
    (OUT / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    rows = []
    for docid, title, text in PASSAGES:
        memory = memory_of(encoder, tokenizer, title, text)
        for lang in LANGS:
            allowed = torch.zeros(1, PIECES + len(LANGS), dtype=torch.bool)
            allowed[0, decoder.t[f"shortlist.{lang}"].long()] = True
            row = dict(docid=docid, title=title, text=text, lang=lang)
            for name, mask in (("full", None), ("shortlist", allowed)):
                row[name] = dict(greedy=searched(decoder, tokenizer, memory, lang, mask, 1),
                                 beam=searched(decoder, tokenizer, memory, lang, mask, 4))
            rows.append(row)
    forced = []
    for i, target in enumerate(TARGETS):
        docid, title, text = PASSAGES[i]
        given = torch.tensor([[PIECES + i, *target[:-1]]])
        logs = decoder.scores(given, memory_of(encoder, tokenizer, title, text))[0]
        forced.append(dict(passage=i, lang=LANGS[i], target=target, scores=[[round(x, 6) for x in r] for r in logs.tolist()]))
    golden = dict(max_tokens=MAX_TOKENS, rows=rows, forced=forced)
    (OUT / "golden.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
