"""Assembles the demo collection's questions from one file per language.

Each language's questions are written by hand in a file LANG.tsv (lines of docid, kind and question, no header): for
every passage of corpus.jsonl one question that is attached to it, and one that is kept back to test the search. This
script checks those files strictly, since a slip of the hand there would quietly falsify every score measured on the
demo, and then writes beside itself:

  attached.jsonl  the attached questions, by docid and then language
  queries.jsonl   the test questions, by language and then docid
  qrels.tsv       for each test question the one passage that answers it, in BEIR's form

If anything is wrong, it lists every fault and writes nothing.

Usage: python3 demo/assemble.py FOLDER      (Python 3.9 or newer, standard library only)
"""

import argparse
import json
import sys
import unicodedata
from pathlib import Path

HERE = Path(__file__).resolve().parent
KINDS = ("attached", "test")

# Each language's script, as inclusive ranges of code points. They tell a file under the wrong name or an untranslated
# line, not one language from another in the same script.
SCRIPTS = {
    "ar": [(0x0600, 0x06FF), (0x0750, 0x077F), (0x08A0, 0x08FF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFF)],
    "bn": [(0x0980, 0x09FF)],
    "fi": [(0x0041, 0x005A), (0x0061, 0x007A), (0x00C0, 0x024F)],
    "ja": [(0x3005, 0x3007), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF)],
    "ko": [(0x1100, 0x11FF), (0x3130, 0x318F), (0xAC00, 0xD7AF)],
    "ru": [(0x0400, 0x04FF)],
    "te": [(0x0C00, 0x0C7F)],
}


def in_script(text, lang):
    """Whether most of the letters of `text`, and at least one, belong to the script of `lang`."""
    letters = [ord(c) for c in text if unicodedata.category(c).startswith("L")]
    own = sum(any(low <= c <= high for low, high in SCRIPTS[lang]) for c in letters)
    return own * 2 > len(letters)


def faults_of_text(text, lang):
    """What is wrong with one question, as phrases."""
    if not text.strip():
        return ["empty question"]
    faults = []
    if text != text.strip():
        faults.append("space before or after the question")
    if "\ufffd" in text or any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in text):
        faults.append("control, line-separator or replacement character")
    if not in_script(text, lang):
        faults.append("not mostly in the script of " + lang)
    return faults


def read_language(path, lang, docids, faults):
    """The questions of one file as {(docid, kind): question}; what is wrong is appended to `faults`."""
    try:
        # Split at line feeds alone, so that no other line end hides in a question.
        lines = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{path}: {error}")
        return {}
    if lines[-1] == "":
        lines.pop()
    expected = len(docids) * len(KINDS)
    if len(lines) != expected:
        faults.append(f"{path}: {len(lines)} lines, not {expected}")
    questions, first_seen = {}, {}
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        fields = line.split("\t")
        if len(fields) != 3:
            faults.append(f"{where}: {len(fields)} columns, not 3")
            continue
        docid, kind, text = fields
        if docid not in docids:
            faults.append(f"{where}: unknown docid {docid!r}")
        if kind not in KINDS:
            faults.append(f"{where}: unknown kind {kind!r}")
        if (docid, kind) in questions:
            faults.append(f"{where}: a second {kind} question for {docid}")
        questions[docid, kind] = text
        faults.extend(f"{where}: {fault}" for fault in faults_of_text(text, lang))
        same = unicodedata.normalize("NFKC", text).casefold().strip()
        if same and same in first_seen:
            faults.append(f"{where}: same question as line {first_seen[same]}")
        first_seen.setdefault(same, number)
    for docid in docids:
        for kind in KINDS:
            if (docid, kind) not in questions:
                faults.append(f"{path}: no {kind} question for {docid}")
    return questions


def write_lines(name, lines):
    """Writes lines to a file beside this script and says so."""
    (HERE / name).write_bytes("".join(line + "\n" for line in lines).encode("utf-8"))
    print(f"{name}: {len(lines)} lines")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the folder of " + ", ".join(f"{lang}.tsv" for lang in SCRIPTS))
    folder = parser.parse_args().folder

    corpus = (HERE / "corpus.jsonl").read_bytes().decode("utf-8")
    docids = sorted(json.loads(line)["_id"] for line in corpus.split("\n") if line.strip())
    langs = sorted(SCRIPTS)

    faults = []
    questions = {lang: read_language(folder / f"{lang}.tsv", lang, docids, faults) for lang in langs}
    if faults:
        sys.exit("\n".join(faults) + f"\nfaults: {len(faults)}; nothing written")

    attached = [
        {"docid": docid, "lang": lang, "text": questions[lang][docid, "attached"]} for docid in docids for lang in langs
    ]
    queries = [
        {"_id": f"{docid}-{lang}", "text": questions[lang][docid, "test"], "lang": lang}
        for lang in langs
        for docid in docids
    ]
    qrels = [f"{docid}-{lang}\t{docid}\t1" for lang in langs for docid in docids]
    write_lines("attached.jsonl", [json.dumps(row, ensure_ascii=False) for row in attached])
    write_lines("queries.jsonl", [json.dumps(row, ensure_ascii=False) for row in queries])
    write_lines("qrels.tsv", ["query-id\tcorpus-id\tscore"] + qrels)


if __name__ == "__main__":
    main()
