"""The texts of the golden folders: what a tokenizer and an encoder get wrong, in few lines.

Odd characters are written as escapes, so that no editor can mend them. Written for this project.
"""

# One sentence that, repeated, is longer than any miniature's maximum length, so truncation happens.
LONG_SENTENCE = "The river runs north, река течёт на север, nehri kuzeye akar. "

TEXTS = [
    "",
    "a",
    "The quick brown fox jumps over the lazy dog, doesn't it?",
    "Where is the highest mountain of Finland?",
    "\u0643\u064e\u062a\u064e\u0628\u064e \u0627\u0644\u0648\u0644\u062f \u0627\u0644\u062f\u0631\u0633",  # Arabic, vowel signs
    "\u0986\u09ae\u09be\u09b0 \u09b8\u09cb\u09a8\u09be\u09b0 \u09ac\u09be\u0982\u09b2\u09be \u09dc",  # Bengali, U+09DC decomposes
    "東京は日本の首都です。ｶﾞﾗｽとＡＢＣ１２３",  # no spaces; half-width voiced katakana; full-width Latin
    "서울은 수도 \u1109\u1165\u110b\u116e\u11af",  # Korean, then the same word as conjoining jamo
    "Москва \u0438\u0306од \u0435\u0308лка",  # Russian, with short i and io as base letter + combining mark
    "తెలుగు భాష అందం",
    "Cafe\u0301 nai\u0308ve a\u0323\u0302 ﬁn ½ ①",  # combining marks (one not composable alone), ligature, fractions
    "I \U0001f49a Rust \U0001f469\U0001f3fd\u200d\U0001f680 \U0001f1eb\U0001f1ee!",  # emoji, skin tone, ZWJ, flag
    "  leading and  double   spaces \t",
    "zero\u200bwidth no\u00a0break ideographic\u3000space\r\nline\u0007bell",
    "tokens </s> in [SEP] text",  # special tokens typed by a user
    LONG_SENTENCE * 12,
]

# For the small format variants, where the tokenizer is not what is tested.
FEW_TEXTS = [TEXTS[i] for i in (0, 1, 2, 4, 8, 12)] + [LONG_SENTENCE * 3]
