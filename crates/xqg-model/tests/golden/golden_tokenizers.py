"""Builds the miniature `tokenizer.json` files: WordPiece as in mBERT, Unigram as in XLM-R.

The vocabularies are counted from the golden texts without any trainer, so that they are the same on every run
(the trainers of `tokenizers` hash and thread). Emoji stay out on purpose: they must become the unknown token.
"""

import base64
import io
import json
import math
import unicodedata
from collections import Counter

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer


def has_vocabulary(character):
    """Characters from the supplementary planes (emoji) get no piece."""
    return ord(character) < 0x1_0000


def special_token(token_id, content, lstrip=False):
    return {"id": token_id, "content": content, "single_word": False, "lstrip": lstrip, "rstrip": False,
            "normalized": False, "special": True}


def template(first, last, pair_middle):
    """`first A last` for one text, `first A pair_middle B last` for two; each name is (token, id)."""
    piece = lambda name, kind: {"SpecialToken": {"id": name[0], "type_id": kind}}
    sequence = lambda name, kind: {"Sequence": {"id": name, "type_id": kind}}
    second = 1 if len(pair_middle) == 1 else 0
    pair = ([piece(first, 0), sequence("A", 0)] + [piece(m, 0) for m in pair_middle]
            + [sequence("B", second), piece(last, second)])
    named = {n[0]: {"id": n[0], "ids": [n[1]], "tokens": [n[0]]} for n in sorted({first, last})}
    return {"type": "TemplateProcessing", "single": [piece(first, 0), sequence("A", 0), piece(last, 0)],
            "pair": pair, "special_tokens": named}


def assemble(normalizer, pre_tokenizer, model, added_tokens, post_processor):
    """The dictionary of a whole `tokenizer.json`, without truncation, padding or decoder."""
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added_tokens,
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post_processor,
            "decoder": None, "model": model}


def load(tokenizer_json):
    """A `tokenizers.Tokenizer` of such a dictionary."""
    return Tokenizer.from_str(json.dumps(tokenizer_json))


def words_of(tokenizer_json, texts):
    """Counts the words that normaliser and pre-tokenizer make of the texts; each text counts once."""
    tokenizer, counts = load(tokenizer_json), Counter()
    for text in texts:
        normal = tokenizer.normalizer.normalize_str(text)
        counts.update({word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)})
    return {w: n for w, n in counts.items() if all(map(has_vocabulary, w))}


def best(counts, how_many):
    """The most frequent pieces, longer ones first among equals, then by code point: a total order."""
    return sorted(counts, key=lambda p: (-counts[p], -len(p), p))[:how_many]


# --- WordPiece ---------------------------------------------------------------------------------------------------

WORDPIECE_SPECIALS = ["[PAD]", "[unused1]", "[unused2]", "[unused3]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def wordpiece_pieces(words):
    """Single characters (first and continuing), and pieces of 2 to 4 characters, with counts."""
    single, longer = Counter(), Counter()
    for word, count in words.items():
        for start in range(len(word)):
            mark = "##" if start else ""
            single[mark + word[start]] += count
            for length in (2, 3, 4):
                if start + length <= len(word):
                    longer[mark + word[start:start + length]] += count
    return single, longer


def wordpiece(texts, vocab_size):
    """An mBERT-like cased tokenizer: BertNormalizer, BertPreTokenizer, WordPiece, `[CLS] A [SEP]`."""
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                  "strip_accents": None, "lowercase": False}
    ids = {token: i for i, token in enumerate(WORDPIECE_SPECIALS)}
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
             "max_input_chars_per_word": 100, "vocab": ids}
    added = [special_token(ids[t], t) for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
    cls, sep = ("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])
    out = assemble(normalizer, {"type": "BertPreTokenizer"}, model, added, template(cls, sep, [sep]))
    single, longer = wordpiece_pieces(words_of(out, texts))
    # Three quarters for single characters: some rare ones stay out, and their words become [UNK].
    pieces = best(single, vocab_size * 3 // 4 - len(ids))
    pieces += best(longer, vocab_size - len(ids) - len(pieces))
    for piece in pieces:
        ids[piece] = len(ids)
    out["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    return out


# --- Unigram -----------------------------------------------------------------------------------------------------

SPACES = "\t\n\r\u00a0\u2003\u200b\u200d\u200e\u200f\u3000\ufeff"
REMOVED = [chr(c) for c in (*range(1, 9), 0x0B, *range(0x0E, 0x20), 0x7F)]


def compatibility_keys():
    """The strings that get an NFKC rule: a sample of what XLM-R's 240 kB table covers.

    `tokenizers` looks a grapheme up as a whole only below 6 bytes, so there (not in SentencePiece itself) the rules for
    voiced half-width katakana and for conjoining jamo have no effect. They are here because the real table has them.
    """
    yield from (chr(c) for c in range(0xFF01, 0xFF5E))  # full-width ASCII, not the tilde
    yield from (chr(c) for c in range(0xFF66, 0xFFA0))  # half-width katakana
    yield from (chr(c) + "\uff9e" for c in range(0xFF76, 0xFF85))  # ... with the voiced mark
    yield from "ﬁﬂ½①②²™…㎞\u09dc\u09dd"
    yield from (base + mark for base in "AEIOUaeiounc" for mark in "\u0300\u0301\u0302\u0303\u0308\u0327")
    yield from ("a\u0323", "\u0438\u0306", "\u0435\u0308", "\u0627\u0653", "\u0627\u0654")
    for syllable in "서울":
        yield unicodedata.normalize("NFD", syllable)


def charsmap_rules():
    """Rows (from, to): white space and control characters as in `nmt_nfkc`, then the NFKC sample."""
    rules = {c: " " for c in SPACES} | {c: "" for c in REMOVED}
    for key in compatibility_keys():
        normal = unicodedata.normalize("NFKC", key)
        if normal != key:
            rules[key] = normal
    return sorted(rules.items())


def charsmap(folder):
    """The rules compiled by SentencePiece, in the base64 form of the `Precompiled` normaliser."""
    code_points = lambda text: " ".join(f"{ord(c):X}" for c in text)
    table = folder / "rules.tsv"
    table.write_text("".join(f"{code_points(a)}\t{code_points(b)}\n" for a, b in charsmap_rules()))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["only the rules of this model are used"] * 20), model_writer=model, vocab_size=24,
        hard_vocab_limit=False, normalization_rule_tsv=str(table), minloglevel=2)
    table.unlink()
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model.getvalue())
    return base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()


def unigram_pieces(words):
    """Single characters, and pieces of 2 to 5 characters, with counts."""
    single, longer = Counter(), Counter()
    for word, count in words.items():
        for start in range(len(word)):
            single[word[start]] += count
            for length in (2, 3, 4, 5):
                if start + length <= len(word):
                    longer[word[start:start + length]] += count
    return single, longer


def scored(pieces, counts):
    """Rows [piece, log-probability]; a small step per rank keeps two segmentations from having the same score."""
    total = sum(counts.values())
    return [[p, round(math.log(counts[p] / total) - 0.00173 * rank, 6)] for rank, p in enumerate(pieces)]


def unigram(texts, vocab_size, precompiled, layout):
    """An XLM-R-like tokenizer: Precompiled, Metaspace, Unigram, `<s> A </s>`, `<mask>` last.

    Both published layouts exist. `"split"` (xlm-roberta-base): white-space split before Metaspace, older field names.
    `"replace"` (bge-m3): runs of spaces are replaced in the normaliser, Metaspace alone, so a trailing space stays
    as one token.
    """
    precompiled = {"type": "Precompiled", "precompiled_charsmap": precompiled}
    old = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
    new = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    squeeze = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    if layout == "split":
        normalizer, metaspace = precompiled, old
        pre_tokenizer = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, old]}
    else:
        normalizer, metaspace = {"type": "Sequence", "normalizers": [precompiled, squeeze]}, new
        pre_tokenizer = new
    vocab = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]]
    added = [special_token(i, row[0]) for i, row in enumerate(vocab)]
    model = {"type": "Unigram", "unk_id": 3, "vocab": vocab}
    if layout == "replace":
        model["byte_fallback"] = False
    bos, eos = ("<s>", 0), ("</s>", 2)
    out = assemble(normalizer, pre_tokenizer, model, added, template(bos, eos, [eos, eos]))
    single, longer = unigram_pieces(words_of(out, texts))
    room = vocab_size - len(vocab) - 1
    pieces = best(single, room * 3 // 4)
    pieces += best(longer, room - len(pieces))
    vocab += scored(pieces, single | longer) + [["<mask>", 0.0]]
    added.append(special_token(len(vocab) - 1, "<mask>", lstrip=True))
    out["decoder"] = metaspace
    return out
