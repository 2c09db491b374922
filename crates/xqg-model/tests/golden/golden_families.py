"""The table of the golden folders, and the JSON files that stand beside the weights in each.

Every folder is a miniature of a published model: same file names, same field names, same quirks; smaller numbers.
"""

import json
from dataclasses import dataclass, field

import torch
from safetensors.torch import save_file

from golden_texts import FEW_TEXTS, TEXTS


@dataclass(frozen=True)
class Family:
    """One folder. Defaults are a small BERT with a WordPiece tokenizer and no sentence-transformers files."""

    name: str
    about: str
    seed: int
    architecture: str = "bert"  # or "xlm-roberta"
    tokenizer: str = "wordpiece"  # or "unigram-split", "unigram-replace": see golden_tokenizers.unigram
    pooling: str = "cls"  # or "mean"
    normalize: bool = False
    dense: tuple = ()  # (output width, "safetensors" or "bin")
    max_tokens: int = 32
    positions: int = 32
    hidden: int = 16
    heads: int = 2
    intermediate: int = 32
    vocab: int = 160
    activation: str = "gelu"
    prefix: str = "bert."
    head: bool = True  # with the pre-training head's tensors
    position_ids: bool = False  # with the int64 buffer of older checkpoints
    form: str = "safetensors"  # see golden_weights.write_checkpoint
    sentence_layout: str = ""  # "", "old" (up to sentence-transformers 5) or "new" (6)
    prompts: dict = field(default_factory=dict)
    tokenizer_class: str = ""  # default: BertTokenizer or XLMRobertaTokenizer
    tokenizer_pads: bool = False  # tokenizer.json itself carries truncation and padding
    extra_heads: bool = False  # bge-m3's sparse and multi-vector heads lie in the folder
    texts: tuple = tuple(FEW_TEXTS)

    @property
    def pooler(self):
        """Whether the checkpoint carries BERT's pooler, which no embedding here uses."""
        return self.name not in ("xlmr", "e5like")

    @property
    def layer_norm_eps(self):
        """As published for the architecture."""
        return 1e-5 if self.architecture == "xlm-roberta" else 1e-12


WIDE = {"hidden": 32, "heads": 4, "intermediate": 64, "vocab": 280, "texts": tuple(TEXTS)}
E5 = {"query": "query: ", "passage": "passage: "}

FAMILIES = [
    Family("mbert", "bert-base-multilingual-cased: WordPiece, [CLS] pooling asked for by the caller", 101, **WIDE,
           max_tokens=64, positions=64),
    Family("xlmr", "xlm-roberta-base: Unigram, positions offset by 2, mean pooling asked for by the caller", 102, **WIDE,
           architecture="xlm-roberta", tokenizer="unigram-split", prefix="roberta.", pooling="mean", position_ids=True,
           max_tokens=64, positions=66),
    Family("e5like", "multilingual-e5-small: BERT with an XLM-R tokenizer, mean, normalised, prompts", 103, **WIDE,
           tokenizer="unigram-split", prefix="", head=False, pooling="mean", normalize=True, sentence_layout="old",
           max_tokens=40, positions=64, prompts=E5, position_ids=True),
    Family("labse", "LaBSE: BERT, [CLS], Dense with tanh, normalised", 104, **WIDE, prefix="", head=False,
           normalize=True, dense=(32, "safetensors"), sentence_layout="old", max_tokens=32, positions=64),
    Family("labse-bin", "LaBSE with 2_Dense/pytorch_model.bin; narrower after Dense", 105, prefix="", head=False,
           normalize=True, dense=(12, "bin"), sentence_layout="old", max_tokens=24),
    Family("minilm", "paraphrase-multilingual-MiniLM-L12-v2: XLM-R tokenizer that pads to a fixed length, mean", 106,
           **WIDE, tokenizer="unigram-replace", prefix="", head=False, pooling="mean", sentence_layout="old",
           max_tokens=24, positions=64, position_ids=True, tokenizer_class="PreTrainedTokenizerFast",
           tokenizer_pads=True),
    Family("bgem3", "bge-m3: XLM-R, [CLS], normalised, long texts, weights in pytorch_model.bin", 107, **WIDE,
           architecture="xlm-roberta", tokenizer="unigram-replace", prefix="", head=False, normalize=True,
           sentence_layout="old", max_tokens=128, positions=130, form="bin", extra_heads=True),
    Family("st6", "the folder layout that sentence-transformers 6 writes", 108, prefix="", head=False, pooling="mean",
           normalize=True, dense=(12, "safetensors"), sentence_layout="new", max_tokens=24, prompts=E5),
    Family("gelu-new", "activation gelu_new (tanh form)", 109, activation="gelu_new"),
    Family("relu", "activation relu", 110, activation="relu"),
    Family("sharded", "two safetensors shards with an index", 111, form="safetensors-sharded"),
    Family("bin-views", "pytorch_model.bin with shared, strided and offset storages", 112, form="bin-views",
           position_ids=True),
    Family("bin-sharded", "two pytorch_model shards with an index", 113, form="bin-sharded", position_ids=True),
    Family("bin-old-names", "LayerNorm weights named gamma and beta", 114, form="bin-old-names"),
    Family("f16", "float16 safetensors; reference is the model upcast to f32", 115, form="safetensors-f16"),
    Family("bf16", "bfloat16 safetensors; reference is the model upcast to f32", 116, form="safetensors-bf16"),
]


def config(family):
    """`config.json`, with the fields of the published files of that architecture."""
    bert = family.architecture == "bert"
    out = {"architectures": ["BertModel" if bert else "XLMRobertaModel"], "attention_probs_dropout_prob": 0.1,
           "hidden_act": family.activation, "hidden_dropout_prob": 0.1, "hidden_size": family.hidden,
           "initializer_range": 0.02, "intermediate_size": family.intermediate,
           "layer_norm_eps": family.layer_norm_eps, "max_position_embeddings": family.positions,
           "model_type": family.architecture, "num_attention_heads": family.heads, "num_hidden_layers": 2,
           "pad_token_id": 0 if bert else 1, "position_embedding_type": "absolute",
           "type_vocab_size": 2 if bert else 1, "vocab_size": family.vocab, "use_cache": True}
    if not bert:
        out |= {"bos_token_id": 0, "eos_token_id": 2}
    if family.head:
        out["architectures"] = ["BertForMaskedLM" if bert else "XLMRobertaForMaskedLM"]
    halves = {"safetensors-f16": "float16", "safetensors-bf16": "bfloat16"}
    out["torch_dtype"] = halves.get(family.form, "float32")
    return out


def tokenizer_config(family):
    """`tokenizer_config.json`; its `model_max_length` is the limit where no sentence-transformers file sets one."""
    if family.tokenizer == "wordpiece":
        named = {"cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]", "sep_token": "[SEP]",
                 "unk_token": "[UNK]", "do_lower_case": False, "tokenizer_class": "BertTokenizer"}
    else:
        named = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>",
                 "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>",
                 "tokenizer_class": "XLMRobertaTokenizer"}
    if family.tokenizer_class:
        named["tokenizer_class"] = family.tokenizer_class
    # An old layout has its own limit in sentence_bert_config.json, and that one must win.
    limit = family.positions if family.sentence_layout == "old" else family.max_tokens
    return named | {"model_max_length": limit}


def with_own_padding(tokenizer_json, family):
    """Truncation and fixed padding inside `tokenizer.json`, as some published MiniLM folders have."""
    pad_id = 0 if family.tokenizer == "wordpiece" else 1
    pad_token = "[PAD]" if family.tokenizer == "wordpiece" else "<pad>"
    return tokenizer_json | {
        "truncation": {"direction": "Right", "max_length": family.max_tokens, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": family.max_tokens}, "direction": "Right", "pad_to_multiple_of": None,
                    "pad_id": pad_id, "pad_type_id": 0, "pad_token": pad_token}}


OLD_TYPES = "sentence_transformers.models."
NEW_TYPES = {"Transformer": "sentence_transformers.base.modules.transformer.Transformer",
             "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
             "Dense": "sentence_transformers.base.modules.dense.Dense",
             "Normalize": "sentence_transformers.base.modules.normalize.Normalize"}


def module_kinds(family):
    """The chain of modules of a sentence-transformers folder."""
    return (["Transformer", "Pooling"] + ["Dense"] * bool(family.dense) + ["Normalize"] * family.normalize)


def modules(family):
    """`modules.json`: type names differ between the layouts."""
    new = family.sentence_layout == "new"
    return [{"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "",
             "type": NEW_TYPES[kind] if new else OLD_TYPES + kind} for i, kind in enumerate(module_kinds(family))]


def pooling_config(family):
    """`1_Pooling/config.json`: flags in the old layout, one word in the new one."""
    if family.sentence_layout == "new":
        return {"embedding_dimension": family.hidden, "pooling_mode": family.pooling, "include_prompt": True}
    return {"word_embedding_dimension": family.hidden, "pooling_mode_cls_token": family.pooling == "cls",
            "pooling_mode_mean_tokens": family.pooling == "mean", "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False}


def dense_config(family):
    """`2_Dense/config.json`."""
    out = {"in_features": family.hidden, "out_features": family.dense[0], "bias": True,
           "activation_function": "torch.nn.modules.activation.Tanh"}
    if family.sentence_layout == "new":
        out |= {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
    return out


def sentence_bert_config(family):
    """`sentence_bert_config.json`; the new layout holds no length (it is in `tokenizer_config.json`)."""
    if family.sentence_layout == "old":
        return {"max_seq_length": family.max_tokens, "do_lower_case": False}
    text = {"method": "forward", "method_output_name": "last_hidden_state"}
    return {"transformer_task": "feature-extraction", "modality_config": {"text": text},
            "module_output_name": "token_embeddings"}


def sentence_config(family):
    """`config_sentence_transformers.json`; the new layout fills in an empty `document` prompt."""
    if family.sentence_layout == "old":
        versions = {"sentence_transformers": "2.2.2", "transformers": "4.28.1", "pytorch": "1.13.0"}
        return {"__version__": versions} | ({"prompts": family.prompts} if family.prompts else {})
    versions = {"pytorch": "2.15.0", "sentence_transformers": "6.2.0", "transformers": "5.23.0"}
    return {"__version__": versions, "default_prompt_name": None, "model_type": "SentenceTransformer",
            "prompts": {"document": ""} | family.prompts, "similarity_fn_name": "cosine"}


def write_json(path, content):
    """Indented JSON, UTF-8, final newline."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def write_sentence_files(folder, family):
    """All JSON files of the sentence-transformers layout."""
    write_json(folder / "modules.json", modules(family))
    write_json(folder / "sentence_bert_config.json", sentence_bert_config(family))
    write_json(folder / "config_sentence_transformers.json", sentence_config(family))
    write_json(folder / "1_Pooling" / "config.json", pooling_config(family))
    if family.dense:
        write_json(folder / "2_Dense" / "config.json", dense_config(family))
    if family.normalize and family.sentence_layout == "new":
        names = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
        write_json(folder / f"{len(module_kinds(family)) - 1}_Normalize" / "config.json", names)


def write_dense(folder, family, linear):
    """The weights of `2_Dense`, with the names `linear.weight` and `linear.bias`."""
    named = {f"linear.{name}": value.detach().clone() for name, value in linear.state_dict().items()}
    if family.dense[1] == "bin":
        torch.save(named, folder / "2_Dense" / "pytorch_model.bin")
    else:
        save_file(named, folder / "2_Dense" / "model.safetensors")


def write_extra_heads(folder, family):
    """bge-m3's two further heads: a dense encoder must not trip over them."""
    for name, out in (("sparse_linear.pt", 1), ("colbert_linear.pt", family.hidden)):
        torch.save(torch.nn.Linear(family.hidden, out).state_dict(), folder / name)
