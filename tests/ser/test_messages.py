"""What users read: the snapshot of every sentence, and plain English in all of them."""

import re

import pytest

from tests.messages import ROOT, SNAPSHOT, collect

# Words of the project's early dialect, and what to write instead. Sentences that are spoken in a
# corpus or in the demo are not checked.
DIALECT = {
    r"\b(?:said|told|tells?|telling|teller)\b": "predict, report, state; name the thing",
    r"\b(?:hears?|heard|hearing|listens?(?! on\b))\b": "decode, transcribe, predict",
    r"\boptimism\b": "generalization gap",
    r"\bflatters?\b": "is optimistically biased",
    r"\b(?:surer|too sure)\b": "over-confident",
    r"\bmend(?:s|ed|ing)?\b": "fix, repair",
    r"\b(?:in force|unsent)\b": "latest, pending",
    r"\basked for\b": "requested; or name the option",
    r"\basks? (?:this|a|the) (?:head|stack|server|member)\b": "query, use, predict with",
    r"\bstands? (?:twice|there|beside|at|in|for)\b": "appears twice, is",
    r"\b(?:goes|go|went) on(?! (?:the|a) )\b": "resumes, continues",
    r"\bwhere it (?:was|stopped)\b": "resumes",
    r"\bteach(?:es)?\b": "is learned from",
    r"\bhangs? (?:on|up)\b|\bhung up\b": "depends on; disconnects",
    r"\bdo not ask\b|\basks first\b": "skip the confirmation; asks for confirmation",
    r"\ball of it\b": "everything; the whole file",
    r"\bevery byte(?: right)?\b": "checksums OK",
    r"\bthe least of\b": "limited by",
    r"\bof (?:one's )?own audio\b|\bown parts\b": "your own audio; extending ser",
    r"\bthere is such a\b|\bit is no\b|\bare no linear\b": "already exists; is not a",
    r"\bno one\b|\bnobody\b": "rephrase",
    r"\bkilled one\b|\bkilled ones\b": "interrupted run",
    r"\bknown are\b": "choose from",
    r"\bsay (?:with|what they)\b": "name it with OPTION=…",
    r"\bin capitals alone\b": "only in case",
    r"\bare no (?:subclass|class)\b|\b(?:which|that) is no (?!longer\b)": "is not a",
    r"(?<!there )\bis no (?:\w+ file|wav|module)\b": "is not a",
    r"\bone behind the other\b|\bbehind (?:the last|its header|its end)\b": "concatenated; after",
    r"\bat the (?:least|most)\b": "at least, at most",
    r"\blies? in\.": "the folder of",
    r"\b(?:rows?|raters|votes?) an? (?:utterance|clip|speaker|head|class)\b": "per",
    r"\bis not known here\b": "is unknown",
    r"\banswers (?:say|may)\b": "predictions",
    r"\btakes? (?:it|them) out\b": "remove",
    r"\bthere are one\b": "plural()",
    r"\b1 (?:warnings|epochs|rows|files|clips|heads|features|utterances|such ids)\b": "plural()",
}
ALLOWED = (  # plain English that the patterns above would catch
    r"ask(?:ed)? for (?:a |the )?(?:consent|citation)",
    r"\"Optimism\" is now",
    r"^hear: \d+",  # a key of a fine-tuned model
    r"^Somebody said: ",  # a prompt, part of a fingerprint
)
SPOKEN = (  # modules whose strings are sentences to be spoken or read by a model
    "corpus/importers/crema_d.py",
    "extract/testing.py",
    "ser/synthetic/corpus.py",
    "ser/synthetic/sentences.py",
)


def read(*patterns: str) -> list[tuple[str, str]]:
    """Return the lines of files that users read, as (file, line)."""
    files = sorted(path for pattern in patterns for path in ROOT.glob(pattern))
    return [
        (path.relative_to(ROOT).as_posix(), line)
        for path in files
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def faults(lines: list[tuple[str, str]]) -> list[str]:
    """Return the lines that use the dialect, each with what to write instead."""
    collected = []
    for name, line in lines:
        text = re.sub("|".join(ALLOWED), "", line.strip(), flags=re.I)
        text = re.sub(r"`[^`]*`", "", text)  # keys and commands
        for pattern, instead in DIALECT.items():
            if match := re.search(pattern, text, re.I):
                collected.append(f"{name}: '{match[0]}' ({instead}): {line.strip()[:160]}")
    return collected


def test_the_snapshot_is_what_the_code_has():
    assert SNAPSHOT.read_text(encoding="utf-8").splitlines() == collect(), "run `make messages`"


@pytest.mark.parametrize("kind", ["messages", "pages", "files"])
def test_what_users_read_is_plain_english(kind):
    lines = {
        "messages": [tuple(line.split(": ", 1)) for line in collect()],
        "pages": read("*.md", "docs/**/*.md", ".github/**/*.md"),
        "files": read("pipeline.yaml", "presets/*.yaml", "score/report/*.j2", "examples/*.*"),
    }[kind]
    assert lines
    checked = [line for line in lines if not line[0].startswith(SPOKEN)]
    assert faults(checked) == []


@pytest.mark.parametrize(
    "line",
    [
        "seven: 339 utterances, every byte right",
        "heads/x: it stands twice",
        "a killed one goes on where it was",
        "1 warnings, 0 errors",
        "a point under the diagonal is too sure",
        "the view 'x' is unknown; known are noise, speed",
        "its options are no subclass of Section",
        "the columns 'A' and 'a' differ in capitals alone; say with emotion=COLUMN which it is",
        "give the one 'emodb' lies in.",
        "this table has a header line only; add a row an utterance.",
        "the class has no utterance; take it out of corpus.classes",
    ],
)
def test_the_dialect_is_recognized(line):
    assert faults([("x", line)])


@pytest.mark.parametrize(
    "line",
    [
        "Name or address to listen on.",
        "Which emotion a listener would name.",
        "11 warnings",
        "there is no wav file in this folder",
        "a feature that is no longer cached",
    ],
)
def test_plain_english_is_left_alone(line):
    assert faults([("x", line)]) == []


def test_a_message_is_collected_without_its_values():
    messages = collect()
    errors = [line for line in messages if line.startswith("corpus/errors.py: ")]
    assert "corpus/errors.py: {…} and {…} more" not in errors
    assert "corpus/errors.py: and {…} more" in errors
