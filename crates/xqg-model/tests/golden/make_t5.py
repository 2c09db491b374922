"""Makes `generator-mt5/` and `generator-t5/`: a tiny random mT5 (untied head, gated GELU, only a `spiece.model`) and a tiny
random T5 (tied head, ReLU, a `tokenizer.json`, weights as `.bin`), with the scores and the texts that transformers gives.

Prompts go through transformers in one padded batch, as its users send them. Nothing here was made by our own code.

usage: make_t5.py       (versions: requirements.txt; some seconds on one core)
"""

import base64
import contextlib
import io
import json
import pathlib
import tempfile

import sentencepiece
import torch
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer
from transformers import GenerationConfig, MT5Config, MT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration

from golden_tokenizers import assemble, special_token
from make_spiece import LINES, RULES

HERE = pathlib.Path(__file__).resolve().parent
LANGS = {"ar": "Arabic", "fi": "Finnish", "te": "Telugu"}
PASSAGES = [("p1", "", "The river runs past the old mill and under the bridge."),
            ("p2", "Joki", "Joki virtaa vanhan myllyn ohi ja sillan ali."),
            ("p3", "Река", "Река течёт мимо старой мельницы и под мостом. " * 9),
            ("p4", "", "川")]
PROMPTS = ["Generate a Telugu question for this passage: the mill", "Arabic Finnish Japanese question passage"]
MOST_TOKENS, MAX_TOKENS, END, PAD = 72, 12, 1, 0
SIZES = dict(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=3, dropout_rate=0.0, relative_attention_num_buckets=8,
             relative_attention_max_distance=20, decoder_start_token_id=PAD, eos_token_id=END, pad_token_id=PAD)


def spiece():
    """A SentencePiece model with the ids of T5: padding, end, unknown."""
    out = io.BytesIO()
    with tempfile.TemporaryDirectory() as work, contextlib.chdir(work):
        hexed = lambda text: " ".join(f"{ord(c):x}" for c in text)
        pathlib.Path("rules.tsv").write_text("".join(f"{hexed(a)}\t{hexed(b)}\n" for a, b in RULES))
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter((LINES + PROMPTS) * 3), model_writer=out, model_type="unigram", vocab_size=520,
            hard_vocab_limit=False, character_coverage=1.0, num_threads=1, minloglevel=2,
            normalization_rule_tsv="rules.tsv", pad_id=PAD, eos_id=END, unk_id=2, bos_id=-1)
    return out.getvalue()


def tokenizer_json(model):
    """The same pieces as a `tokenizer.json`, in the shape of the published mT5's."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    vocab = [[p.piece, p.score] for p in proto.pieces]
    charsmap = base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    before = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]}
    end = {"id": "</s>", "ids": [END], "tokens": ["</s>"]}
    after = {"type": "TemplateProcessing", "special_tokens": {"</s>": end},
             "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
             "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}},
                      {"Sequence": {"id": "B", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]}
    added = [special_token(i, t) for i, t in ((PAD, "<pad>"), (END, "</s>"), (2, "<unk>"))]
    unigram = {"type": "Unigram", "unk_id": 2, "vocab": vocab}
    return assemble({"type": "Precompiled", "precompiled_charsmap": charsmap}, before, unigram, added, after)


def build(name, vocab):
    """The model, with weights that make texts of different lengths."""
    torch.manual_seed(31 if name == "mt5" else 32)
    if name == "mt5":
        model = MT5ForConditionalGeneration(MT5Config(**SIZES, vocab_size=vocab,
                                                      feed_forward_proj="gated-gelu"))
    else:
        model = T5ForConditionalGeneration(T5Config(**SIZES, vocab_size=vocab, feed_forward_proj="relu"))
    for parameter, p in model.named_parameters():
        if parameter.endswith("norm.weight"):
            torch.nn.init.normal_(p, 1.0, 0.2)
        elif "relative_attention_bias" in parameter:
            torch.nn.init.normal_(p, 0.0, 1.0)
        elif "EncDecAttention" in parameter or "DenseReluDense" in parameter:
            p.data *= 1.5 if name == "mt5" else 4.0
    words = model.get_input_embeddings().weight
    if name == "mt5":
        model.config.tie_word_embeddings = False  # as in the published checkpoints
        model.lm_head.weight = torch.nn.Parameter(torch.randn(vocab, SIZES["d_model"]) * 0.5)
        model.lm_head.weight.data[END] *= 2.6
    else:
        words.data = torch.randn(vocab, SIZES["d_model"])
        words.data[END] *= 2.6
    return model.eval()


def padded(rows):
    width = max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask


def found(model, row, given, decode):
    ids = row[1:].tolist()
    ids = ids[: ids.index(END) + 1] if END in ids else ids[:MAX_TOKENS]
    start = torch.tensor([[PAD, *ids[:-1]]])
    logs = model(input_ids=torch.tensor([given]), decoder_input_ids=start).logits[0].log_softmax(-1)
    logprob = logs[torch.arange(len(ids)), torch.tensor(ids)].sum().item()
    return dict(ids=ids, text=decode([i for i in ids if i != END]), logprob=logprob)


def texts(model, rows, beams, decode):
    ids, mask = padded(rows)
    each = min(beams, 3)
    config = GenerationConfig(max_new_tokens=MAX_TOKENS, num_beams=beams, num_return_sequences=each, do_sample=False,
                              length_penalty=1.0, early_stopping=False, eos_token_id=END, pad_token_id=PAD,
                              decoder_start_token_id=PAD)
    out = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    all_of = [found(model, row, rows[i // each], decode) for i, row in enumerate(out)]
    return [all_of[i : i + each] for i in range(0, len(all_of), each)]


def make(name, model_file):
    folder = HERE / f"generator-{name}"
    folder.mkdir(exist_ok=True)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model_file)
    # As mT5, whose embedding has more rows than its tokenizer pieces.
    model = build(name, processor.vocab_size() + 5)
    if name == "mt5":
        (folder / "spiece.model").write_bytes(model_file)
        encode = lambda text: [*processor.encode(text)[: MOST_TOKENS - 1], END]
        model.save_pretrained(folder)
        length = lambda text: len(processor.encode(text)) + 1
    else:
        text = json.dumps(tokenizer_json(model_file), ensure_ascii=False) + "\n"
        (folder / "tokenizer.json").write_text(text, encoding="utf-8")
        inner = Tokenizer.from_str(text)
        encode = lambda text: [*inner.encode(text, add_special_tokens=False).ids[: MOST_TOKENS - 1], END]
        length = lambda text: len(inner.encode(text).ids)
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    known = processor.vocab_size()
    decode = lambda ids: processor.decode([i for i in ids if 2 < i < known]).strip()
    rows, prompts = [], []
    for docid, title, text in PASSAGES:
        for lang, language in LANGS.items():
            prompt = f"Generate a {language} question for this passage: " + (f"{title} {text}" if title else text)
            prompts.append(encode(prompt))
            rows.append(dict(docid=docid, title=title, text=text, lang=lang, ids=prompts[-1],
                             truncated=length(prompt) > MOST_TOKENS))
    for row, greedy, beam in zip(rows, texts(model, prompts, 1, decode), texts(model, prompts, 4, decode)):
        row |= dict(greedy=greedy, beam=beam)
    torch.manual_seed(7)
    targets = [torch.randint(3, known, (n,)).tolist() + [END] for n in (4, 11, 1, 7, 9, 5, 2, 8, 3, 6, 10, 1)]
    ids, mask = padded(prompts)
    given, _ = padded([[PAD, *target[:-1]] for target in targets])
    logits = model(input_ids=ids, attention_mask=mask, decoder_input_ids=given).logits
    # What both are to be near to: the same model in f64.
    exact = model.double()(input_ids=ids, attention_mask=mask, decoder_input_ids=given).logits
    print(name, "largest difference to f64:", (logits - exact).abs().max().item(), "largest:", exact.abs().max().item())
    forced = [dict(row=i, target=target, scores=[[round(x, 5) for x in row] for row in exact[i, : len(target)].tolist()])
              for i, target in enumerate(targets) if i % 4 < 2]
    golden = dict(max_tokens=MAX_TOKENS, most_tokens=MOST_TOKENS, rows=rows, forced=forced)
    (folder / "golden.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n", encoding="utf-8")
    for row in rows:
        print(name, row["lang"], [len(f["ids"]) for f in row["greedy"] + row["beam"]], row["greedy"][0]["text"])


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    model_file = spiece()
    for name in ("mt5", "t5"):
        make(name, model_file)


if __name__ == "__main__":
    main()
