"""Makes the reference embeddings of the real multilingual-e5-small for 50 sentences in 8 languages.

What: `e5-small-50.json` (texts with their prefix, language, token ids) and `e5-small-50.npy` (50 x 384, f32), by
transformers, one text at a time: mean over all tokens, L2 normalised, at most 512 tokens. Why: the miniatures show that
every rule is kept, this shows that the real model comes out right (12 layers, 250,037 tokens, real weights).
MODEL_DIR is a multilingual-e5-small folder; a SHA-256 of its weights is stored, since other weights give other numbers:
over the f32 little-endian bytes of all tensors in order of name, so that it does not depend on a file's header.
The token ids are those of the folder's own `tokenizer.json`, and transformers' tokenizer class must give the same.

usage: make_e5_golden.py MODEL_DIR       (versions: requirements.txt; 10 seconds on one core)
"""

import hashlib
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer

HERE = Path(__file__).resolve().parent
MAX_TOKENS = 512

# Written for this project: per language questions, then passages.
SENTENCES = {
    "en": (["Which river flows through the most countries?",
            "When did people first land on the Moon?",
            "How do bees find their way home?",
            "Who painted the ceiling of the Sistine Chapel?"],
           ["The Danube flows through ten countries, more than any other river, before it reaches the Black Sea.",
            "Apollo 11 landed on the Moon on 20 July 1969; Neil Armstrong and Buzz Aldrin walked there for two hours.",
            "Honey bees use the sun, polarised light and landmarks to return to the hive.",
            "Tea is a drink made by pouring hot water over the cured leaves of Camellia sinensis."]),
    "ar": (["ما هي عاصمة المغرب؟",
            "متى بدأت الحرب العالمية الأولى؟",
            "كم عدد عظام جسم الإنسان البالغ؟"],
           ["الرباط هي عاصمة المملكة المغربية وتقع على ساحل المحيط الأطلسي.",
            "بدأت الحرب العالمية الأولى في صيف عام 1914 وانتهت في نوفمبر 1918.",
            "يتكون هيكل الإنسان البالغ من 206 عظام تحمي الأعضاء وتدعم الجسم."]),
    "bn": (["বাংলাদেশের জাতীয় ফুলের নাম কী?",
            "পৃথিবীর সবচেয়ে উঁচু পর্বত কোনটি?",
            "সূর্য থেকে আলো পৃথিবীতে আসতে কত সময় লাগে?"],
           ["শাপলা বাংলাদেশের জাতীয় ফুল; এটি পুকুর ও বিলে ফোটে।",
            "এভারেস্ট পর্বতের উচ্চতা ৮,৮৪৯ মিটার এবং এটি হিমালয়ে অবস্থিত।",
            "সূর্যের আলো পৃথিবীতে পৌঁছাতে প্রায় আট মিনিট সময় নেয়।"]),
    "fi": (["Mikä on Suomen suurin järvi?",
            "Milloin Suomi itsenäistyi?",
            "Kuka kirjoitti Kalevalan?"],
           ["Saimaa on Suomen suurin järvi, ja sen rannoilla ovat muun muassa Lappeenranta ja Savonlinna.",
            "Suomi julistautui itsenäiseksi 6. joulukuuta 1917.",
            "Elias Lönnrot kokosi Kalevalan kansanrunoista, ja se ilmestyi vuonna 1835."]),
    "ja": (["富士山の高さは何メートルですか?",
            "日本で一番長い川はどこですか。",
            "俳句は何音でできていますか"],
           ["富士山は標高3,776メートルで、日本で最も高い山である。",
            "信濃川は長野県から新潟県を通って日本海に注ぐ、日本一長い川です。",
            "俳句は五・七・五の十七音からなり、季語を含む短い詩である。"]),
    "ko": (["한글은 누가 만들었나요?",
            "대한민국에서 가장 높은 산은 무엇인가?",
            "김치는 언제부터 고추로 담갔을까?"],
           ["한글은 조선의 세종대왕이 1443년에 창제하여 1446년에 반포한 문자이다.",
            "한라산은 제주도에 있으며 높이는 1,947미터이다.",
            "고추는 임진왜란 무렵 한반도에 들어왔고, 그 뒤에 김치에 쓰이게 되었다."]),
    "ru": (["Какое озеро самое глубокое в мире?",
            "Кто первым полетел в космос?",
            "В каком году основали Санкт-Петербург?"],
           ["Байкал — самое глубокое озеро на Земле: его глубина достигает 1642 метров.",
            "Юрий Гагарин совершил первый полёт в космос 12 апреля 1961 года на корабле «Восток-1».",
            "Санкт-Петербург был основан Петром I в 1703 году в устье Невы."]),
    "te": (["తెలంగాణ రాజధాని ఏది?",
            "భారతదేశంలో అతి పొడవైన నది ఏది?",
            "చార్మినార్‌ను ఎవరు కట్టించారు?"],
           ["హైదరాబాదు తెలంగాణ రాష్ట్రానికి రాజధాని మరియు ముత్యాల నగరంగా ప్రసిద్ధి చెందింది.",
            "గంగా నది హిమాలయాలలో పుట్టి బంగాళాఖాతంలో కలుస్తుంది.",
            "చార్మినార్‌ను 1591లో మహమ్మద్ కులీ కుతుబ్ షా నిర్మించాడు."]),
}


def rows():
    """All 50 texts in a fixed order, with language and prefix."""
    for lang, (questions, passages) in SENTENCES.items():
        for prefix, texts in (("query: ", questions), ("passage: ", passages)):
            yield from ({"lang": lang, "text": prefix + text} for text in texts)


def sha256(path):
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_sha256(path):
    """Hex digest of all tensors' f32 bytes, in order of name."""
    digest, tensors = hashlib.sha256(), load_file(path)
    for name in sorted(tensors):
        digest.update(tensors[name].astype("<f4").tobytes())
    return digest.hexdigest()


def with_ids(folder):
    """The rows with their token ids."""
    tokenizer, other = Tokenizer.from_file(str(folder / "tokenizer.json")), AutoTokenizer.from_pretrained(folder)
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    out = [row | {"ids": tokenizer.encode(row["text"]).ids} for row in rows()]
    for row in out:
        assert other(row["text"], truncation=True, max_length=MAX_TOKENS)["input_ids"] == row["ids"], row
    return out


@torch.no_grad()
def embed(model, ids):
    """Mean over the tokens of one text, L2 normalised."""
    states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    return torch.nn.functional.normalize(states.mean(0), dim=0).numpy()


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                      add_pooling_layer=False).eval()
    texts = with_ids(folder)
    embeddings = np.stack([embed(model, row["ids"]) for row in texts]).astype(np.float32)
    assert embeddings.shape == (50, 384)
    np.save(HERE / "e5-small-50.npy", embeddings)
    head = {"made_by": "make_e5_golden.py", "model": "multilingual-e5-small, 4-bit weights dequantised to f32",
            "tensors_sha256": tensors_sha256(folder / "model.safetensors"),
            "tokenizer_sha256": sha256(folder / "tokenizer.json"),
            "versions": {p: version(p) for p in ("torch", "transformers", "tokenizers", "numpy")},
            "contract": {"pooling": "mean", "normalize": True, "max_tokens": MAX_TOKENS},
            "embeddings": "e5-small-50.npy"}
    lines = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in texts)
    start = json.dumps(head, indent=1).removesuffix("\n}")
    (HERE / "e5-small-50.json").write_text(f'{start},\n "texts": [\n  {lines}\n ]\n}}\n', encoding="utf-8")
    print(f"{len(texts)} texts, {sum(len(row['ids']) for row in texts)} tokens")


if __name__ == "__main__":
    main()
