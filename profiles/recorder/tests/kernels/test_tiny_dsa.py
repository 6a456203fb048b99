"""Trains the model of tiny_dsa at its smallest setting, records it and runs it with our kernels."""

import copy
import json

import misa_trace
import numpy as np
import pytest
from record.wheels import needs

torch = needs("torch")
needs("tokenizers")

from tiny_dsa import data, evaluate, model, selecting, tasks, texts, traces, train  # noqa: E402
from tiny_dsa.texts import END  # noqa: E402

SEED = 7


def some_text(draw, documents):
    words = ["".join(chr(97 + letter) for letter in draw.integers(0, 26, size)) for size in draw.integers(4, 9, 300)]
    return END.join(" ".join(words[i] for i in draw.zipf(1.3, 400) % 300) for _ in range(documents)) + END


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("texts"), np.random.default_rng(SEED)
    (folder / "train.txt").write_text(some_text(draw, 60))
    (folder / "held-out.txt").write_text(some_text(draw, 20))
    return data.Corpus(folder, folder / "corpus", 600)


def small():
    size = copy.deepcopy(train.SIZES["small"])
    size.config.vocabulary = 600
    for stage, steps in zip(size.stages, (12, 3, 8, 3)):
        stage.steps = steps
    return size


def trained(corpus, folder, minutes=None):
    training = train.Training(folder, corpus, small(), SEED, torch.device("cpu"))
    if training.checkpoint.exists():
        training.load()
    return training, training.run(minutes)


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    training, ended = trained(corpus, tmp_path_factory.mktemp("whole"))
    assert ended
    return training


def losses(training, stage, name):
    return [one[name] for one in training.log if one["stage"] == stage and name in one]


def test_the_loss_of_the_model_and_the_divergence_of_every_indexer_fall(whole):
    assert losses(whole, "base", "loss")[-1] < 0.95 * losses(whole, "base", "loss")[0]
    for name in ("1-8", "1-4"):
        assert np.mean(losses(whole, "index", name)[-3:]) < np.mean(losses(whole, "index", name)[:3])
    assert losses(whole, "sparse", "divergence")[-1] < 5


def test_a_training_that_stops_and_goes_on_ends_with_the_same_weights(corpus, whole, tmp_path):
    turns = 0
    while True:
        training, ended = trained(corpus, tmp_path, minutes=1e-9 if turns % 3 == 0 else None)
        turns += 1
        if ended:
            break
    assert turns > 1
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(training.model.state_dict()[name], weight, rtol=1e-4, atol=1e-5)


def test_every_task_can_be_answered_from_the_text_alone(corpus):
    draw = np.random.default_rng(SEED)
    for name, task in tasks.TASKS.items():
        one = task(draw, corpus.words, corpus.encode)
        filler = [1] * 4000
        sequence, [asked] = tasks.fill(draw, filler, 4000, [one], last=1)
        assert len(sequence) == 4000
        (start, size), (question, asking), (answer, answering) = asked.fact, asked.question, asked.answer
        assert sequence[start : start + size] == one.facts[one.key]
        assert sequence[question : question + asking] == one.question and answer == question + asking
        text = corpus.tokenizer.decode(sequence[:question])
        for part in corpus.tokenizer.decode(sequence[answer : answer + answering]).strip(" .\n").split(", "):
            assert part.strip('"') in text, name


def test_local_attention_is_attention_with_a_band_for_a_mask():
    torch.manual_seed(SEED)
    for tokens in (1, 15, 16, 17, 50):
        q, k, v = (torch.randn(2, 3, tokens, 8) for _ in range(3))
        i, j = torch.arange(tokens)[:, None], torch.arange(tokens)[None]
        wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=(j <= i) & (j > i - 16))
        torch.testing.assert_close(model.attend_locally(q, k, v, 16), wanted)


def test_attention_to_all_that_a_row_sees_is_dense_attention(whole, corpus):
    sequence, _ = corpus.sequence(np.random.default_rng(SEED), "held-out", 400, ["needle"])
    tokens = torch.tensor(sequence)[None]
    config = copy.deepcopy(whole.size.config)
    config.top_k = 400
    for name in ("dsa", "misa"):
        attend = selecting.Selecting(whole.indexers, config, 8, name, **({"active_heads": 2} if name == "misa" else {}))
        torch.testing.assert_close(whole.model(tokens, attend), whole.model(tokens), rtol=1e-3, atol=1e-4)


def test_recorded_traces_select_what_the_model_selected(whole, corpus, tmp_path):
    tokens, needles = traces.tokens_with_needles(corpus, 512, SEED)
    rows = traces.rows_of(512, 24, needles, consecutive=False)
    assert len(rows) == 24 and len(set(rows)) == 24
    [(layer, trace)] = traces.record(whole.model, whole.indexers, tokens, needles, rows, [1], 8, {"provenance": "small-trained"})
    path = tmp_path / "trace.safetensors"
    misa_trace.save_trace(path, trace)
    attend = selecting.Selecting(whole.indexers, whole.size.config, 8, "dsa")
    attend.taken = []
    with torch.no_grad():
        whole.model(tokens[None], attend)
    [(_, ids)] = attend.taken
    assert (np.sort(ids[rows].numpy(), axis=1) == np.sort(trace.select(64), axis=1)).mean() > 0.999
    mass = np.asarray(trace.attention_mass).sum(1)
    np.testing.assert_allclose(mass, 1, atol=5e-3)
    # The answer's tokens are digits.
    start, size = needles[0][4:]
    assert corpus.tokenizer.decode(tokens[start : start + size].tolist()).strip(" .").isdigit()


def test_the_table_compares_every_indexer_with_dsa(whole, corpus):
    rows = evaluate.evaluate(whole.model, whole.indexers, corpus, [768], 2, 8, SEED, torch.device("cpu"), ["dsa", "misa, h 4", "dsa, reused"],
                             ["needle", "copying"], say=lambda *_, **__: None)
    assert [row["indexer"] for row in rows] == ["dense", "dsa", "misa, h 4", "dsa, reused"]
    assert rows[1]["loss over dsa"] == [0, 0, 0] and json.dumps(rows)
    assert evaluate.table(rows).count("\n") == len(rows) + 1


def test_pages_and_manuals_become_plain_text(tmp_path):
    page, manual, short = tmp_path / "a.html", tmp_path / "b.1", tmp_path / "c.txt"
    body = "<p>Words &amp; more words of a page.</p>" * 40
    page.write_text(f"<html><head><title>no</title></head><body><nav>no</nav><h1>Head</h1>{body}<script>no</script></body></html>")
    manual.write_text(".TH B 1\n.SH NAME\nb \\- \\fBdoes\\fR things\n" + "It does them all day long.\n" * 40)
    short.write_text("too short")
    text = texts.read(page)
    assert text.startswith("Head\n") and "Words & more words" in text and "no" not in text.split()
    assert texts.read(manual).startswith("NAME\nb - does things\n")
    assert texts.read(short) is None and texts.read(tmp_path / "d.png") is None
