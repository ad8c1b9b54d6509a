"""The benchmarks of `s3prl-dd bench`: each layer measures its own, here they are handed what they need."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro
from pydantic import Field
from pydantic_core import to_jsonable_python

from ..config import Count, Number, load_config, settings
from ..devices import device_name
from ..distill.config import DistillConfig
from ..errors import UserError

Kind = Literal["step", "sample", "extract", "heads", "recipe", "busy", "scale", "all"]


class Measured(NamedTuple):
    """Rows of a benchmark, and the same as a table."""

    rows: Any
    table: str


@settings
class Bench:
    """What things cost, each beside a named baseline, turn about in one run, so that ratios hold on a busy machine too.

    step: a distiller's step beside a plain loop; sample: drawing beside the network itself; extract: extraction beside
    S3PRL's loop; heads: a head's optimiser step, S3PRL's own and ours; recipe: a head's whole training at the paper's
    shape; busy: each stage alone and beside busy processes; scale: seconds and memory of many utterances; all: what
    docs/costs.md shows.
    """

    kind: Annotated[Kind, tyro.conf.Positional]
    """What is measured."""

    configs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """step, sample: distiller's configurations, files or shipped ones (default gan_1d)."""

    overrides: tuple[str, ...] = ()
    """step, sample: KEY=VALUE words for these configurations. step: precision=bfloat16; both: network.frames=32."""

    dim: Annotated[int, Field(ge=1, le=65536), Number] = 768
    """D, dimensions of the features, which are noise here."""

    classes: Annotated[int, Field(ge=2, le=1000), Number] = 4
    """C, emotions."""

    rounds: Count = 5
    """How often each is timed, beside a first time to warm up."""

    base: bool = False
    """heads, extract: HuBERT Base's shapes with random weights, instead of a tiny HuBERT."""

    files: Count = 24
    """extract: made-up files of 0.5 to 15 s."""

    processes: Count = 4
    """busy: processes that multiply matrices beside each stage."""

    utterances: tuple[Count, ...] = (10_000, 100_000)
    """scale: made-up corpora of so many utterances."""

    device: str | None = None
    """cuda or cpu; without it a GPU where there is one."""

    to: str = "costs.json"
    """all: where each measurement is kept as soon as it is there; those that are there are not measured again."""

    json: bool = False
    """As JSON."""

    def __call__(self) -> None:
        """Measure it. Raises UserError, before anything is timed, for an option that this kind does not read."""
        self.check()
        rows, table = KINDS[self.kind](self)
        print(json.dumps(as_json(rows), indent=2) if self.json else table)

    def measure(self) -> Any:
        """What it measures, as JSON has it."""
        return as_json(KINDS[self.kind](self).rows)

    def check(self) -> None:
        """Raise UserError for what was given and is not read."""
        unread = sorted(set(self.given()) - set(READ[self.kind]))
        if unread:
            raise UserError(f"bench {self.kind}: {', '.join(unread)} would not be read. It reads "
                            f"{', '.join(READ[self.kind])}.")
        others = [word for word in self.overrides if self.kind == "sample" and not word.startswith("network.")]
        if others:
            raise UserError(f"bench sample: draws from networks alone, and {' '.join(others)} is not about one. Give "
                            "network.KEY=VALUE words.")

    def given(self) -> list[str]:
        """Names of the options of what is measured that are not at their defaults."""
        return [field.name for field in fields(self)
                if field.name not in ("kind", "json") and getattr(self, field.name) != field.default]

    def command(self) -> str:
        """The command line of what differs from the defaults."""
        words = ["s3prl-dd", "bench", self.kind, *self.configs]
        for name in self.given():
            value = getattr(self, name)
            if name != "configs":
                values = value if isinstance(value, tuple) else (value,)
                words += [f"--{name}", *([] if value is True else map(str, values))]
        return " ".join(words)


def step(asked: Bench) -> Measured:
    """A distiller's step beside a plain loop written from the paper's equations."""
    from ..distill import bench

    device = device_name(asked.device)
    rows = bench.bench_step(configs_of(asked), asked.dim, asked.classes, asked.rounds, device)
    return Measured(rows, bench.step_table(rows, asked.dim, device))


def sample(asked: Bench) -> Measured:
    """Drawing from a generator beside calling its network, and the machine's own matrix products."""
    from ..generator import bench

    device = device_name(asked.device)
    networks = {name: config.network for name, config in configs_of(asked).items()}
    rows = bench.bench_sample(networks, asked.dim, asked.classes, device, asked.rounds)
    return Measured(rows, bench.table(rows, asked.dim, device))


def extract(asked: Bench) -> Measured:
    """Extraction beside S3PRL's own loop, on a HuBERT of random weights."""
    from ..features import bench
    from ..features.spec import FeatureSpec
    from ..plugin.bench import BASE, TINY, write_hubert
    from ..plugin.encoder import Encoder

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "hubert.pt"
        write_hubert(checkpoint, BASE if asked.base else TINY)
        encoder = Encoder(FeatureSpec("hubert_local", str(checkpoint)), device_name(asked.device))
        rows = bench.bench_extract(encoder, encoder.as_s3prl, asked.files, rounds=asked.rounds)
    return Measured(rows, bench.extract_table(rows))


def heads(asked: Bench) -> Measured:
    """A head's optimiser step: S3PRL's own run, ours on kept features and on samples, the bare head."""
    from ..plugin import bench

    rows = bench.bench_heads(asked.base, asked.rounds, device=device_name(asked.device))
    return Measured(rows, bench.heads_table(rows))


def recipe(asked: Bench) -> Measured:
    """Training a head at the paper's shape, extrapolated from its parts."""
    from .recipe import bench_recipe, recipe_table

    times = bench_recipe(asked.rounds)
    return Measured(times, recipe_table(times))


def busy(asked: Bench) -> Measured:
    """Each stage's unit of work alone, and beside busy processes."""
    from .busy import bench_busy, busy_table

    rows = bench_busy(asked.processes, asked.rounds)
    return Measured(rows, busy_table(rows, asked.processes))


def scale(asked: Bench) -> Measured:
    """Seconds and peak memory of each stage with many utterances."""
    from ..features.bench import scale_table
    from .scale import bench_scale

    rows = bench_scale(asked.utterances, asked.dim)
    return Measured(rows, scale_table(rows))


def everything(asked: Bench) -> Measured:
    """All that the documents show."""
    from .costs import costs_text, measure_all

    kept = measure_all(Path(asked.to), {each.command(): each.measure for each in ALL})
    return Measured(kept, costs_text(kept, main=False))


ALL = (
    Bench("recipe", rounds=2),
    Bench("sample", ("gan_att", "gan_cnn"), rounds=3),
    Bench("step", ("gan_1d", "gan_att_small"), rounds=6),
    Bench("step", ("gan_1d",), dim=288, rounds=8),
    Bench("extract", base=True, files=10, rounds=3),
    Bench("busy", rounds=2),
    Bench("scale"),
)
"""What `all` measures: some minutes on two cores, and `scale` last, which takes longer."""

KINDS: dict[str, Callable[[Bench], Measured]] = {
    "step": step, "sample": sample, "extract": extract, "heads": heads, "recipe": recipe, "busy": busy, "scale": scale,
    "all": everything}

OF_NETWORKS = ("configs", "overrides", "dim", "classes", "rounds", "device")

READ: dict[Kind, tuple[str, ...]] = {
    "step": OF_NETWORKS, "sample": OF_NETWORKS, "extract": ("base", "files", "rounds", "device"),
    "heads": ("base", "rounds", "device"), "recipe": ("rounds",), "busy": ("processes", "rounds"),
    "scale": ("utterances", "dim"), "all": ("to",)}
"""Which options each kind reads, beside `json`."""


def configs_of(asked: Bench) -> dict[str, DistillConfig]:
    """The distiller's configurations by name."""
    return {name: load_config(DistillConfig, name, asked.overrides) for name in asked.configs or ("gan_1d",)}


def as_json(value: Any) -> Any:
    """Dataclasses, named tuples and mappings of them as JSON has them."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list) else to_jsonable_python(value)
