"""The peers: encodes all texts at each line of standard input and answers with
the seconds that it took. dump FILE writes the embeddings, float32.

    peers.py torch MODEL TEXTS
    peers.py onnx  MODEL TEXTS BATCH SESSIONS THREADS
"""

import concurrent.futures
import json
import os
import sys
import time

import numpy as np

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


def sentence_transformers(model: str):
    import sentence_transformers as st

    m = st.SentenceTransformer(model, device="cpu")
    return lambda texts: m.encode(texts, batch_size=32, show_progress_bar=False)


def onnx(model: str, batch: int, sessions: int, threads: int):
    import onnxruntime as ort
    import tokenizers

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    runs = [ort.InferenceSession(f"{model}/model.onnx", options, providers=["CPUExecutionProvider"]) for _ in range(sessions)]
    tokens = tokenizers.Tokenizer.from_file(f"{model}/tokenizer.json")
    tokens.no_padding()
    length = json.load(open(f"{model}/sentence_bert_config.json"))["max_seq_length"]
    tokens.enable_truncation(length)

    def encode(texts: list[str]) -> np.ndarray:
        ids = [e.ids for e in tokens.encode_batch(texts)]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        parts = [order[i : i + batch] for i in range(0, len(order), batch)]
        out = np.empty((len(texts), 384), np.float32)

        def run(session, part: list[int]) -> None:
            width = len(ids[part[0]])
            x, mask = np.zeros((2, len(part), width), np.int64)
            for row, i in enumerate(part):
                x[row, : len(ids[i])], mask[row, : len(ids[i])] = ids[i], 1
            out[part] = session.run(None, {"input_ids": x, "attention_mask": mask})[0]

        todo = iter(parts)

        def work(session) -> None:
            for part in todo:  # next() of a list's iterator holds the interpreter's lock
                run(session, part)

        if sessions == 1:
            work(runs[0])
        else:
            with concurrent.futures.ThreadPoolExecutor(sessions) as pool:
                list(pool.map(work, runs))
        return out

    return encode


def main() -> None:
    kind, model, path, *layout = sys.argv[1:]
    texts = [json.loads(line) for line in open(path, encoding="utf-8")]
    encode = sentence_transformers(model) if kind == "torch" else onnx(model, *map(int, layout))
    encode(texts[:64])
    for line in sys.stdin:
        start = time.perf_counter()
        out = encode(texts)
        seconds = time.perf_counter() - start
        if line.startswith("dump "):
            out.astype("<f4").tofile(line[5:].strip())
        print(seconds, flush=True)


main()
