"""Random weights of the miniature models, and the checkpoint formats in which they are written.

Weights come from `numpy.random.RandomState`, whose stream NumPy keeps the same for good (NEP 19).
"""

import json
from collections import OrderedDict

import numpy as np
import torch
from safetensors.torch import save_file


def spread_of(name, shape):
    """Mean and standard deviation for one tensor.

    Linear layers are strong enough that attention is far from uniform and that the activation leaves its linear part;
    embeddings are small enough that LayerNorm's epsilon shows in the fourth digit.
    """
    if name.endswith("embeddings.weight"):
        return 0.0, 0.03
    if "LayerNorm" in name or "layer_norm" in name:
        return (1.0, 0.2) if name.endswith("weight") else (0.0, 0.1)
    if name.endswith("bias"):
        return 0.0, 0.1
    gain = 2.0 if ".query." in name or ".key." in name else 1.2
    return 0.0, gain / shape[-1] ** 0.5


def draw(rng, name, shape):
    """One f32 tensor of the given name and shape."""
    mean, deviation = spread_of(name, shape)
    return torch.from_numpy((mean + deviation * rng.standard_normal(shape)).astype(np.float32))


def randomise(module, seed):
    """Fills every parameter of a module, in order of name; returns the generator for what follows."""
    rng = np.random.RandomState(seed)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            parameter.copy_(draw(rng, name, tuple(parameter.shape)))
    return rng


def round_to(module, dtype):
    """Rounds every parameter to a half-precision type and back, as a reader that upcasts sees it."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.to(dtype).float())


def bert_head(rng, vocab, hidden):
    """The pre-training heads in a BERT checkpoint, which an encoder must pass over."""
    shapes = {"cls.predictions.bias": (vocab,), "cls.predictions.transform.dense.weight": (hidden, hidden),
              "cls.predictions.transform.dense.bias": (hidden,),
              "cls.predictions.transform.LayerNorm.weight": (hidden,),
              "cls.predictions.transform.LayerNorm.bias": (hidden,),
              "cls.seq_relationship.weight": (2, hidden), "cls.seq_relationship.bias": (2,)}
    return {name: draw(rng, name, shape) for name, shape in shapes.items()}


def roberta_head(rng, vocab, hidden):
    """The language-model head in an XLM-R checkpoint."""
    shapes = {"lm_head.bias": (vocab,), "lm_head.dense.weight": (hidden, hidden), "lm_head.dense.bias": (hidden,),
              "lm_head.layer_norm.weight": (hidden,), "lm_head.layer_norm.bias": (hidden,)}
    return {name: draw(rng, name, shape) for name, shape in shapes.items()}


def tensors_of(module, prefix, position_ids):
    """The state of a module under published names; with the int64 buffer that older checkpoints carry."""
    named = OrderedDict((prefix + name, value.detach().clone()) for name, value in module.state_dict().items())
    if position_ids:
        count = module.config.max_position_embeddings
        named[prefix + "embeddings.position_ids"] = torch.arange(count).expand((1, -1))
    return named


def old_names(named):
    """LayerNorm's weight and bias as `gamma` and `beta`, as in checkpoints converted from TensorFlow."""
    swap = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = OrderedDict()
    for name, value in named.items():
        for new, old in swap.items():
            name = name.replace(new, old)
        renamed[name] = value
    return renamed


def entangle(named, prefix):
    """The same values in storages as training leaves them: shared, with offsets, strided, tied, as Parameter."""
    out = OrderedDict(named)
    for layer in range(2):
        at = f"{prefix}encoder.layer.{layer}."
        projections = [f"{at}attention.self.{which}.weight" for which in ("query", "key", "value")]
        fused = torch.cat([named[p] for p in projections])  # one storage, three views with offsets
        out.update(zip(projections, fused.chunk(3)))
        transposed = f"{at}intermediate.dense.weight"
        out[transposed] = named[transposed].t().contiguous().t()  # strides (1, rows)
        padded = f"{at}output.dense.bias"
        out[padded] = torch.stack([named[padded], named[padded] + 9]).t().reshape(-1)[::2]  # every second value
    out[f"{prefix}embeddings.token_type_embeddings.weight"] = torch.nn.Parameter(
        named[f"{prefix}embeddings.token_type_embeddings.weight"])
    out["cls.predictions.decoder.weight"] = out[f"{prefix}embeddings.word_embeddings.weight"]
    out._metadata = OrderedDict({"": {"version": 1}})  # state_dict() leaves this attribute in the pickle
    return out


def half_of(named):
    """Splits the tensors in two shards of about equal size, in their order."""
    total, so_far, shards = sum(t.nbytes for t in named.values()), 0, ({}, {})
    for name, tensor in named.items():
        shards[so_far * 2 >= total][name] = tensor
        so_far += tensor.nbytes
    return shards


def write_index(folder, index_name, shards):
    """The index file that says which shard holds which tensor."""
    weight_map = {name: file for file, tensors in shards.items() for name in tensors}
    total = sum(t.nbytes for tensors in shards.values() for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / index_name).write_text(json.dumps(index, indent=2) + "\n")


def write_sharded(folder, named, stem, end, save):
    """Two shards with the published file names, and their index."""
    shards = {f"{stem}-0000{i + 1}-of-00002.{end}": tensors for i, tensors in enumerate(half_of(named))}
    for file, tensors in shards.items():
        save(tensors, folder / file)
    write_index(folder, f"{stem}.{end}.index.json", shards)


def save_safetensors(named, path):
    """One `.safetensors` file with the metadata that transformers writes."""
    save_file({name: value.contiguous() for name, value in named.items()}, path, metadata={"format": "pt"})


def write_checkpoint(folder, named, form, prefix):
    """Writes the tensors in one form: see the table of `golden_families.py`."""
    halves = {"safetensors-f16": torch.float16, "safetensors-bf16": torch.bfloat16}
    if form in halves:
        named = {n: v.to(halves[form]) if v.is_floating_point() else v for n, v in named.items()}
    if form in ("safetensors", *halves):
        save_safetensors(named, folder / "model.safetensors")
    elif form == "safetensors-sharded":
        write_sharded(folder, named, "model", "safetensors", save_safetensors)
    elif form == "bin":
        torch.save(named, folder / "pytorch_model.bin")
    elif form == "bin-views":
        torch.save(entangle(named, prefix), folder / "pytorch_model.bin")
    elif form == "bin-old-names":
        torch.save(old_names(named), folder / "pytorch_model.bin")
    elif form == "bin-sharded":
        write_sharded(folder, named, "pytorch_model", "bin", torch.save)
    else:
        raise ValueError(f"unknown checkpoint form {form!r}")
