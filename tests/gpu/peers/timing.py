"""Times on the GPU as tests/gpu/stages_bench.cpp takes them: the device's own clock around a few calls in a row, which wait for no
host, medians of many samples. Those who are compared take turns, and the order turns round after each round (A B, B A)."""
import gc
import statistics
import time

import torch

CALLS = 4
BUSY_CYCLES = 200_000  # of the device, while the host queues what is timed


def queued(work):
    """What queues CALLS calls of `work`: a CUDA graph, so that no launch is waited for, where the work can be captured."""
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            for _ in range(CALLS):
                work()
    except RuntimeError:
        torch.cuda.synchronize()
        return lambda: [work() for _ in range(CALLS)]
    return graph.replay


def interleaved(works, seconds=0.15, least=8):
    """Microseconds of one call of each of `works`, a dict of functions: medians over at least `least` rounds."""
    queues = {name: queued(work) for name, work in works.items()}
    samples = {name: [] for name in works}
    order = list(works)
    for queue in queues.values():
        queue()
    torch.cuda.synchronize()
    end = time.monotonic() + seconds * len(order)
    while len(samples[order[0]]) < least or time.monotonic() < end:
        for name in order:
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda._sleep(BUSY_CYCLES)
            start.record()
            queues[name]()
            stop.record()
            stop.synchronize()
            samples[name].append(start.elapsed_time(stop) * 1e3 / CALLS)
        order.reverse()
    queues.clear()
    gc.collect()
    torch.cuda.empty_cache()
    return {name: statistics.median(taken) for name, taken in samples.items()}
