"""Makes `spiece/`: a tiny SentencePiece unigram model and the ids that the `sentencepiece` package
gives to some texts. All text is written here. Needs sentencepiece 0.2.3.

Usage: python make_spiece.py
"""

import contextlib
import io
import json
import pathlib
import tempfile

import sentencepiece

LINES = [
    "The river runs past the old mill and under the bridge.",
    "Der Fluss fließt an der alten Mühle vorbei und unter der Brücke.",
    "La rivière passe devant le vieux moulin et sous le pont.",
    "Река течёт мимо старой мельницы и под мостом.",
    "Joki virtaa vanhan myllyn ohi ja sillan ali.",
    "川は古い水車小屋の前を流れ、橋の下を通る。",
    "강은 오래된 물레방아를 지나 다리 아래로 흐른다.",
    "Who built the bridge? When was the mill sold?",
]
# A few rules instead of all of NFKC, whose 240 kB are too much for a golden file.
RULES = [("Ａ", "A"), ("ﬁ", "fi"), ("\t", " "), ("\n", " "), ("\u3000", " "), ("e\u0301", "é"),
         ("\u200b", ""), ("½", "1⁄2"), ("…", "...")]  # fmt: skip
TEXTS = [
    *LINES, "", " ", "   ", "\t \u3000", "  the   mill ", "the\tmill\nran", "ＡＡ ﬁne e\u0301e\u0301 ½…",
    "\u200b", "\u200bmill", "a\u200b b", "▁", "▁▁the▁", "the mill ▁ ▁", "<s>the</s>", "<unk>", "<sep>",
    "the <sep> mill", "<sep", "日本語 xyz", "مرحبا", "👍🏽 ok", "mill\0mill", "q" * 50, "Mühle" * 20,
]  # fmt: skip


def main():
    folder = pathlib.Path(__file__).resolve().parent / "spiece"
    folder.mkdir(exist_ok=True)
    out = io.BytesIO()
    # The rules' path goes into the model as it is said: it must be the same everywhere.
    with tempfile.TemporaryDirectory() as work, contextlib.chdir(work):
        rules = pathlib.Path("rules.tsv")
        hexed = lambda text: " ".join(f"{ord(c):x}" for c in text)  # noqa: E731
        rules.write_text("".join(f"{hexed(a)}\t{hexed(b)}\n" for a, b in RULES))
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(LINES * 3), model_writer=out, model_type="unigram",
            vocab_size=400, hard_vocab_limit=False, character_coverage=0.98, num_threads=1,
            minloglevel=2, normalization_rule_tsv=str(rules), user_defined_symbols=["<sep>"],
            byte_fallback=True,
        )  # fmt: skip
    (folder / "spiece.model").write_bytes(out.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    rows = [{"text": text, "ids": [*processor.encode(text), processor.eos_id()]} for text in TEXTS]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "ids.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
