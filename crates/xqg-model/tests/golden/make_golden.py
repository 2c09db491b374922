"""Makes the golden folders: tiny random models with the embeddings that PyTorch and transformers give for them.

What: one folder per row of `golden_families.FAMILIES`, in the layout of a published model, and in each a
`golden.json` (fields: see README.md). Why: the Rust encoder is tested against these numbers and never against itself.
Each embedding is computed by transformers, f32, eager attention, one text at a time; the same texts in one padded batch
must agree, and the largest difference is stored.

usage: make_golden.py [FOLDER_NAME ...]       (no name: all; versions: requirements.txt; 5 seconds on one core)
"""

import copy
import json
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

import golden_families as families
import golden_tokenizers
import golden_weights

HERE = Path(__file__).resolve().parent
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "sentencepiece", "numpy")
HALVES = {"safetensors-f16": torch.float16, "safetensors-bf16": torch.bfloat16}
OTHER_ACTIVATION = {"gelu": "gelu_new", "gelu_new": "gelu", "relu": "gelu"}


def build_model(family, activation=None):
    """A transformers model of the family's shape, with weights yet to be drawn."""
    settings = families.config(family) | {"hidden_act": activation or family.activation}
    kinds = {"bert": (BertConfig, BertModel), "xlm-roberta": (XLMRobertaConfig, XLMRobertaModel)}
    config_kind, model_kind = kinds[family.architecture]
    shape = config_kind(**settings, attn_implementation="eager")
    return model_kind(shape, add_pooling_layer=family.pooler).eval()


def build_tokenizer(family):
    """The family's `tokenizer.json` as a dictionary."""
    # The prompts count as texts, so that their pieces are in the vocabulary.
    texts = list(family.texts) + list(family.prompts.values())
    if family.tokenizer == "wordpiece":
        out = golden_tokenizers.wordpiece(texts, family.vocab)
    else:
        layout = family.tokenizer.removeprefix("unigram-")
        out = golden_tokenizers.unigram(texts, family.vocab, golden_tokenizers.charsmap(HERE), layout)
    return families.with_own_padding(out, family) if family.tokenizer_pads else out


def token_rows(family, tokenizer_json):
    """One row per text: its prompt, its ids after truncation, and how many there were before."""
    tokenizer = golden_tokenizers.load(tokenizer_json)
    tokenizer.no_padding()
    prompts = list(family.prompts.values()) or [""]
    rows = []
    for i, text in enumerate(family.texts):
        prompt = prompts[i % len(prompts)]
        tokenizer.no_truncation()
        untruncated = len(tokenizer.encode(prompt + text).ids)
        tokenizer.enable_truncation(family.max_tokens)
        ids = tokenizer.encode(prompt + text).ids
        rows.append({"text": text, "prompt": prompt, "untruncated": untruncated, "ids": ids})
    return rows


def pad(rows, pad_id):
    """Ids and mask of one padded batch."""
    width = max(len(ids) for ids in rows)
    ids = torch.tensor([row + [pad_id] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask


def finish(family, states, mask, linear):
    """Pooling, Dense with tanh, and L2 normalisation, as far as the family has them."""
    if family.pooling == "cls":
        pooled = states[:, 0]
    else:
        weights = mask.unsqueeze(-1).to(states.dtype)
        pooled = (states * weights).sum(1) / weights.sum(1)
    if linear is not None:
        pooled = torch.tanh(linear(pooled))
    return torch.nn.functional.normalize(pooled, dim=1) if family.normalize else pooled


@torch.no_grad()
def encode(family, model, linear, rows, offset=0):
    """Embeddings of one padded batch of id rows. `offset` moves the position ids, for the list of mistakes."""
    pad_id = 0 if family.tokenizer == "wordpiece" else 1
    ids, mask = pad(rows, pad_id)
    positions = None
    if offset:
        positions = torch.arange(ids.shape[1]).expand(ids.shape) + offset
    states = model(input_ids=ids, attention_mask=mask, position_ids=positions).last_hidden_state
    return finish(family, states, mask, linear).numpy()


def one_by_one(family, model, linear, rows, offset=0):
    """The reference: every text alone, without padding."""
    return np.concatenate([encode(family, model, linear, [row], offset) for row in rows])


def mistaken_models(family, model):
    """Copies of the model, each with one mistake that an implementation could make."""
    activation = OTHER_ACTIVATION[family.activation]
    other = build_model(family, activation)
    other.load_state_dict(model.state_dict())
    yield f"activation {activation}", other
    other = copy.deepcopy(model)
    eps = 1e-12 if family.layer_norm_eps == 1e-5 else 1e-5
    for module in other.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = eps
    yield f"layer norm epsilon {eps:g}", other
    other = copy.deepcopy(model)
    torch.nn.init.zeros_(other.embeddings.token_type_embeddings.weight)
    yield "token type embedding left out", other


def mistakes(family, model, linear, rows):
    """How far each mistake moves the embeddings: a test's tolerance must stay well below the smallest of them."""
    rows = [row for row in rows if len(row) < family.positions - 2]  # room for shifted positions
    reference = one_by_one(family, model, linear, rows)
    found = {name: one_by_one(family, other, linear, rows) for name, other in mistaken_models(family, model)}
    # Right are positions from 0 (BERT) or from padding_idx + 1 = 2 (XLM-R).
    wrong = 1 if family.architecture == "xlm-roberta" else 2
    found[f"positions from {wrong}"] = one_by_one(family, model, linear, rows, wrong)
    return {name: float(f"{np.abs(other - reference).max():.2g}") for name, other in found.items()}


def measured(family, model, linear, rows, embeddings):
    """How far the reference is from itself in one padded batch and in f64, and how far from a wrong model."""
    apart = lambda other: float(f"{np.abs(other - embeddings).max():.2g}")
    facts = {"largest_difference_in_padded_batch": apart(encode(family, model, linear, rows)),
             "mistakes": mistakes(family, model, linear, rows)}
    wide = copy.deepcopy(model).double()
    wide_linear = copy.deepcopy(linear).double() if linear is not None else None
    return {"largest_difference_to_f64": apart(one_by_one(family, wide, wide_linear, rows))} | facts


def exact(values):
    """f32 values as the shortest decimals that give the same f32 back."""
    decimals = [float(str(v)) for v in values.astype(np.float32)]
    assert np.array_equal(np.array(decimals, dtype=np.float32), values)
    return decimals


def golden(family, rows, embeddings, facts):
    """The content of `golden.json`."""
    contract = {"pooling": family.pooling, "normalize": family.normalize, "max_tokens": family.max_tokens,
                "dense": family.dense[0] if family.dense else None, "dimension": int(embeddings.shape[1]),
                "activation": family.activation, "prompts": family.prompts}
    head = {"folder": family.name, "about": family.about, "made_by": "make_golden.py", "seed": family.seed,
            "versions": {p: version(p) for p in PACKAGES}, "contract": contract} | facts
    texts = [row | {"embedding": exact(vector)} for row, vector in zip(rows, embeddings)]
    return head | {"texts": texts}


def write_golden(path, content):
    """JSON with one line per text, so that a difference between two versions can be read."""
    head = {name: value for name, value in content.items() if name != "texts"}
    lines = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in content["texts"])
    start = json.dumps(head, ensure_ascii=False, indent=1).removesuffix("\n}")
    path.write_text(f'{start},\n "texts": [\n  {lines}\n ]\n}}\n', encoding="utf-8")


def write_weights(folder, family, model, rng):
    """The checkpoint: the encoder under published names, and the head an encoder passes over."""
    named = golden_weights.tensors_of(model, family.prefix, family.position_ids)
    if family.head:
        head = golden_weights.bert_head if family.architecture == "bert" else golden_weights.roberta_head
        named.update(head(rng, family.vocab, family.hidden))
    golden_weights.write_checkpoint(folder, named, family.form, family.prefix)


def make_models(family):
    """The encoder and, where there is one, the linear map after pooling; with the generator for further tensors."""
    torch.manual_seed(family.seed)  # only for what `randomise` does not overwrite
    model = build_model(family)
    rng = golden_weights.randomise(model, family.seed)
    if family.form in HALVES:
        golden_weights.round_to(model, HALVES[family.form])
    linear = torch.nn.Linear(family.hidden, family.dense[0]) if family.dense else None
    if linear is not None:
        golden_weights.randomise(linear, family.seed + 1000)
    return model, linear, rng


def write_folder(family, folder):
    """Makes one folder anew; returns the content of its `golden.json`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    model, linear, rng = make_models(family)
    tokenizer_json = build_tokenizer(family)
    families.write_json(folder / "config.json", families.config(family))
    families.write_json(folder / "tokenizer_config.json", families.tokenizer_config(family))
    compact = json.dumps(tokenizer_json, ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(compact + "\n", encoding="utf-8")
    write_weights(folder, family, model, rng)
    if family.sentence_layout:
        families.write_sentence_files(folder, family)
    if linear is not None:
        families.write_dense(folder, family, linear)
    if family.extra_heads:
        families.write_extra_heads(folder, family)

    rows = token_rows(family, tokenizer_json)
    ids = [row["ids"] for row in rows]
    embeddings = one_by_one(family, model, linear, ids)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors writes for the owner only
    content = golden(family, rows, embeddings, measured(family, model, linear, ids, embeddings))
    write_golden(folder / "golden.json", content)
    return content


def main():
    torch.set_num_threads(1)
    wanted = sys.argv[1:]
    for family in families.FAMILIES:
        if wanted and family.name not in wanted:
            continue
        folder = HERE / family.name
        content = write_folder(family, folder)
        size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
        print(f"{family.name}: {size / 1000:.0f} kB, f64 {content['largest_difference_to_f64']}, "
              f"batch {content['largest_difference_in_padded_batch']}, "
              f"mistakes {content['mistakes']}")


if __name__ == "__main__":
    main()
