"""The train questions that the experiments' quick looks learn from and judge by."""

import hashlib
import json


def lines(path):
    return [json.loads(line) for line in open(path)]


def single_spaced(text):
    return " ".join(text.split())


def asked(data):
    """XOR-TyDi's train questions without those of dev, each once: id, language, text, answers."""
    seen = {single_spaced(row["question"]) for row in lines(data / "xor-tydi/dev-half.jsonl")}
    for row in lines(data / "xor-tydi/xor_train_retrieve_eng_span.jsonl"):
        text = single_spaced(row["question"])
        if text not in seen:
            seen.add(text)
            yield row["id"], row["lang"].strip(), text, row["answers"]


def part(key, parts):
    """The part that a question's id falls into, by lot."""
    return int(hashlib.md5(key.encode()).hexdigest(), 16) % parts
