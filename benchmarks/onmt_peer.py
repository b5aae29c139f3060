"""OpenNMT-py at work beside us; runs in its own environment: python onmt_peer.py train|translate FOLDER

Reads a request a line, answers with a line of JSON. The trainer is OpenNMT-py's own, held between the rounds where it
asks for its next batch; the translator has our network's weights, so that both translate alike.
FOLDER holds vocabulary.txt, train.source and train.target in pieces, and weights.npz.
"""

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import onmt.train_single
import torch
from onmt.bin.train import _get_parser as training_options
from onmt.inference_engine import InferenceEnginePY
from onmt.opts import translate_opts
from onmt.trainer import Trainer
from onmt.utils.parse import ArgumentParser

SPECIAL = ["<unk>", "<blank>", "<s>", "</s>"]  # OpenNMT-py's first pieces; ours are pad, unk, bos, eos
UPDATES = 1 << 30  # more than will be asked for
WARMUP = 3  # updates


def options(folder: Path) -> Namespace:
    """The paper's network and training, as a user of OpenNMT-py writes them."""
    layers, hidden, batch_size = json.loads((folder / "shape.json").read_text())
    vocabulary = str(folder / "vocabulary.txt")
    text = {"path_src": str(folder / "train.source"), "path_tgt": str(folder / "train.target")}
    config = {
        "data": {"corpus_1": text},
        "src_vocab": vocabulary,
        "tgt_vocab": vocabulary,
        "share_vocab": True,
        "vocab_size_multiple": 1,
        "encoder_type": "rnn",
        "decoder_type": "rnn",
        "rnn_type": "LSTM",
        "layers": layers,
        "hidden_size": hidden,
        "word_vec_size": hidden,
        "global_attention": "general",
        "input_feed": 1,
        "dropout": [0.0],
        "attention_dropout": [0.0],
        "batch_type": "sents",
        "batch_size": batch_size,
        "bucket_size": 30000,
        "num_workers": 0,
        "optim": "adam",
        "learning_rate": 0.001,
        "max_grad_norm": 5,
        "train_steps": UPDATES,
        "valid_steps": UPDATES,
        "save_checkpoint_steps": UPDATES,
        "report_every": UPDATES,
        "save_model": str(folder / "unused"),
        "seed": 1,
    }
    path = folder / "train.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    found, _ = training_options().parse_known_args(["-config", str(path)])
    ArgumentParser.validate_train_opts(found)
    ArgumentParser.update_model_opts(found)
    ArgumentParser.validate_model_opts(found)
    return found  # type: ignore[no-any-return]


def train(folder: Path, answers: TextIO) -> None:
    """Trains; each request is a number of updates, each answer the target words and seconds they took."""

    def held(given: Iterator[Any]) -> Iterator[Any]:
        left, words, began, asked = WARMUP, 0, 0.0, False
        for item in given:
            while not left:
                if asked:
                    print(json.dumps([words, time.process_time() - began]), file=answers, flush=True)
                line = sys.stdin.readline()
                if not line:
                    sys.exit(0)
                left, words, asked, began = int(line), 0, True, time.process_time()
            words += int((item[0]["tgt"][:, 1:, 0] != 1).sum())
            left -= 1
            yield item

    def trained(self: Any, batches: Iterator[Any], *rest: Any, **named: Any) -> Any:
        return whole(self, held(batches), *rest, **named)

    whole, Trainer.train = Trainer.train, trained
    onmt.train_single.main(options(folder), -1)


def translated(weights: dict[str, np.ndarray[Any, Any]], layers: int) -> dict[str, dict[str, torch.Tensor]]:
    """Our weights under OpenNMT-py's names; its gates stand in the order input, forget, candidate, output."""

    def gates(name: str) -> torch.Tensor:
        enter, forget, show, candidate = np.split(weights[name], 4)
        return torch.tensor(np.concatenate([enter, forget, candidate, show]))

    def pieces(name: str) -> torch.Tensor:
        table = weights[name].copy()
        table[[0, 1]] = table[[1, 0]]  # ours: pad, unk; theirs: unk, pad
        return torch.tensor(table)

    model = {
        "encoder.embeddings.make_embedding.emb_luts.0.weight": pieces("source_embedding"),
        "decoder.embeddings.make_embedding.emb_luts.0.weight": pieces("target_embedding"),
        "decoder.attn.linear_in.weight": torch.tensor(weights["attention"]),
        "decoder.attn.linear_out.weight": torch.tensor(weights["combine"]),
    }
    for layer in range(layers):
        hidden = weights["attention"].shape[0]
        for mine, theirs in (("input", "weight_ih"), ("state", "weight_hh"), ("bias", "bias_ih")):
            model[f"encoder.rnn.{theirs}_l{layer}"] = gates(f"encoder_{mine}.{layer}")
        model[f"encoder.rnn.bias_hh_l{layer}"] = torch.zeros(4 * hidden)
        both, name = gates(f"decoder.{layer}"), f"decoder.rnn.layers.{layer}"
        inputs = both[:, :hidden] if layer else torch.cat([gates("decoder_word"), both[:, :hidden]], 1)
        model |= {f"{name}.weight_ih": inputs, f"{name}.weight_hh": both[:, hidden:].contiguous()}
        model |= {f"{name}.bias_ih": gates(f"decoder_bias.{layer}"), f"{name}.bias_hh": torch.zeros(4 * hidden)}
    bias = pieces("output_bias")
    bias[[1, 2]] = -1e9  # padding and a second beginning are never written
    return {"model": model, "generator": {"weight": pieces("output"), "bias": bias}}


def engine(model: Path, beam: int, nbest: int, batch: int) -> InferenceEnginePY:
    parser = ArgumentParser()
    translate_opts(parser)
    given = ["-model", model, "-src", "unused", "-beam_size", beam, "-n_best", nbest, "-batch_size", batch]
    given += ["-max_length", "100", "-length_penalty", "none", "-output", os.devnull]  # it writes no file of its own
    found = parser.parse_args([*map(str, given)])
    ArgumentParser.validate_translate_opts(found)
    ArgumentParser._get_all_transform_translate(found)
    ArgumentParser._validate_transforms_opts(found)
    ArgumentParser.validate_translate_opts_dynamic(found)
    return InferenceEnginePY(found)


def translate(folder: Path, answers: TextIO) -> None:
    """Each request is [beam, nbest, batch, sentences in pieces], each answer seconds and hypotheses."""
    settings, weights = options(folder), dict(np.load(folder / "weights.npz", allow_pickle=False))
    pieces = [*SPECIAL, *(folder / "vocabulary.txt").read_text(encoding="utf-8").split()[::2]]
    vocabulary = {"src": pieces, "tgt": pieces, "data_task": "seq2seq", "decoder_start_token": "<s>"}
    model = folder / "model.pt"
    torch.save({**translated(weights, settings.enc_layers), "vocab": vocabulary, "opt": settings, "optim": {}}, model)
    engines: dict[tuple[int, int, int], InferenceEnginePY] = {}
    for line in sys.stdin:
        *key, sentences = json.loads(line)
        ready = engines.setdefault(tuple(key), None) or engine(model, *key)
        engines[tuple(key)] = ready
        began = time.process_time()
        _, found = ready.infer_list(sentences)
        print(json.dumps([time.process_time() - began, found]), file=answers, flush=True)


if __name__ == "__main__":
    out, sys.stdout = sys.stdout, sys.stderr  # what OpenNMT-py says is no answer
    torch.serialization.add_safe_globals([Namespace, set])  # its options stand in the checkpoint that it loads
    torch.set_num_threads(1)
    {"train": train, "translate": translate}[sys.argv[1]](Path(sys.argv[2]), out)
