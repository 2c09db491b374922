"""Checks the golden folders from outside: reads only the folders, with the published loaders, and compares.

What: every folder is loaded by transformers (`AutoModel`, `AutoTokenizer`) and, where it has `modules.json`, by
sentence-transformers; embeddings must agree with `golden.json` within 1e-6. Why: the embeddings were computed from
weights in memory, so this shows that the files hold the same model. Knows nothing of `golden_families.py`.

usage: check_golden.py       (versions: requirements.txt; 15 seconds on one core)
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

HERE = Path(__file__).resolve().parent
LIMIT = 1e-6
ALL_FOLDERS_LIMIT = 1_600_000
LOADING = {"dtype": torch.float32, "attn_implementation": "eager"}


def tokenizer_differences(folder, golden):
    """Indices of the texts for which transformers' own tokenizer class gives other ids than `tokenizer.json`."""
    raw = Tokenizer.from_file(str(folder / "tokenizer.json"))
    raw.no_padding()
    raw.enable_truncation(golden["contract"]["max_tokens"])
    loaded = AutoTokenizer.from_pretrained(folder)
    found = []
    for i, row in enumerate(golden["texts"]):
        text = row["prompt"] + row["text"]
        assert raw.encode(text).ids == row["ids"], (folder.name, i)
        ids = loaded(text, truncation=True, max_length=golden["contract"]["max_tokens"])["input_ids"]
        if ids != row["ids"]:
            found.append(i)
    return found


def plain_embedding(model, ids, pooling):
    """Pooled, not normalised, for one text."""
    states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    return (states[0] if pooling == "cls" else states.mean(0)).numpy()


def load_model(folder):
    """The encoder, after checking that no tensor but an unused pooler was missing."""
    model, report = AutoModel.from_pretrained(folder, **LOADING, output_loading_info=True)
    missing = [name for name in report["missing_keys"] if not name.startswith("pooler.")]
    assert not missing, (folder.name, missing)
    for parameter in model.parameters():  # strided weights take another matrix product, with other rounding
        parameter.data = parameter.data.contiguous()
    return model.eval()


@torch.no_grad()
def largest_difference(folder, golden, embed):
    """The largest absolute difference between the stored embeddings and those of `embed(row)`."""
    return max(float(np.abs(np.array(row["embedding"], dtype=np.float32) - embed(row)).max())
               for row in golden["texts"])


def check_plain(folder, golden):
    """A folder without sentence-transformers files."""
    model, contract = load_model(folder), golden["contract"]
    assert not contract["normalize"] and contract["dense"] is None
    return largest_difference(folder, golden, lambda row: plain_embedding(model, row["ids"], contract["pooling"]))


def check_sentence(folder, golden, other_ids):
    """A sentence-transformers folder: `encode`, or its modules on the stored ids where its tokenizer disagrees."""
    model, contract = SentenceTransformer(str(folder), device="cpu", model_kwargs=LOADING), golden["contract"]
    assert model.max_seq_length == contract["max_tokens"], (folder.name, model.max_seq_length)
    assert contract["prompts"].items() <= model.prompts.items()

    def embed(row):
        if golden["texts"].index(row) not in other_ids:
            return model.encode(row["text"], prompt=row["prompt"], show_progress_bar=False)
        ids = torch.tensor([row["ids"]])
        return model({"input_ids": ids, "attention_mask": torch.ones_like(ids)})["sentence_embedding"][0].numpy()

    return largest_difference(folder, golden, embed)


def check_folder(folder):
    """Checks one folder; returns its size in bytes."""
    golden = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    other_ids = tokenizer_differences(folder, golden)
    sentence = (folder / "modules.json").exists()
    difference = check_sentence(folder, golden, other_ids) if sentence else check_plain(folder, golden)
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"{folder.name}: {len(golden['texts'])} texts, {size / 1000:.0f} kB, largest difference {difference:.1g}, "
          f"texts with other ids in transformers: {other_ids or 'none'}")
    assert difference <= LIMIT and size < 200_000, folder.name
    assert any(row["untruncated"] > len(row["ids"]) for row in golden["texts"]), "nothing was truncated"
    return size


def main():
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    folders = sorted(path.parent for path in HERE.glob("*/golden.json"))
    total = sum(map(check_folder, folders))
    print(f"{len(folders)} folders, {total / 1000:.0f} kB, all agree within {LIMIT}")
    return 0 if folders and total < ALL_FOLDERS_LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
