"""Imports point down, go in no circle, and S3PRL is known in one place. Imports inside functions count."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "s3prl_dd"
LAYERS = [  # from the ground up; a part imports itself and the layers below its own
    {"errors", "rng", "files", "config", "metrics", "devices", "products", "timing"},
    {"corpora", "generator"},
    {"features"},
    {"pool"},
    {"distill"},
    {"rivals"},
    {"arms"},
    {"plugin"},
    {"recipe"},
    {"evaluation"},
    {"privacy"},
    {"publish", "reproduce"},
    {"benchmarks"},
    {"cli"},
    {"__main__", "run_downstream"},
]


def module_name(path):
    """s3prl_dd/generator/file.py -> s3prl_dd.generator.file, and a package's __init__.py -> the package."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(name):
    """Full names of what a module imports; of s3prl_dd, modules alone."""
    package = name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1]
    names = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(item.name for item in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[:len(package) - node.level + 1] if node.level else []
            source = ".".join(above + ([node.module] if node.module else []))
            full = {f"{source}.{item.name}" for item in node.names}
            names |= {item if item in MODULES else source for item in full}
    return names


IMPORTS = {name: imports_of(name) for name in MODULES}
OURS = {name: {item for item in names if item.split(".")[0] == "s3prl_dd"} for name, names in IMPORTS.items()}


def part(name):
    """The part of the package that a module belongs to: a folder or a module beside them; "" for s3prl_dd itself."""
    return name.split(".")[1] if "." in name else ""


def layer(name):
    """The number of its layer, from the ground up; s3prl_dd itself (its version) is below all."""
    return -1 if not part(name) else next(number for number, parts in enumerate(LAYERS) if part(name) in parts)


def test_every_part_has_a_layer():
    assert {part(name) for name in MODULES} - {""} <= set.union(*LAYERS)


def test_what_is_imported_is_there():
    assert {name: sorted(names - set(MODULES)) for name, names in OURS.items() if names - set(MODULES)} == {}


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name):
    for imported in OURS[name] & set(MODULES):
        ground = layer(name) == layer(imported) == 0
        assert part(imported) == part(name) or layer(imported) < layer(name) or ground, f"{name} imports {imported}"


def test_no_circle():
    TopologicalSorter(OURS).prepare()  # raises CycleError with the circle


def test_s3prl_is_known_in_plugin_alone():
    knows = {name for name, names in IMPORTS.items() if any(item.split(".")[0] == "s3prl" for item in names)}
    assert {part(name) for name in knows} == {"plugin"}


def test_the_generator_file_stands_on_the_ground_alone():
    assert {layer(imported) for name in MODULES if part(name) == "generator" for imported in OURS[name]
            if part(imported) != "generator"} <= {-1, 0}
