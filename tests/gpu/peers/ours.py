"""What our own programs measure, for the tables of peers.py and paper.py."""
import ctypes
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]


def run(command):
    environment = dict(os.environ, OMP_WAIT_POLICY="passive")
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with status {done.returncode}:\n{done.stderr or done.stdout}")
    return done.stdout


def stages(folder, names):
    """Microseconds of the benchmarks `names` of misa-stages-bench."""
    pattern = "^(" + "|".join(names) + ")/manual_time$"
    report = json.loads(run([folder / "misa-stages-bench", f"--benchmark_filter={pattern}", "--benchmark_format=json",
                             "--benchmark_min_time=0"]))
    return {one["name"].removesuffix("/manual_time"): one["real_time"] for one in report["benchmarks"]}


def end_to_end(folder, workload, rows, indexers=("dsa", "misa"), model="deepseek-v3.2", budget=1):
    """Microseconds of whole indexers, by name: medians of misa-prof profile, on inputs that are reused as the peers' are."""
    report = json.loads(run([folder / "misa-prof", "profile", "--backend", "cuda", "--model", model, "--workload", workload,
                             "--rows", rows, "--indexer", ",".join(indexers), "--budget", budget, "--warm",
                             "--format", "json"]))
    return {case["indexer"]: case["end_to_end_ns"]["median"] * 1e-3 for case in report["cases"]}


def exported(folder):
    """The table of our exported CUDA kernels, and misa beside it on the path; None where `folder` holds no libmisa_kernels.so."""
    library = folder / "libmisa_kernels.so"
    if not library.is_file():
        return None
    if str(ROOT / "profiles" / "recorder") not in sys.path:
        sys.path.insert(0, str(ROOT / "profiles" / "recorder"))
    os.environ.setdefault("MISA_KERNELS_LIBRARY", str(library))
    from misa import _abi

    kernels = ctypes.CDLL(str(library))
    kernels.misa_kernels.restype = ctypes.POINTER(_abi.misa_kernel_table)
    return kernels.misa_kernels(_abi.MISA_KERNEL_VERSION, _abi.MISA_CUDA, 0).contents


def selector(folder, scores, k):
    """A function that selects the k best of each row of `scores` [M, N] by our exported kernel, into the same ids each time,
    which it returns; None as `exported`."""
    table = exported(folder)
    if table is None:
        return None
    import torch
    from misa import _abi

    rows, columns = scores.shape
    tokens = torch.empty(rows, k, dtype=torch.int32, device="cuda")
    zeros = torch.zeros(rows, dtype=torch.int32, device="cuda")
    ends = torch.full((rows,), columns, dtype=torch.int32, device="cuda")
    task = _abi.misa_select_task(
        size=ctypes.sizeof(_abi.misa_select_task), rows=rows, columns=columns, logits=scores.data_ptr(),
        logits_stride=4 * scores.stride(0), k=k, tokens=tokens.data_ptr(), tokens_stride=4 * k,
        windows=_abi.misa_windows(sequence=zeros.data_ptr(), begin=zeros.data_ptr(), end=ends.data_ptr()))
    held = (scores, zeros, ends)  # the task has their addresses

    def select():
        status = table.select(table.self, ctypes.byref(task), torch.cuda.current_stream().cuda_stream)
        if status != _abi.MISA_OK:
            raise RuntimeError(f"select returned {status}: {table.error(table.self)} for {held[0].shape}")
        return tokens

    return select


def indexer(folder, name, q, weights, keys, scales):
    """A function that runs a whole indexer of ours on contiguous FP8 keys that all rows see; None as `exported`."""
    if exported(folder) is None:
        return None
    import misa
    import torch

    rows, heads, dim = q.shape
    ours = misa.Indexer(name, heads, dim)
    windows = misa.Windows([0] * rows, [len(keys)] * rows)
    tokens = torch.empty(rows, ours.top_k, dtype=torch.int32, device="cuda")
    return lambda: ours(q, weights, (keys, scales), windows, out=tokens)


def scorer(folder, q, weights, keys, scales, begin, end):
    """A function that scores contiguous FP8 keys by our exported kernel on torch's current stream, into the same logits each
    time, which it returns; None where `folder` holds no libmisa_kernels.so."""
    table = exported(folder)
    if table is None:
        return None
    import torch
    from misa import _abi

    logits = torch.empty(len(q), len(keys), device="cuda")
    sequence = torch.zeros_like(begin)
    task = _abi.misa_score_task(
        size=ctypes.sizeof(_abi.misa_score_task), columns=len(keys), logits=logits.data_ptr(), logits_stride=4 * len(keys),
        queries=_abi.misa_queries(rows=len(q), heads=q.shape[1], dim=q.shape[2], dtype=_abi.MISA_E4M3, values=q.data_ptr(),
                                  weights=weights.data_ptr()),
        keys=_abi.misa_keys(pages=1, page_size=len(keys), dim=q.shape[2], dtype=_abi.MISA_E4M3, values=keys.data_ptr(),
                            values_page_stride=keys.numel(), values_token_stride=q.shape[2], scales=scales.data_ptr(),
                            scales_page_stride=4 * len(keys), scales_token_stride=4),
        windows=_abi.misa_windows(sequence=sequence.data_ptr(), begin=begin.data_ptr(), end=end.data_ptr()))
    held = (q, weights, keys, scales, begin, end, sequence)  # the task has their addresses

    def score():
        status = table.score(table.self, ctypes.byref(task), torch.cuda.current_stream().cuda_stream)
        if status != _abi.MISA_OK:
            raise RuntimeError(f"{library}: score returned {status}: {table.error(table.self)} for {held[0].shape}")
        return logits

    return score
