"""What a run should cite: its corpus, its models, the libraries of its stack, and ser.

The entries are `citations.bib`; the tables below say which of them belongs to which corpus and
model. A model without an entry gets a `@misc` with its hub id. Nothing of the run is executed: only
the shape of its pipeline is checked, so that plugins are not imported. Names of a pipeline are
anybody's text: none of them ends a comment, begins an entry or reaches TeX unescaped.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from ser.corpus.bounded_yaml import read_yaml
from ser.corpus.errors import UserError
from ser.extract.registry import card
from ser.packing.card import HUB_ID, base_of
from ser.packing.corpora import CITED, corpus_named
from ser.pipeline.document import Document, dotted
from ser.predict.bundle import open_bundle, run_path
from ser.stack.config import AUTO
from ser.version import __version__

ENTRY = re.compile(r"^@\w+\{([\w-]+),.*?^\}\n", re.M | re.S)
MODELS = (  # how a hub id begins -> keys; the first that fits
    ("openai/whisper", ("radford2023robust",)),
    ("distil-whisper/", ("gandhi2023distil", "radford2023robust")),
    ("facebook/hubert", ("hsu2021hubert",)),
    ("microsoft/wavlm", ("chen2022wavlm",)),
    ("emotion2vec/", ("ma2023emotion2vec",)),
    ("facebook/data2vec-audio", ("baevski2022data2vec",)),
    ("facebook/seamless-m4t-v2", ("seamless2023",)),
    ("microsoft/unispeech-sat", ("chen2022unispeech",)),
    ("microsoft/unispeech", ("wang2021unispeech",)),
    ("asapp/sew", ("wu2022performance",)),
    ("nvidia/parakeet-tdt-0.6b-v3", ("sekoyan2025canary", "rekesh2023fast")),
    ("nvidia/parakeet", ("rekesh2023fast",)),
    ("nvidia/canary-1b-v2", ("sekoyan2025canary", "rekesh2023fast")),
    ("Qwen/Qwen2-Audio", ("chu2024qwen2audio",)),
    ("Qwen/Qwen2.5-Omni", ("xu2025qwen25omni",)),
    ("Qwen/Qwen3-ASR", ("shi2026qwen3asr",)),
    ("Qwen/Qwen3-Omni", ("xu2025qwen3omni",)),
    ("hf-audio/omniasr", ("keren2025omnilingual",)),
    ("UsefulSensors/moonshine", ("jeffries2024moonshine",)),
    ("ibm-granite/granite-speech", ("saon2025granite",)),
    ("mistralai/Voxtral", ("liu2025voxtral",)),
    ("kyutai/stt", ("zeghidour2025streaming",)),
    ("facebook/s2t", ("wang2020fairseq",)),
    ("nvidia/audio-flamingo-3", ("goel2025audio",)),
    ("mispeech/dasheng", ("dinkel2024scaling",)),
    ("marcoyang/spear", ("yang2025spear", "yao2024zipformer")),
    ("facebook/wav2vec2-conformer", ("wang2020fairseq", "gulati2020conformer")),
    ("MIT/ast", ("gong2021ast",)),
    ("laion/clap", ("wu2023clap",)),
    ("facebook/wav2vec2-lv-60-espeak", ("xu2022simple", "baevski2020wav2vec")),
    ("resemble-ai/Resemblyzer", ("wan2018generalized",)),
    ("facebook/wav2vec2-base", ("baevski2020wav2vec",)),
    ("facebook/wav2vec2-large-robust", ("hsu2021robust", "baevski2020wav2vec")),
    ("facebook/wav2vec2-large-xlsr-53", ("conneau2021unsupervised",)),
    ("facebook/wav2vec2-xls-r", ("babu2022xlsr",)),
    ("facebook/w2v-bert-2.0", ("seamless2023",)),
    ("audeering/wav2vec2-large-robust", ("wagner2023dawn", "hsu2021robust")),
    ("superb/wav2vec2", ("yang2021superb", "baevski2020wav2vec")),
    ("superb/hubert", ("yang2021superb", "hsu2021hubert")),
    ("sentence-transformers/all-MiniLM", ("reimers2019sentence", "wang2020minilm")),
    ("google-bert/", ("devlin2019bert",)),
    ("FacebookAI/roberta", ("liu2019roberta",)),
    ("SamLowe/roberta-base-go_emotions", ("demszky2020goemotions", "liu2019roberta")),
    ("microsoft/deberta-v2", ("he2021deberta",)),
    ("microsoft/deberta-v3", ("he2023debertav3", "he2021deberta")),
    ("answerdotai/ModernBERT", ("warner2024modernbert",)),
    ("Qwen/Qwen3-Embedding", ("zhang2025qwen3embedding",)),
    ("google/embeddinggemma", ("google2025embeddinggemma",)),
    ("google-t5/", ("raffel2020exploring",)),
    ("google/flan-t5", ("chung2024scaling", "raffel2020exploring")),
    ("meta-llama/Llama-3", ("grattafiori2024llama",)),
    ("mistralai/Mistral-7B", ("jiang2023mistral",)),
    ("Qwen/Qwen2.5", ("qwen2024qwen25",)),
    ("amphion/naturalspeech3_facodec", ("ju2024naturalspeech",)),
)
KINDS = {  # features that need no `model:`
    "facodec": ("ju2024naturalspeech",),
    "opensmile": ("eyben2016gemaps", "eyben2010opensmile"),
}
STACKS = {
    "lightgbm": ("ke2017lightgbm",),
    **dict.fromkeys(("random_forest", "extra_trees", "logistic", AUTO), ("pedregosa2011scikit",)),
}
BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")  # of lines, and other control characters
SPECIAL = {  # characters with a meaning in TeX; BibTeX counts the brace of `\}` too
    **{character: "\\" + character for character in "%#&$_"},
    "{": r"\textbraceleft{}",
    "}": r"\textbraceright{}",
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
}
HEADS = {"cross_modal_gru": ("ueda2025improving",)}


@dataclass(frozen=True)
class Citation:
    """A BibTeX entry and what it is cited for; without an entry, `bibtex` is empty."""

    cited_for: tuple[str, ...]
    bibtex: str

    def __str__(self) -> str:
        """Return the entry below a comment that names what it is cited for."""
        # BibTeX knows no comments: outside of entries it skips everything but an `@`
        lines = (BREAKS.sub(" ", item).replace("@", "(at)") for item in self.cited_for)
        comment = "".join(f"% {line}\n" for line in lines)
        return comment + (self.bibtex or "% ser has no entry for it: cite it as its authors ask\n")


def cite(run: Path) -> list[Citation]:
    """Return the citations of a run's folder or a bundle, ser first, each entry once.

    Raises `UserError` where there is neither, and for a pipeline of another shape.
    """
    run = run_path(run)
    bundle = open_bundle(run) if run.is_file() else None
    folder = bundle.folder if bundle else run
    file = folder / "pipeline.yaml"
    if not file.is_file():
        raise UserError(
            f"{run}: it is neither a run's folder (with a pipeline.yaml) nor a bundle; name one, "
            "such as runs/demo."
        )
    pipeline = Document(str(file), read_yaml(file), expand=False)
    evaluation = bundle.record.evaluation if bundle else None
    corpora = [corpus.name for corpus in evaluation.corpora] if evaluation else []
    used = dict(_used(pipeline, folder, corpora))
    cited_for: dict[str, list[str]] = {}
    for item, keys in used.items():
        for key in keys:
            cited_for.setdefault(key, []).append(item)
    entries = read_entries()
    cited = [Citation(tuple(items), entries[key]) for key, items in cited_for.items()]
    taken = set(entries)
    without_entry = (item for item, keys in used.items() if not keys)
    return cited + [Citation((item,), _hub_entry(item, taken)) for item in without_entry]


def read_entries() -> dict[str, str]:
    """Return the entries of `citations.bib` by key."""
    text = Path(__file__).with_name("citations.bib").read_text(encoding="utf-8")
    text = text.replace("VERSION", __version__)
    return {match[1]: match[0] for match in ENTRY.finditer(text)}


def model_keys(model: str) -> tuple[str, ...]:
    """Return the keys of a hub id; none where it has no entry."""
    return next((keys for start, keys in MODELS if model.startswith(start)), ())


def _used(
    pipeline: Document, run: Path, corpora: Sequence[str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield what a run used, in words, and the keys of its entries.

    Without `corpora`, its corpus is the one that the manifest's name or a folder's contains.
    """
    yield f"ser {__version__}", ("ser",)
    for name in corpora:
        yield f"corpus {name}", CITED.get(corpus_named(name) or "", ())
    if not corpora:
        yield from _corpus(pipeline)
    finetuned = pipeline.mapping(("finetune",))
    for section in ("features", "finetune"):
        for name in pipeline.mapping((section,)):
            if name != "defaults":
                yield from _model(pipeline, (section, name), run, finetuned)
    default = _text(pipeline, ("heads", "defaults", "head")) or "cross_modal_gru"
    for name, entry in pipeline.mapping(("heads",)).items():
        if name == "defaults" or isinstance(entry, bool):  # the switch of the baseline
            continue
        architecture = _text(pipeline, ("heads", name, "head")) or default
        if keys := HEADS.get(architecture):
            yield f"head {architecture}", keys
    model = _text(pipeline, ("stack", "model")) or AUTO
    if "stack" in pipeline.data and (keys := STACKS.get(model)):
        yield f"stack {model}", keys


def _text(pipeline: Document, where: tuple[str, ...]) -> str:
    """Return the text at a place, "" where there is none; raises `UserError` for other values."""
    value = pipeline.mapping(where[:-1]).get(where[-1])
    if value is not None and not isinstance(value, str):
        raise pipeline.error(where, "it must be text; quote it.")
    return value or ""


def _corpus(pipeline: Document) -> Iterator[tuple[str, tuple[str, ...]]]:
    manifest = Path(_text(pipeline, ("corpus", "manifest")))
    audio = Path(_text(pipeline, ("corpus", "audio")))
    name = corpus_named(manifest.stem, manifest.parent.name, audio.name, audio.parent.name)
    shown = name or manifest.name or audio.name or "(pipeline.yaml does not name it)"
    yield f"corpus {shown}", CITED.get(name or "", ())


def _model(
    pipeline: Document, where: tuple[str, ...], run: Path, finetuned: Iterable[str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    kind, model = _text(pipeline, (*where, "kind")), pipeline.mapping(where).get("model")
    if model is None:
        if kind in KINDS:
            yield f"feature {kind}", KINDS[kind]
        return
    name = pipeline.path((*where, "model"), model)
    if Path(name).parent.name == "finetuned":
        if Path(name).name in finetuned:
            return  # the model that it starts from is cited
        name = base_of(run / "finetuned" / Path(name).name) or base_of(name) or name
    model_card = card(name)
    hub = model_card.hub if model_card else name
    if kind != "llm" and re.fullmatch(HUB_ID, hub) is None:
        yield f"{dotted(where)} (a local folder)", ()
    else:
        yield f"model {hub}", model_keys(hub)


def _hub_entry(item: str, taken: set[str]) -> str:
    """Return a `@misc` for a model that has no entry; nothing for anything else.

    Its key is none of those `taken`, and is added to them.
    """
    model = item.removeprefix("model ")
    if model == item:
        return ""
    title = "".join(SPECIAL.get(c, c) for c in BREAKS.sub(" ", model))
    fields = [f"title = {{{{{title}}}}}"]
    if re.fullmatch(HUB_ID, model, re.ASCII):
        fields.append(f"howpublished = {{\\url{{https://huggingface.co/{model}}}}}")
    stem = re.sub(r"\W+", "-", model, flags=re.ASCII).strip("-").lower() or "model"
    keys = (stem if n == 1 else f"{stem}-{n}" for n in count(1))
    key = next(key for key in keys if key not in taken)
    taken.add(key)
    return f"@misc{{{key},\n  " + ",\n  ".join(fields) + "\n}\n"
