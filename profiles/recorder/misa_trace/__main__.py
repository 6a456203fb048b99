"""python -m misa_trace: tools on traces. Exit status: 0, 2 usage, 3 refused or unreadable."""

from __future__ import annotations

import argparse
import os
import sys

from .anonymise import anonymise
from .errors import TraceError
from .flashinfer import export_workload, from_physical, import_workload
from .forms import contiguous, paged
from .safetensors_file import read_file
from .slicing import numbers_of, slice_trace
from .tensors import Tensor
from .trace import Trace, read_trace, save_trace


def _show(options: argparse.Namespace) -> None:
    metadata, tensors = read_file(options.file)
    width = max((len(name) for name in (*metadata, *tensors)), default=0)
    for name, value in sorted(metadata.items()):
        print(f"{name:{width}}  {value}")
    for name, tensor in sorted(tensors.items()):
        print(f"{name:{width}}  {tensor.dtype} {list(tensor.shape)} {tensor.nbytes} bytes")
    if metadata.get("kind") != "selection" and "q" in tensors:
        _describe(read_trace(options.file))


def _describe(trace: Trace) -> None:
    ks, ke = trace.windows()
    form = f"pages of {trace.page_size}" if trace.paged else "contiguous keys"
    seen = f"rows see {(ke - ks).min()} to {(ke - ks).max()} keys"
    if trace.compress_ratio > 1:
        tokens = trace.positions() + 1
        seen += f", entries of {trace.compress_ratio} tokens, of {tokens.min()} to {tokens.max()} tokens"
    print(f"{trace.rows} rows, {trace.heads} heads of {trace.head_dim}, {form}, k = {trace.top_k}; {seen}")


def _slice(options: argparse.Namespace) -> Trace:
    trace = read_trace(options.file)
    tokens = None
    if options.tokens is not None:
        first, _, end = options.tokens.partition(":")
        try:
            tokens = (int(first or 0), int(end or 2**31 - 1))
        except ValueError:
            raise TraceError(
                "MP-E230", f"'{options.tokens}' is no range of tokens", "slice", "first:end, such as 0:4096"
            )
    if tokens is not None:
        trace = slice_trace(trace, tokens=tokens)  # rows are counted in what is left
    return slice_trace(
        trace,
        rows=None if options.rows is None else numbers_of(options.rows, trace.rows, "row"),
        heads=None if options.heads is None else numbers_of(options.heads, trace.heads, "head"),
    )


def _convert(options: argparse.Namespace) -> Trace:
    trace = read_trace(options.file)
    if options.keys == "contiguous":
        return contiguous(trace)
    return paged(trace, options.page_size) if options.keys == "paged" else trace


def _import(options: argparse.Namespace) -> Trace:
    trace = import_workload(options.file, options.uuid, root=options.root, seed=options.seed)
    if options.topk is not None:
        _, tensors = read_file(options.topk)
        if "topk_indices" not in tensors:
            raise TraceError("MP-E205", "there is no tensor 'topk_indices'", options.topk, "the output of a solution")
        trace.topk = Tensor("I32", from_physical(tensors["topk_indices"], trace))
    return trace


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m misa_trace", description="Tools on traces of misa-prof (docs/python.md)."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, what: str, output: str | None = "OUT") -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=what, description=what)
        added.add_argument("file", metavar="FILE", help="a trace" if name != "import" else "a .jsonl file of workloads")
        if output is not None:
            added.add_argument("output", metavar=output, help="where to write")
        return added

    command("show", "What is in a trace or a selection", None).set_defaults(run=_show)
    slicing = command("slice", "Some rows, tokens or heads of a trace")
    slicing.add_argument("--rows", metavar="LIST", help="query rows: 0:64,70,-1 (counted after --tokens)")
    slicing.add_argument("--tokens", metavar="FIRST:END", help="positions of every sequence, and the rows at them")
    slicing.add_argument("--heads", metavar="LIST", help="heads: 0:16")
    slicing.set_defaults(make=_slice)
    converting = command("convert", "The same trace in another form, dtypes as the format has them")
    converting.add_argument("--keys", choices=["contiguous", "paged"], help="the form of the keys")
    converting.add_argument("--page-size", type=int, default=64, metavar="N", help="keys of a page (64)")
    converting.set_defaults(make=_convert)
    mixing = command("anonymise", "Mixes the numbers of a trace; ranks and ties of scores stay")
    mixing.add_argument("--seed", type=int, metavar="N", help="draw so that it can be repeated: for tests only")
    mixing.set_defaults(make=lambda options: anonymise(read_trace(options.file), options.seed))
    importing = command("import", "A trace of a FlashInfer-Bench workload (dsa_topk_indexer_*)")
    importing.add_argument("--uuid", help="the workload, where the file has several; its beginning is enough")
    importing.add_argument("--root", metavar="FOLDER", help="the folder that the data set is in")
    importing.add_argument("--seed", type=int, metavar="N", help="draw the inputs that are 'random'")
    importing.add_argument("--topk", metavar="FILE", help="a safetensors file with an output, topk_indices")
    importing.set_defaults(make=_import)
    command("export", "A FlashInfer-Bench workload of a trace", "FOLDER").set_defaults(run=_export)
    return parser


def _export(options: argparse.Namespace) -> None:
    print(export_workload(read_trace(options.file), options.output))


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        output = getattr(options, "output", None)
        if output is not None and os.path.exists(output) and os.path.samefile(options.file, output):
            parser.error(f"{output} would be overwritten, which is the input; name another file")
        if hasattr(options, "make"):
            trace = options.make(options)
            save_trace(options.output, trace)
            print(f"{options.output}: ", end="")
            _describe(trace)
        else:
            options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who reads the output has seen enough. What is left must not fail when the program ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (TraceError, OSError) as error:
        print(f"misa_trace: error: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
