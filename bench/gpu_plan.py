"""What MSP-Podcast costs to extract: `python -m bench.gpu_plan`, or `… gpu.json`.

With the gpu.json of `python -m bench.gpu`: turns by the clips per second that its loop reached on
clips of those lengths. Without: arithmetic on data sheets, of the FLOP of each model at a share of
the peak. docs/extract.md has the sources of its figures.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.gpu_rows import Outcome, Result
from bench.report import bare_parser
from ser.corpus.errors import DamagedError, UserError, one_line

SECONDS, TURNS, TOKENS = 5.7, 119_421, 80  # of a turn; of the challenge; of a turn, padded
FRAMES = round(50 * SECONDS)
BF16, FP32 = 0.40, 0.20  # of the peak, reached by the stage
STEP, STEPS, WINDOWS = 0.030, 26, 32  # s of a token's kernels, tokens of a batch, its windows


@dataclass(frozen=True)
class Gpu:
    """A card: dense peaks in FLOP/s, and dollars an hour."""

    name: str
    bf16: float
    fp32: float
    price: float


GPUS = (Gpu("A100", 312e12, 19.5e12, 2.0), Gpu("H100", 989e12, 67e12, 3.0))


@dataclass(frozen=True)
class Step:
    """A model's part: FLOP of a turn, frames that are stored of it, and their dim.

    `group` is that of gpu.json; `fixed` are seconds a turn that no GPU shortens.
    """

    name: str
    group: str
    flop: float
    frames: int = 0
    dim: int = 0
    fixed: float = 0.0

    @property
    def gigabytes(self) -> float:
        """GB of float16 of the corpus."""
        return TURNS * self.frames * self.dim * 2 / 1e9

    def hours(self, gpu: Gpu) -> float:
        """Return the hours of the corpus on a GPU, by arithmetic."""
        reached = gpu.fp32 * FP32 if self.name == "facodec" else gpu.bf16 * BF16
        return TURNS * (self.flop / reached + self.fixed) / 3_600


def encoder(layers: int, dim: int, tokens: int) -> float:
    """Return the FLOP of a transformer whose inner width is 4 times its own."""
    return tokens * layers * (24 * dim**2 + 4 * tokens * dim)


def waveform(dim: int) -> float:
    """Return the FLOP of wav2vec 2.0's seven convolutions and of the one over positions."""
    convolutions = 512 * (3_200 * 10 + 512 * (3 * 3_000 + 2 * 150))
    return 2 * SECONDS * (convolutions + 50 * 128 * dim**2 / 16)


MELS = 2 * 3 * 1280 * (3_000 * 128 + 1_500 * 1280)  # Whisper's two convolutions
WHISPER = MELS + encoder(32, 1280, 1_500)
WORDS = 32 * (4 * 1280**2 * 1_500 + STEPS * (28 * 1280**2 + 4 * 1_500 * 1280))
HUBERT = waveform(1280) + encoder(48, 1280, FRAMES)
WAVLM = waveform(1024) + encoder(24, 1024, FRAMES)
PLAN = (
    Step("whisper-large-v3", "whisper-large-v3, full", WHISPER, FRAMES, 1280),
    Step("  its words", "", WORDS, fixed=STEPS * STEP / WINDOWS),
    Step("hubert-xlarge", "hubert-xlarge", HUBERT, FRAMES, 1280),
    Step("wavlm-large", "wavlm-large", WAVLM, FRAMES, 1024),
    Step("facodec", "facodec", 8.9e9 * SECONDS, round(80 * SECONDS), 512),
    Step("roberta-large", "roberta-large", encoder(24, 1024, TOKENS), TOKENS, 1024),
    Step("deberta-v2-xxlarge", "deberta-v2-xxlarge", encoder(48, 1536, TOKENS), TOKENS, 1536),
)


def estimated() -> str:
    """Return the table by arithmetic, of each GPU."""
    heads = "".join(f"{title:>9}" for title in ("GFLOP/s", "PFLOP", "A100 h", "H100 h", "GB"))
    lines = [f"{'':20}{heads}"]
    for step in PLAN:
        hours = [step.hours(gpu) for gpu in GPUS]
        figures = [TURNS * step.flop / 1e15, *hours, step.gigabytes]
        cells = "".join(f"{value:9.2f}" for value in figures)
        lines.append(f"{step.name:20}{step.flop / SECONDS / 1e9:9.1f}{cells}")
    totals = [sum(step.hours(gpu) for step in PLAN) for gpu in GPUS]
    figures = [TURNS * sum(s.flop for s in PLAN) / 1e15, *totals, sum(s.gigabytes for s in PLAN)]
    lines.append(f"{'together':29}" + "".join(f"{value:9.2f}" for value in figures))
    return "\n".join([*lines, *(_price(gpu, h) for gpu, h in zip(GPUS, totals, strict=True))])


def _price(gpu: Gpu, hours: float) -> str:
    eight, price = 60 * hours / 8, gpu.price * hours
    return f"{gpu.name}: {hours:.1f} h on one, {eight:.0f} min on eight, ${price:.0f}"


def measured(device: str, rows: Sequence[Outcome]) -> str:
    """Return the table by the clips per second of the rows `loop`; words stay an estimate.

    A model whose row is missing, or has failed, has no figure and is not in the sum, whose line
    then counts the models that are.
    """
    rates = {row.group: row.value for row in rows if row.name == "loop" and row.has_figure}
    lines = [f"{TURNS:,} turns on one {device}", f"{'':20}{'turns/s':>9}{'h':>9}{'GB':>9}"]
    total, size, groups = 0.0, 0.0, [step.group for step in PLAN if step.group]
    for step in PLAN:
        rate = rates.get(step.group) if step.group else 1 / step.fixed
        if rate is None:
            lines.append(f"{step.name:20}{'not measured':>18}{step.gigabytes:9.2f}")
            continue
        hours = TURNS / rate / 3_600
        total, size = total + hours, size + step.gigabytes
        note = "" if step.group else "  (estimate)"
        lines.append(f"{step.name:20}{rate:9.1f}{hours:9.2f}{step.gigabytes:9.2f}{note}")
    count = sum(group in rates for group in groups)
    title = "together" if count == len(groups) else f"together, {count} of {len(groups)} measured"
    return "\n".join([*lines, f"{title:29}{total:9.2f}{size:9.2f}"])


def main(words: Sequence[str] | None = None) -> int:
    """Print the plan, by the gpu.json that is named, or by arithmetic; return the exit code."""
    parser = bare_parser(__doc__, "python -m bench.gpu_plan")
    parser.add_argument(
        "file", type=Path, nargs="?", help="gpu.json of bench.gpu (default: arithmetic)"
    )
    file = parser.parse_args(words).file
    try:
        print(_of_file(file) if file else estimated())
    except (UserError, OSError) as error:
        print(one_line(str(error)), file=sys.stderr)
        return 2
    return 0


def _of_file(file: Path) -> str:
    result = Result.read(file)
    if result.tiny or result.device == "CPU":
        problem = "it was measured on a CPU or with --tiny"
        raise DamagedError(file, problem, "run 'python -m bench.gpu' on a GPU without --tiny")
    return measured(result.device, result.rows)


if __name__ == "__main__":
    sys.exit(main())
