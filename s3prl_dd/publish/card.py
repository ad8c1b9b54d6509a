"""The card of a generator file, in the form of the Hub's model cards: what it replaces, its terms, results, limits.

    card("generator.safetensors", run="result/f1") -> text of a README.md
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..corpora.text import shown
from ..errors import UserError
from ..files import file_digest
from ..generator import Header, read_header
from ..generator.hub import FILE, PREFIX, located, on_hub, parse
from ..generator.inspect import described
from ..recipe.folder import Run
from . import tables, words
from .page import Privacy, fill, privacy_of
from .study import Study, studies
from .terms import Terms, terms_by_name, terms_of

TAGS = ["dataset-distillation", "speech-emotion-recognition", "superb", "s3prl", "synthetic-data"]

LOAD = """from s3prl_dd.generator import Generator

generator = Generator.load("{place}")
samples = generator.sample({{"total": 200}}, seed=0)
print(samples.features.shape, samples.labels.bincount(), generator.header.names())
"""
"""The file in Python; place: where it is."""


@dataclass(frozen=True)
class Card:
    """What the template shows."""

    title: str
    place: str
    header: Header
    facts: list[tuple[str, str]]
    terms: Terms
    study: Study | None
    results: tables.Table | None
    privacy: list[Privacy]
    limits: list[str]
    load: str
    preview: bool


def card(file: str | Path, run: str | Path | None = None, repo: str | None = None, preview: bool = False) -> str:
    """The card as text. run: a finished run's folder, for results; repo: USER/NAME where the file will be.

    preview: whether samples.png lies beside it. Speakers are counted and not named. Raises UserError for a file that is
    none, and for a run whose generator is another one.
    """
    if repo is None and on_hub(file):
        repo = parse(str(file)).repo
    file = located(file)
    header = read_header(file)
    study = _study(file, run) if run is not None else None
    terms = terms_for(header, run)
    title = shown(f"{header.corpus.name}, {header.corpus.fold}, {header.features.upstream}: distilled")
    place = f"{PREFIX}{repo}" if repo else FILE
    privacy = privacy_of(study) if study else []
    facts = [(key, text) for key, text in described(file).items() if text and key != "file"]
    about = Card(
        title=title, place=place, header=header, facts=facts, terms=terms, study=study,
        results=tables.results(study) if study else None, privacy=privacy,
        limits=words.limits(study, bool(privacy)) if study else [], load=LOAD.format(place=place), preview=preview)
    front = front_matter(header, terms, study, repo or Path(file).stem)
    return f"---\n{front.to_yaml()}\n---\n\n" + fill("card.md.j2", card=about, words=words, as_pipes=tables.as_pipes)


def front_matter(header: Header, terms: Terms, study: Study | None, name: str) -> ModelCardData:
    """The YAML at the top, by the Hub's own classes."""
    more: dict[str, Any] = {"license_name": f"terms-of-{header.corpus.name}"} if terms.license == "other" else {}
    return ModelCardData(
        license=terms.license, library_name="s3prl_dd", tags=TAGS, metrics=["recall"],
        model_name=name.rpartition("/")[2], eval_results=_evaluations(study) if study else None, **more)


def _evaluations(study: Study) -> list[EvalResult]:
    """UAR of heads on the file's samples as the Hub's model index holds it, in per cent."""
    comparison = study.comparison
    return [EvalResult(
        task_type="audio-classification", task_name="speech emotion recognition", dataset_type=comparison.corpus,
        dataset_name=comparison.corpus, dataset_split=", ".join(comparison.folds), metric_type="recall",
        metric_name=f"UAR, heads on {line.row.trained_on}", metric_value=round(100 * line.row.mean, 2))
        for line in study.lines if line.row.arm.generated]


def _study(file: str | Path, run: str | Path) -> Study:
    """The run's results; UserError where its generator is not this file."""
    study, = studies([run])
    generator = study.members[0].generator
    if generator is None or file_digest(generator) != file_digest(file):
        raise UserError(f"{run}: its generator is not {file}. Give the run whose results are of this very file, or "
                        "leave --run away.")
    return study


def terms_for(header: Header, run: str | Path | None) -> Terms:
    """The terms that were written down when the run's corpus was prepared, else those that its name is known for."""
    try:
        found = Run.open(run) if run is not None else None
    except UserError:
        found = None  # results alone
    if found is not None and (found.metadata / "corpus.json").is_file() and found.corpus.terms:
        return terms_of(found.corpus.terms)
    return terms_by_name(header.corpus.name)
