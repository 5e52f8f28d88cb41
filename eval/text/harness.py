"""lm-evaluation-harness on an exported model: local tasks offline, its own tasks where there is a network."""

import logging
from collections.abc import Sequence
from typing import Any

from strata.curation.errors import ConfigError, MissingExtraError
from strata.eval.text.model import LanguageModel
from strata.eval.text.tasks import Doc, read_task, split_shots, task_of


def local_config(name: str, docs: Sequence[Doc], shots: int = 0, seed: int = 0) -> dict[str, Any]:
    """A task of ours as the harness's task configuration, on the items given.

    Args:
        name: of the task, e.g. "piqa"; the harness knows it as ``local_piqa``.
        docs: the items to score.
        shots: examples before each item, drawn from items that are not scored (``split_shots``).
        seed: of the draw.
    """
    import datasets

    task = task_of(name)
    examples, scored = split_shots(list(docs), shots)
    splits = {"test": datasets.Dataset.from_list([dict(doc) for doc in scored])}
    if examples:
        splits["examples"] = datasets.Dataset.from_list([dict(doc) for doc in examples])
    config: dict[str, Any] = {
        "task": f"local_{name}",
        "custom_dataset": lambda **_: splits,
        "test_split": "test",
        "target_delimiter": task.delimiter,
        "num_fewshot": shots,
        "description": task.description,
        "fewshot_delimiter": task.separator,
        "metadata": {"version": 1.0},
    }
    if task.kind == "choice":
        config |= _choice(task)
    elif task.kind == "cloze":
        config |= {
            "output_type": "loglikelihood",
            "doc_to_text": lambda doc: task.contexts(doc)[0],
            "doc_to_target": lambda doc: task.delimiter + task.endings(doc)[0],  # the harness adds none here
            "metric_list": [_metric("acc"), {**_metric("perplexity", "perplexity"), "higher_is_better": False}],
        }
    else:
        exact = {**_metric("exact_match"), "ignore_case": True, "ignore_punctuation": True}
        config |= {
            "output_type": "generate_until",
            "doc_to_text": lambda doc: task.contexts(doc)[0],
            "doc_to_target": task.answers,
            "generation_kwargs": {
                "until": ["\n", ".", ","],
                "do_sample": False,
                "temperature": 0.0,
                "max_gen_toks": 32,
            },
            "filter_list": [
                {"name": "none", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}
            ],
            "metric_list": [exact | ({"regexes_to_ignore": [task.ignored]} if task.ignored else {})],
        }
    if examples:
        config |= {"fewshot_split": "examples", "fewshot_config": {"sampler": "default", "split": "examples"}}
    return config


def _choice(task: Any) -> dict[str, Any]:
    several = task.contexts.__name__ == "_gap"  # one ending after several contexts
    shared: dict[str, Any] = {
        "output_type": "multiple_choice",
        "metric_list": [_metric("acc"), *([_metric("acc_norm")] if not several else [])],
    }
    if several:  # the harness's convention: the text is the gold number, the choices are contexts
        return shared | {
            "doc_to_text": task.gold,
            "doc_to_choice": task.contexts,
            "doc_to_target": lambda doc: task.endings(doc)[0],
        }
    return shared | {
        "doc_to_text": lambda doc: task.contexts(doc)[0],
        "doc_to_choice": task.endings,
        "doc_to_target": task.gold,
    }


def _metric(name: str, aggregation: str = "mean") -> dict[str, Any]:
    return {"metric": name, "aggregation": aggregation, "higher_is_better": True}


def run_harness(
    model: LanguageModel,
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    shots: int = 0,
    seed: int = 0,
    batch_size: int = 16,
) -> dict[str, dict[str, Any]]:
    """Results of the harness by task: metric -> value, and ``samples``: its record of each item.

    Args:
        model: see ``load_language_model``.
        tasks: ``local:<task>`` for a local file, or a name that the harness knows (needs the network).
        limit: items of each local task, drawn once for all models; the harness's own limit for its tasks.
        shots: examples before each item.
        seed: of the draws.
        batch_size: sequences of a pass.

    Raises:
        MissingExtraError: the harness is not installed. ConfigError: an unknown task, or no network for it.
    """
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
    except ImportError as error:
        raise MissingExtraError("lm-eval", "text") from error
    given: list[Any] = []
    for name in tasks:
        local = name.removeprefix("local:")
        if local == name:
            given.append(name)
            continue
        extra = 50 if shots else 0  # examples are taken off the items
        docs = read_task(local, None if limit is None else limit + extra, seed)
        given.append(local_config(local, docs, shots, seed))
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    wrapped = HFLM(
        pretrained=model.module,
        tokenizer=model.tokenizer,
        batch_size=batch_size,
        max_length=model.max_length,
        add_bos_token=model.tokenizer.bos_token_id is not None,
        device=str(model.device),
    )
    try:
        found: Any = simple_evaluate(
            wrapped,
            tasks=given,
            num_fewshot=shots,
            limit=limit,
            bootstrap_iters=0,
            log_samples=True,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
        )
    except (KeyError, ConnectionError, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ConfigError(
            "text.tasks.names", f"the harness refused ({reason})", "check the names, and the network"
        ) from error
    results = {}
    for name, values in found["results"].items():
        metrics = {key.split(",")[0]: value for key, value in values.items() if "," in key and "stderr" not in key}
        results[name.removeprefix("local_")] = metrics | {"samples": found["samples"][name]}
    return results
