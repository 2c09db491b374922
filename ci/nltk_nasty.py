"""Texts made to break a tokenizer, for ci/nltk_proof.py: random strings of the parts that NLTK's
rules look at, and every kind of character put where a rule asks what kind it is."""

import random
import unicodedata

MARKS = list(".?!,:;'\"`-*@#$%&()[]{}<>") + (
    "... .. -- --- '' ''' '''' `` ``` \"\" ,, :: .) .\" .' ?\" !' ). . . . .. .. ' '' \" .'' ;. ,. "
    "« » “ ” ‘ ’ „ ‒ – — ― … ‐ ‚ ´ 。 、 ！ ？ / \\ | ~ ^ _ = +"
).split(" ")
SPACES = [" "] * 12 + ["  ", "\n", "\t", "\r\n", "\n\n", "\x0b", "\x0c", "\x1c", "\x1f", "\x85"]
SPACES += ["\u00a0", "\u1680", "\u2003", "\u2028", "\u202f", "\u3000", "\u200b", "\ufeff", "\u180e"]
WORDS = (
    "a I the The He he It yet Yet However Smith cannot Cannot CANNOT gonna Gimme gotta lemme wanna "
    "WANNA d'ye D'YE more'n 'tis 'Twas 'TIS 'twas'tis don't DON'T donN'T can't they'll THEY'LL 'll "
    "we're WE'VE he's HE'S I'm I'd dogs' 's n't 't o'clock rock'n'roll 'em '90s O'Neil y'all "
    "gımme 'tıſ cannoT 'ſ 'x 's 'm x'y'z 'a'b Mr. Mrs. Dr. U.S. U.S.A. e.g. i.e. etc. Inc. Corp. "
    "vs. p.m. a.m. Jan. No. St. J. É. Ж. ß. ². _. x-Mr. anti-U.S. ph.d. Ph.D. 1. 12. 3,000.50 -1. "
    "-.5 ,5 :5 5,5:5 1985–1990 ٣. ٣,٤ :٣ 4th. $5 50% #1 a@b.c http://x.y/z?q=1&r=2 C++ A* x.y.z "
    "systematic. Systematic Overaged b.c. S. Bach i. magnin j. aron 5. Review Business administrators b-week a's' ##number## Straße ΣΑΣ. İst. K. "
    "café naïve 日本語。 東京 नमस्ते. क्या ไทย العربية؟ 한국어. 😀 👩‍👩‍👧 e\u0301 \u200d \x00 \x07 \x7f \ue000 a.. x..y"
).split(" ")


# Lower case in the Unicode version of some Pythons only; Rust's is another.
RECASED = "\u0295\u10fc"


def text(rng):
    """A string of up to sixty parts; how much of each kind differs from string to string."""
    weights = [rng.random() for _ in range(3)]
    kinds = rng.choices([MARKS, SPACES, WORDS], weights=weights, k=rng.randint(1, 60))
    return "".join(rng.choice(kind) for kind in kinds)


def sentence(rng):
    """Words with spaces between, and marks at their ends: what prose looks like."""
    words = []
    for _ in range(rng.randint(2, 40)):
        word = rng.choice(WORDS)
        if rng.random() < 0.3:
            word += "".join(rng.choices(MARKS, k=rng.randint(1, 3)))
        if rng.random() < 0.15:
            word = rng.choice(MARKS) + word
        words.append(word)
    return "".join(word + rng.choice(SPACES) for word in words)


def characters():
    """Every assigned character; of the large uniform blocks one in ninety-seven."""
    for code in range(0x110000):
        category = unicodedata.category(chr(code))
        uniform = 0x3400 <= code < 0xD7A4 or code >= 0x17000 or category == "Co"
        left_out = category in ("Cn", "Cs") or (uniform and code % 97) or chr(code) in RECASED
        if not left_out:
            yield chr(code)


def probe(c):
    """A text in which each rule that asks for the kind of a character meets `c`."""
    return (
        f"'{c} a'{c}b {c}'s cannot{c} {c}gonna 'tis{c} a:{c}b,{c}, {c}\"a\" ''{c}'' a.{c} B. {c}b."
        f"{c}A c! {c}. Bx {c}x. {c}y Mr.{c} Z -{c}. Q i.{c} ,{c}{c}. {c}a' {c}"
    )


def texts(count, seed):
    """The generated texts: `count` of each random kind, then a probe for each character."""
    rng = random.Random(seed)
    made = [text(rng) for _ in range(count)] + [sentence(rng) for _ in range(count)]
    long = ["." * 999, ". " * 999, "'" * 999, "!?" * 999, "-" * 999, "a. " * 999, "\n", "", " "]
    return made + long + ["".join(long)], [probe(c) for c in characters()]
