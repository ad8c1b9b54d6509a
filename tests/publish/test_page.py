"""The page: what stands in it, that it stands alone, what is told where parts are missing, that runs are only read."""

import dataclasses
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.published import closed_form, contents, keep_scores, reported_run
from support.recipe import wanted

from s3prl_dd.cli import main, parse
from s3prl_dd.errors import UserError
from s3prl_dd.evaluation.significance import Interval
from s3prl_dd.privacy.attacks import View
from s3prl_dd.privacy.results import PrivacyResults
from s3prl_dd.privacy.within import WithinClass
from s3prl_dd.publish import words
from s3prl_dd.publish.page import write_page
from s3prl_dd.publish.study import studies
from s3prl_dd.recipe.collect import collect
from s3prl_dd.recipe.folder import Run
from s3prl_dd.recipe.results import Results

ATTACKS = Path(__file__).parent / "assets/privacy_fold1.json"
"""What `s3prl-dd privacy` wrote of the file of docs/privacy.md."""

OLD = Path(__file__).parent.parent / "evaluation/assets/results_2991ac6.json"
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Outline(HTMLParser):
    """Tags that are open, ids, figures and links of a page."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.unlabelled = [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in named:
            self.ids.append(named["id"])
        if tag == "a":
            self.links.append(named["href"])
        self.unlabelled += tag == "svg" and not named.get("aria-label")

    def handle_startendtag(self, tag, attributes):
        if "id" in dict(attributes):
            self.ids.append(dict(attributes)["id"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def runs(few_speakers, tmp_path_factory):
    """A run, and one of the closed form on its base."""
    folder = tmp_path_factory.mktemp("runs")
    first = reported_run(folder / "first")
    return [first.out, closed_form(folder / "gaussian", first).out]


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    """Both files of the page on `runs`."""
    return [path.read_text() for path in write_page(runs, tmp_path_factory.mktemp("page") / "report.html")]


def test_it_is_whole_html_that_asks_no_network(page):
    outline = Outline(page[0])
    assert outline.open == []
    assert len(set(outline.ids)) == len(outline.ids)
    assert {link.removeprefix("#") for link in outline.links} <= set(outline.ids)
    assert outline.unlabelled == 0
    assert not re.search(r"""(src|href)=["'](?!#)|url\((?!#)|@import|<script""", page[0].replace("xlink:href", "href"))


def test_figures_take_the_pages_colours(page):
    assert not re.search(r"#0a0[bc]", page[0])
    assert "var(--series-0)" in page[0] and "var(--ink)" in page[0]
    assert "prefers-color-scheme: dark" in page[0] and "@media print" in page[0]


@pytest.mark.parametrize("twin", [0, 1], ids=["html", "markdown"])
@pytest.mark.parametrize("said", [
    "reach 77.0 % UAR", "of the 82.0 % of all real data", "With 6 points a class", "GAN samples, 6 a class",
    "Gaussian samples, full size", "random real subset, 100 a class", "123 s", "closed form", "--config gaussian",
    "The speech is synthetic", "Privacy was not measured", "s3prl-dd run"])
def test_both_say_the_result(page, twin, said):
    assert said in re.sub(r"</?span>", "", page[twin])


def test_the_figures_are_those_of_the_results(page):
    """The sentence's numbers stand in the table's rows, too, and the curve tells them in words."""
    row = next(line for line in page[1].splitlines() if line.startswith("| GAN samples, full size"))
    cells = [cell.strip() for cell in row.split("|")[2:]]
    assert cells[1] == "77.0" and cells[4] == "93.9 %"
    told = next(line for line in page[1].splitlines() if line.startswith("UAR over training points"))
    assert "all real data 82.0 %; GAN samples 70.0 % with 6, " in told, told


def test_the_command_makes_the_run_again(tmp_path):
    """Switches, choices of which one is true or false, and lists."""
    asked = {"normalize": True, "center": False, "resample": True, "labels": "hard", "budgets": (6, "original"),
             "rivals": ()}
    run = Run(tmp_path / "run", wanted(**asked).changed(device=None))
    assert words.command_of(run).split()[0:2] == ["s3prl-dd", "run"]
    verb = parse(words.command_of(run).split()[1:])
    assert verb.settings == run.settings and verb.out == str(run.out)


def test_the_command_of_a_variant_makes_it_again(tmp_path):
    """`run` forgets the overrides of another configuration, so the command names them though the base has the same."""
    asked = {"config": "gan_1d", "overrides": ("steps=20",)}
    base = Run(tmp_path / "base", wanted(**asked).changed(device=None))
    base.keep()
    settings = base.settings.changed(base=str(base.out), config="gan_att_small")
    run = Run(tmp_path / "run", settings, base)
    assert parse(words.command_of(run).split()[1:]).settings == settings


def test_sentences_are_of_folds_that_both_sides_have(few_speakers, tmp_path):
    """Another fold of the real heads alone, or of the samples alone, is no part of what they are compared with."""
    first = reported_run(tmp_path / "first")
    results = Results.read(first.results)
    harder = {name: dataclasses.replace(results.arms[name], uar=0.4, uar_per_seed=[0.4, 0.4])
              for name in ("real", "distilled_full", "distilled_6ppc")}
    (tmp_path / "second").mkdir()
    dataclasses.replace(results, fold="fold2", arms={"real": harder["real"]}).write(tmp_path / "second/results.json")
    study, = studies([first.out, tmp_path / "second"])
    assert "of the 82.0 % of all real data" in words.result(study)
    dataclasses.replace(results, fold="fold2", arms=harder).write(tmp_path / "second/results.json")
    alone, (study,) = words.budget(studies([first.out])[0]), studies([first.out, tmp_path / "second"])
    assert words.budget(study) == alone.removesuffix(".") + " on fold1."


def test_runs_are_only_read(runs, tmp_path):
    before = [contents(run) for run in runs]
    write_page(runs, tmp_path / "page.html")
    assert [contents(run) for run in runs] == before


# what is missing


def test_results_alone(tmp_path):
    """An old results.json without any of the run's folder."""
    (tmp_path / "old").mkdir()
    shutil.copyfile(OLD, tmp_path / "old/results.json")
    page, twin = write_page([tmp_path / "old"], tmp_path / "page.html")
    assert "no run.json of this version" in page.read_text()
    assert "Real and generated" not in page.read_text()
    assert "class 0" in twin.read_text()


def test_no_gan_yet(tmp_path):
    run = reported_run(tmp_path / "run")
    run.generator.write_bytes(b"cut off")
    shutil.rmtree(run.gan)
    shutil.rmtree(run.features)
    text = write_page([run.out], tmp_path / "page.html")[1].read_text()
    assert "no generator file that can be read" in text and "no feature store" in text
    assert "## Training" not in text


def test_real_heads_alone(tmp_path):
    run = reported_run(tmp_path / "run")
    results = run.results.read_text()
    for folder in (run.out / "exp").glob("[dr][ia]*"):
        shutil.rmtree(folder)
    collect(run).write(run.results)
    assert run.results.read_text() != results
    assert "nothing was distilled yet" in write_page([run.out], tmp_path / "page.html")[1].read_text()


def test_the_teacher_is_a_row_and_no_point_over_budgets(tmp_path, recwarn):
    run = reported_run(tmp_path / "run")
    keep_scores(run, {"teacher": [0.9]})
    collect(run).write(run.results)
    twin = write_page([run.out], tmp_path / "page.html")[1].read_text()
    assert "teacher alone, no samples" in twin and not recwarn.list
    assert "teacher" not in twin[twin.index("UAR over training points"):twin.index("## Confusion")]


# privacy


SAMPLES = ["proposed", "proposed_centred", "copied", "gaussian", "one_in_ten_copied", "held_out"]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """A run beside whose results stands what was measured of its file on RAVDESS, and both files of its page."""
    folder = tmp_path_factory.mktemp("attacked")
    run = reported_run(folder / "run")
    (run.out / "privacy").mkdir()
    shutil.copyfile(ATTACKS, run.out / "privacy/results.json")
    return [path.read_text() for path in write_page([run.out], folder / "page.html")]


def test_privacy_rows_stand_beside_their_controls(attacked):
    page, twin = attacked
    assert Outline(page).open == [] and "Privacy was not measured" not in page + twin
    section = page[page.index('<section id="c0-privacy">'):page.index('<section id="c0-made">')]
    names = re.findall(r'<th scope="row">(\w+)</th>', section)
    assert names == [*SAMPLES, "proposed", "proposed_centred", "copied", "held_out", "proposed", "memorised",
                     "held_out"]
    copied = section[section.index("copied</th>"):]
    assert 'data-label="control">to be caught' in copied and "1.00 (0.99 .. 1.00)*" in copied
    assert "| held_out          | not to be caught" in twin and "<pre>" not in section


@pytest.mark.parametrize("twin", [0, 1], ids=["html", "markdown"])
@pytest.mark.parametrize("said", [
    "caught nothing; all of them catch copies", "names 38 % of real utterances rightly (95 % interval 29 to 47; chance",
    "heads in the file tell who was in training: AUC 0.68 (0.62 to 0.74)", "Not caught is no guarantee"])
def test_both_say_what_the_attacks_found(attacked, twin, said):
    assert said in attacked[twin]


def test_attacks_that_miss_copies_say_little():
    results = PrivacyResults.read(ATTACKS)
    sets = results.attacks[View.MEAN]
    missed = dataclasses.replace(sets["copied"].nearest, caught=False)
    sets["copied"] = dataclasses.replace(sets["copied"], nearest=missed)
    assert "say little: copies of training data escaped nearness to training utterances" in words.privacy(results)
    known = {"proposed": WithinClass(Interval(0.08, 0.042, 0.151), floor=0.19, chance=0.05, caught=False)}
    assert words.privacy(PrivacyResults({}, {}, within=known)) == (
        "One who knows the file's speaker suppression and the class names 8 % (4 to 15; chance 5 %; with samples that "
        "know nobody 19 %).")
    assert words.privacy(PrivacyResults({}, {})) == ""


def test_runs_of_two_corpora_are_two_chapters(runs, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copyfile(OLD, other / "results.json")
    page = write_page([*runs, other], tmp_path / "page.html")[0].read_text()
    assert Outline(page).open == []
    assert "gauss · made" in page and "ravdess · moonshine" in page


# the verb


def test_verb(runs, tmp_path, capsys):
    assert main(["report", *map(str, runs), "--html", "--to", str(tmp_path / "page.html")]) == 0
    assert "page.html" in capsys.readouterr().out and (tmp_path / "page.md").is_file()
    assert main(["report", str(runs[0])]) == 2
    assert "--html" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nothing"), "--html", "--to", str(tmp_path / "no.html")]) == 2
    assert "results.json: not there" in capsys.readouterr().err


def test_refused(runs, tmp_path):
    with pytest.raises(UserError, match=r"ends in \.html"):
        write_page(runs, tmp_path / "page.pdf")
