#!/usr/bin/env python3
"""One peer, loaded once, that writes the same questions each time it is asked.

usage: worker.py ENGINE WORK_DIR PROMPTS THREADS SAMPLES TOKENS
ENGINE: transformers, ct2-f32, ct2-int8; PROMPTS: a JSON list of lists of token ids

Prints `ready`, then for each line on standard input writes SAMPLES questions of TOKENS tokens for each prompt (top-10
sampling) and prints the seconds.
"""
import json
import os
import sys
import time

THREADS = sys.argv[4]
os.environ["OMP_NUM_THREADS"] = THREADS if sys.argv[1] == "transformers" else "1"

TOP = 10


def transformers_engine(work, prompts, samples, tokens):
    """PyTorch in f32; the encoder runs once a prompt."""
    import torch
    from transformers import GenerationConfig, MT5ForConditionalGeneration

    torch.set_num_threads(int(THREADS))
    model = MT5ForConditionalGeneration.from_pretrained(f"{work}/mt5").eval()
    width = max(map(len, prompts))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in prompts])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in prompts])
    config = GenerationConfig(do_sample=True, top_k=TOP, max_new_tokens=tokens, min_new_tokens=tokens,
                              num_return_sequences=samples, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)

    def write():
        with torch.inference_mode():
            out = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
        assert tuple(out.shape) == (len(prompts) * samples, tokens + 1), out.shape

    return write


def ct2_engine(folder, kind, prompts, samples, tokens):
    """CTranslate2 as it is fastest here: a batch for each thread, and its AVX-512 code, which on other machines than
    Intel's it does not choose itself."""
    if " avx512f" in open("/proc/cpuinfo").read():
        os.environ["CT2_FORCE_CPU_ISA"] = "AVX512"
    import ctranslate2

    threads = int(THREADS)
    model = ctranslate2.Translator(folder, compute_type=kind, inter_threads=threads, intra_threads=1)
    names = json.load(open(f"{folder}/shared_vocabulary.json", encoding="utf-8"))
    rows = [[names[i] for i in row] for row in prompts]

    def write():
        out = model.translate_batch(rows, max_batch_size=-(-len(rows) // threads), beam_size=1, sampling_topk=TOP,
                                    num_hypotheses=samples, return_scores=True, max_decoding_length=tokens,
                                    min_decoding_length=tokens, max_input_length=0)
        assert all(len(h) >= tokens - 1 for row in out for h in row.hypotheses), [len(h) for h in out[0].hypotheses]

    return write


def main():
    engine, work, path, _, samples, tokens = sys.argv[1:7]
    prompts, samples, tokens = json.load(open(path)), int(samples), int(tokens)
    if engine == "transformers":
        write = transformers_engine(work, prompts, samples, tokens)
    else:
        kind = "int8" if engine == "ct2-int8" else "float32"
        write = ct2_engine(f"{work}/{engine}", kind, prompts, samples, tokens)
    print("ready", flush=True)
    for _ in sys.stdin:
        begun = time.perf_counter()
        write()
        print(f"{time.perf_counter() - begun:.6f}", flush=True)


if __name__ == "__main__":
    main()
