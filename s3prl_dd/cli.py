"""The `s3prl-dd` command: verbs only, no logic."""

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path

from . import __version__
from .errors import UserError

WAY = """the way of the data, each arrow one verb and one stage of run.sh:

  corpus --prepare--> S3PRL metadata --real--> heads on real data, layer weights --extract--> feature store
     --experts--> pool of heads --distill--> generator.safetensors --train--> heads on GAN samples (S3PRL's runner)
     --report--> results.json and a table

`s3prl-dd run` runs all of them; every stage reads --out and goes on from what is there.
"""


def parser():
    from .corpora import CORPORA
    from .recipe.stages import STAGES, Settings

    main = argparse.ArgumentParser("s3prl-dd", description="Distil a speech-emotion corpus into one generator file.",
                                   epilog=WAY, formatter_class=argparse.RawDescriptionHelpFormatter)
    main.add_argument("--version", action="version", version=__version__)
    verbs = main.add_subparsers(dest="verb", required=True, metavar="VERB")

    defaults = Settings()
    for stage in (*STAGES[1:], "run"):
        about = "every stage, in order" if stage == "run" else stage_about(stage)
        verb = verbs.add_parser(stage, help=about, description=about)
        verb.add_argument("--out", default="result/demo", help="the run's folder (default %(default)s)")
        if stage == "run":
            verb.add_argument("--stage", type=int, default=1, help=f"first stage, 1 to {len(STAGES)}: {' '.join(STAGES)}")
            verb.add_argument("--stop-stage", type=int, default=len(STAGES), help="last stage")
        for item in fields(Settings):
            default = getattr(defaults, item.name)
            name = "--" + item.name.replace("_", "-")
            if isinstance(default, bool):
                verb.add_argument(name, action=argparse.BooleanOptionalAction, default=None)
            elif isinstance(default, list):
                verb.add_argument(name, nargs="*", type={"budgets": budget, "head_lrs": float}.get(item.name, str), metavar="VALUE")
            elif item.name == "corpus":
                verb.add_argument(name, choices=sorted(CORPORA))
            else:
                kinds = {"layer": int}
                verb.add_argument(name, type=kinds.get(item.name, type(default) if default is not None else str),
                                  help=f"default {default}")

    verb = verbs.add_parser("prepare", help="corpus -> S3PRL metadata (or, for sid, a VoxCeleb1 tree)",
                            description="Check a corpus' audio and write S3PRL's emotion metadata.")
    verb.add_argument("corpus", choices=[*sorted(CORPORA), "sid"])
    verb.add_argument("--root", help="the corpus (demo makes its own)")
    verb.add_argument("--out", required=True, help="the metadata folder (sid: the tree) to write")
    verb.add_argument("--table", help="table: CSV file,emotion,speaker; EmoBox JSONL; S3PRL JSON")
    verb.add_argument("--folds", type=int, help="table: number of folds")
    verb.add_argument("--labels", help="table: renamed labels, neutral=neu,fear= (empty: left out)")
    verb.add_argument("--speaker", help="table, sid: regular expression whose first group is the speaker")
    verb.add_argument("--split-by", help="sid: regular expression; train and dev get some of its values, test the others")
    verb.add_argument("--copy", action="store_true", help="sid: copies instead of links")

    verb = verbs.add_parser("compare", help="the tables of several runs (folds, configurations) in one")
    verb.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished runs")
    verb.add_argument("--out", help="a folder for comparison.json, .txt and .png")

    verb = verbs.add_parser("privacy", help="what is left of the speaker, in the heads and in the generator file")
    verb.add_argument("--out", default="result/demo", help="a run's folder, the proposed GAN (default %(default)s)")
    verb.add_argument("--baseline", help="the folder of a run of the baseline GAN, on the same features")
    verb.add_argument("--sid-root", nargs="*", default=[], help="trees in VoxCeleb1's shape (`prepare sid`); none: attacks alone")
    verb.add_argument("--sid-list", help="S3PRL's list file (default: list.txt in the tree)")
    verb.add_argument("--arm", help="whose heads: distilled_full, distilled_12ppc, ... (default distilled_full)")
    verb.add_argument("--seeds", type=int, help="SID runs of each row (default 3)")
    verb.add_argument("--steps", type=int, help="of S3PRL's SID recipe (default 300)")
    verb.add_argument("--batch", type=int, help="utterances a step (default 20)")
    verb.add_argument("--lrs", type=float, nargs="+", help="learning rates; each row takes the best on dev (default 1e-3 1e-2)")
    verb.add_argument("--samples", type=int, help="of each generator, for the attacks (default 2000)")
    verb.add_argument("--device")
    verb.add_argument("--jobs", type=int, help="S3PRL runs at a time (default: one a core on CPU, one on a GPU)")
    verb.add_argument("--feature-cache", type=float, help="gigabytes (default 4)")

    verb = verbs.add_parser("sample", help="generator file -> a fixed synthetic set (safetensors)")
    verb.add_argument("generator")
    verb.add_argument("--out", required=True)
    verb.add_argument("--budget", default="balanced", help="points per class, a YAML mapping {total: 200}, balanced or original")
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--lengths", choices=["generator", "corpus"], default="generator")
    verb.add_argument("--center", action=argparse.BooleanOptionalAction, default=True, help="shift each class to its mean (default on)")
    verb = verbs.add_parser("inspect", help="what a generator file is and was made from")
    verb.add_argument("generator")
    verb.add_argument("--json", action="store_true")
    verb = verbs.add_parser("describe", help="a GAN's layers, sizes and FLOPs, without training")
    verb.add_argument("config", help="a distiller's configuration, a file or a shipped one")
    verb.add_argument("--dim", type=int, default=768)
    verb.add_argument("--classes", type=int, default=4)
    verb.add_argument("--json", action="store_true")
    verb = verbs.add_parser("bench", help="seconds a training step of GANs, interleaved")
    verb.add_argument("configs", nargs="+", metavar="CONFIG", help="a distiller's configuration, a file or a shipped one")
    verb.add_argument("--dim", type=int, default=768)
    verb.add_argument("--classes", type=int, default=4)
    verb.add_argument("--rounds", type=int, default=5)
    verb.add_argument("--device", help="cuda | cpu")
    verb.add_argument("--json", action="store_true")
    verb = verbs.add_parser("weights", help="a generator's layer weights as a checkpoint for S3PRL's -i")
    verb.add_argument("generator")
    verb.add_argument("-o", "--out", required=True)
    for name, about in (("link", "make our downstream known to a clone of S3PRL"), ("unlink", "undo link")):
        verbs.add_parser(name, help=about).add_argument("clone", help="the clone's folder")
    return main


def budget(word):
    """An item of --budgets."""
    if word == "original" or (word.isdigit() and int(word) > 0):
        return word if word == "original" else int(word)
    raise argparse.ArgumentTypeError(f"{word!r}: expected points per class (6 12 ...) or original")


def stage_about(stage):
    from .recipe import stages as recipe

    return getattr(recipe, stage).__doc__


def main(argv=None):
    arguments = parser().parse_args(argv)
    try:
        dispatch(arguments)
    except UserError as error:
        print(f"s3prl-dd: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def dispatch(arguments):
    from .recipe import stages as recipe

    verb = arguments.verb
    if verb in (*recipe.STAGES[1:], "run"):
        settings = recipe.Settings.of(arguments.out, vars(arguments))
        run = recipe.Run(arguments.out, settings)
        stages = recipe.STAGES[arguments.stage - 1:arguments.stop_stage] if verb == "run" else [verb]
        for stage in stages:
            if verb == "run":
                print(f"\n[stage {recipe.STAGES.index(stage) + 1}] {stage}: {stage_about(stage)}", flush=True)
            getattr(recipe, stage)(run)
    elif verb == "prepare":
        prepare(arguments)
    elif verb == "compare":
        from .evaluation import compare

        comparison = compare.compare(arguments.runs)
        print(compare.table(comparison))
        if arguments.out:
            compare.save(comparison, arguments.out)
    elif verb == "privacy":
        from .privacy.measure import Settings, measure

        names = {item.name for item in fields(Settings)}
        changes = {key: value for key, value in vars(arguments).items() if key in names and value is not None}
        measure(arguments.out, arguments.sid_root, arguments.sid_list, arguments.baseline, Settings(**changes))
    elif verb in ("link", "unlink"):
        from .plugin import link

        getattr(link, verb)(arguments.clone)
    elif verb == "describe":
        from .config import load_config
        from .distill.config import DistillConfig
        from .distill.describe import describe, print_description

        description = describe(load_config(DistillConfig, arguments.config), arguments.dim, arguments.classes)
        print(json.dumps(description, indent=2)) if arguments.json else print_description(description)
    elif verb == "bench":
        from .config import load_config
        from .distill import bench
        from .distill.config import DistillConfig

        configs = {name: load_config(DistillConfig, name) for name in arguments.configs}
        device = recipe.Settings(device=arguments.device).device_name()
        results = bench.bench(configs, arguments.dim, arguments.classes, arguments.rounds, device)
        print(json.dumps(results, indent=2) if arguments.json else bench.table(results, arguments.dim, device))
    else:
        use_generator(arguments)


def prepare(arguments):
    if arguments.corpus == "sid":
        from .corpora.sid import prepare_sid

        options = {"split_by": arguments.split_by, "speaker": arguments.speaker, "copy": arguments.copy}
        prepare_sid(arguments.root, arguments.out, **options)
        return
    from .corpora import prepare as prepare_corpus

    prepare_corpus(arguments.corpus, arguments.root, Path(arguments.out), table=arguments.table, folds=arguments.folds,
                   labels=arguments.labels, speaker=arguments.speaker)


def use_generator(arguments):
    from .generator import Generator, inspect

    if arguments.verb == "inspect":
        inspect(arguments.generator, arguments.json)
        return
    generator = Generator.load(arguments.generator)
    if arguments.verb == "sample":
        import yaml

        generator.write_samples(arguments.out, yaml.safe_load(arguments.budget), arguments.seed, arguments.lengths, arguments.center)
    else:
        from .plugin.featurizer import write_featurizer_checkpoint

        weights = generator.header["features"].get("layer_weights")
        if not weights:
            raise UserError(f"{arguments.generator}: its features are one layer, there are no weights to write. -i is not needed.")
        write_featurizer_checkpoint(weights, arguments.out)
        print(f"wrote {arguments.out}: give it to run_downstream.py as -i {arguments.out}")


if __name__ == "__main__":
    sys.exit(main())
