"""One batch through the model: a bad clip harms no neighbour.

Each input is prepared alone, as a waveform to log-mels. A batch that does not fit the memory is
halved, and of one that fails each clip is run alone.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ser.corpus.errors import UserError, plural
from ser.extract.extractor import Extractor, describe_class, naming_the_class


def prepared(
    extractor: Extractor,
    utterances: Sequence[str],
    inputs: Sequence[object],
    failed: dict[str, str],
) -> tuple[list[str], list[object]]:
    """Return what the model takes for each input, and for which utterances.

    Those that `failed` gets the reason of are left out. Raises as `robustly`.
    """
    ready = {}
    for utterance, source in zip(utterances, inputs, strict=True):
        try:
            with _for_all(extractor):
                ready[utterance] = extractor.prepare(source)
        except (UserError, ImportError):
            raise
        except Exception as error:  # of the model's library, or of a plugin: it may be anything
            failed[utterance] = describe(error)
    return list(ready), list(ready.values())


def robustly(
    extractor: Extractor,
    utterances: Sequence[str],
    inputs: Sequence[object],
    failed: dict[str, str],
) -> Iterator[tuple[str, Any]]:
    """Run the model on prepared inputs; halve them when memory runs out, and find what fails.

    Yields utterances with their results; those that `failed` gets the reason of have none. Raises
    what no other clip can help: a server that is not reached, a package that is not installed, an
    extractor that does not return one result for one clip.
    """
    if not utterances:
        return
    problem, short, results = "", False, list[Any]()
    try:
        results = _results(extractor, inputs)
    except (UserError, ImportError):
        raise
    except Exception as error:  # of the model's library, or of a plugin: it may be anything
        problem, short = describe(error), _is_memory(error)
    if problem:  # the error is gone, and with it the tensors that its traceback held
        if short:
            _free_memory()
        if len(utterances) == 1:
            failed[utterances[0]] = problem
            return
        step = math.ceil(len(utterances) / 2) if short else 1
        for i in range(0, len(utterances), step):
            yield from robustly(extractor, utterances[i : i + step], inputs[i : i + step], failed)
        return
    for utterance, result in zip(utterances, results, strict=True):
        if isinstance(result, Exception):
            failed[utterance] = describe(result)
        else:
            yield utterance, result


def _results(extractor: Extractor, inputs: Sequence[Any]) -> list[Any]:
    """Run the model; raises `UserError` or `ValueError` for another number of results."""
    with _for_all(extractor):
        returned: Any = extractor.compute(inputs)
    if not isinstance(returned, Iterable):
        problem = f"returned a {type(returned).__name__}"
        raise UserError(f"{described(extractor)} {problem}; return one result for each input.")
    results = list(returned)
    if len(results) != len(inputs):
        problem = f"returned {len(results)} results for {plural(len(inputs), 'input')}"
        kind = UserError if len(inputs) == 1 else ValueError
        raise kind(f"{described(extractor)} {problem}; return one result for each input.")
    return results


@contextmanager
def _for_all(extractor: Extractor) -> Iterator[None]:
    """Raise `UserError` for what no other input can help."""
    try:
        yield
    except ImportError:
        with naming_the_class(extractor.options.kind, type(extractor), "run", "extract"):
            raise
    except SystemExit as error:
        raise UserError(
            f"{described(extractor)} ended the program (SystemExit: {error}); raise ValueError "
            "for an input that it cannot take."
        ) from error


def described(extractor: Extractor) -> str:
    """Return an extractor's kind and class, for messages."""
    return describe_class(extractor.options.kind, type(extractor))


def describe(error: Exception) -> str:
    """Return the type and the first line of an error."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _is_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower()


def _free_memory() -> None:
    """Give the memory that PyTorch keeps of a GPU for later back to it."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
