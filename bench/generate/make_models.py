#!/usr/bin/env python3
"""Random weights in the shapes that are measured.

usage: make_models.py E5_DIR MANIFEST WORK_DIR
  E5_DIR    multilingual-e5-small: its pieces, which are of a hundred languages, are the vocabulary
  MANIFEST  of embeddings that E5_DIR made: the contract of the encoder that the shared generator reads with

Writes WORK_DIR/mt5 (google/mt5-small's shape: 250112 tokens, 8 + 8 layers of 512, 6 heads of 64, 1024 within), its
conversions for CTranslate2 in WORK_DIR/ct2-int8 and ct2-f32, and WORK_DIR/shared (a decoder of three layers of 384 over
the encoder, 26453 tokens, of which each of seven languages may write 4000). No weights end a text before its 32nd token.
"""
import json
import sys
from pathlib import Path

import torch

ROWS, END, PAD, UNKNOWN = 250112, 1, 0, 2
LANGS = ["ar", "bn", "fi", "ja", "ko", "ru", "te"]


def tokenizer(e5):
    """E5's pieces with T5's special tokens before them."""
    file = json.loads((e5 / "tokenizer.json").read_text(encoding="utf-8"))
    special = {token["content"] for token in file["added_tokens"]}
    pieces = [piece for piece in file["model"]["vocab"] if piece[0] not in special]
    names = ["<pad>", "</s>", "<unk>"]
    file["model"] |= {"unk_id": UNKNOWN, "vocab": [[name, 0.0] for name in names] + pieces}
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    file["added_tokens"] = [dict(id=i, content=name, **flags) for i, name in enumerate(names)]
    text = lambda which: {"Sequence": {"id": which, "type_id": 0}}
    end = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    file["post_processor"] = {"type": "TemplateProcessing", "single": [text("A"), end],
                              "pair": [text("A"), end, text("B"), end],
                              "special_tokens": {"</s>": {"id": "</s>", "ids": [END], "tokens": ["</s>"]}}}
    file["truncation"] = file["padding"] = None
    return file


def mt5(e5, folder):
    from transformers import MT5Config, MT5ForConditionalGeneration

    torch.manual_seed(1)
    config = MT5Config(vocab_size=ROWS, d_model=512, d_kv=64, d_ff=1024, num_layers=8, num_decoder_layers=8, num_heads=6,
                       feed_forward_proj="gated-gelu", decoder_start_token_id=PAD, pad_token_id=PAD, eos_token_id=END)
    model = MT5ForConditionalGeneration(config)
    model.config.tie_word_embeddings = False  # as in the published checkpoint
    model.lm_head.weight = torch.nn.Parameter(torch.randn(ROWS, 512) * 0.1)
    model.lm_head.weight.data[END] = 0.0  # never among the likeliest ten
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(e5), ensure_ascii=False), encoding="utf-8")
    about = dict(tokenizer_class="PreTrainedTokenizerFast", eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
    (folder / "tokenizer_config.json").write_text(json.dumps(about))


def converted(folder, work):
    from ctranslate2.converters import TransformersConverter

    for name, kind in (("ct2-int8", "int8"), ("ct2-f32", "float32")):
        if not (work / name).exists():
            TransformersConverter(str(folder)).convert(str(work / name), quantization=kind)


def shared(e5, manifest, folder):
    from safetensors.torch import save_file

    torch.manual_seed(2)
    h, f, layers, places, pieces, listed = 384, 1536, 3, 40, 26446, 4000
    file = json.loads((e5 / "tokenizer.json").read_text(encoding="utf-8"))
    file["model"]["vocab"] = file["model"]["vocab"][:pieces]
    file["added_tokens"] = [token for token in file["added_tokens"] if token["id"] < pieces]
    size = pieces + len(LANGS)
    t = {"embed.weight": torch.randn(size, h) / h**0.5, "positions.weight": torch.randn(places, h) * 0.1,
         "output.bias": torch.zeros(size)}
    t["output.bias"][2] = -1e4  # never the end
    linear = {"self.query": (h, h), "self.key": (h, h), "self.value": (h, h), "self.out": (h, h), "cross.query": (h, h),
              "cross.key": (h, h), "cross.value": (h, h), "cross.out": (h, h), "ffn.expand": (f, h), "ffn.contract": (h, f)}
    norms = ["final_norm"]
    for i in range(layers):
        norms += [f"layers.{i}.{name}" for name in ("self_norm", "cross_norm", "ffn_norm")]
        for name, (out, into) in linear.items():
            t[f"layers.{i}.{name}.weight"] = torch.randn(out, into) / into**0.5
            t[f"layers.{i}.{name}.bias"] = torch.zeros(out)
    for name in norms:
        t[f"{name}.weight"], t[f"{name}.bias"] = torch.ones(h), torch.zeros(h)
    for lang in LANGS:
        t[f"shortlist.{lang}"] = (4 + torch.randperm(pieces - 4)[:listed]).to(torch.uint32)
    folder.mkdir(exist_ok=True)
    save_file(t, folder / "model.safetensors")
    (folder / "tokenizer.json").write_text(json.dumps(file, ensure_ascii=False), encoding="utf-8")
    config = dict(model_type="xqg-decoder", hidden_size=h, num_layers=layers, num_heads=6, intermediate_size=f,
                  max_positions=places, vocab_size=size, activation="gelu", norm_eps=1e-5, embed_scale=h**0.5, logit_scale=1.0,
                  start_ids={lang: pieces + i for i, lang in enumerate(LANGS)}, eos_id=2, pad_id=1, langs=LANGS,
                  encoder=json.loads(manifest.read_text())["contract"])
    (folder / "config.json").write_text(json.dumps(config))


def main():
    e5, manifest, work = map(Path, sys.argv[1:4])
    if not (work / "mt5" / "tokenizer_config.json").exists():
        mt5(e5, work / "mt5")
    converted(work / "mt5", work)
    shared(e5, manifest, work / "shared")


if __name__ == "__main__":
    main()
