"""The rooms of the package: who may import whom, and which library belongs where."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import photoz
from photoz.estimators import ESTIMATORS

PACKAGE = Path(__file__).parents[1] / "photoz"

LAYERS = """
errors plain_json quantile_form gaussians
columns weights
pdf download process threads environment survey_checks integrity toml_file
survey
measurements
photometry
point_metrics log_score resolution identity summaries
catalogue metrics augment features split mock occupancy pool_weights
pit_map temperature conformal pooling
bootstrap datasets calibration estimators
cells model sample settings_tables starts
blend importance mixture_form progress settings study trials
golden kernels
claim extension finalists sampling
search evaluation bundle samples prediction
protocol plots scoring
training
outcome
card
family report tracking
record results warm_start
experiment
adapters
cli
__main__
"""
"""A room is a module or a folder; it may import the rooms of earlier lines."""

ROOMS = {room: n for n, line in enumerate(LAYERS.strip().splitlines()) for room in line.split()}

ANYWHERE = {"numpy", "scipy", "pandas", "pyarrow"}

LIBRARIES = {
    "sklearn": ["estimators"],
    "lightgbm": ["estimators.boosting"],
    "torch": ["estimators.mixture_density", "estimators.network_training"],
    "threadpoolctl": ["threads"],
    "safetensors": ["estimators"],
    "numba": ["kernels"],
    "llvmlite": ["kernels"],
    "optuna": ["claim", "sampling", "search", "study"],
    "mlflow": ["tracking", "adapters.pyfunc"],
    "sqlalchemy": ["tracking"],
    "matplotlib": ["plots"],
    "jinja2": ["report"],
    "markupsafe": ["report"],
    "astropy": ["catalogue", "datasets"],
    "h5py": ["catalogue", "datasets"],
    "pydantic": ["survey", "survey_checks", "settings", "settings_tables", "experiment"],
    "typer": ["cli"],
    "rich": ["cli"],
    "qp": ["adapters.qp"],
    "rail": ["adapters.rail"],
    "ceci": ["adapters.rail"],
    "lsdb": ["adapters.lsdb"],
    "dask": ["adapters.lsdb"],
    "nested_pandas": ["adapters.lsdb"],
    "pyspark": ["adapters.spark"],
}
"""Where each library may be imported; every other module stays importable without it."""

PICKLING = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "joblib",
    "cloudpickle",
    "marshal",
    "shelve",
    "skops",
}

RUNNING = {"eval", "exec", "compile", "__import__"}

HEAVY = [
    *("torch", "lightgbm", "mlflow", "optuna", "matplotlib", "sklearn", "astropy", "h5py"),
    "numba",
]


def name_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {
    name_of(path): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
}


def imports(tree):
    """Full names of what a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # Relative imports would escape the rules below, so they break them.
            yield from (f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names)


def siblings(tree):
    """What a module imports from this package, without ``photoz.`` in front."""
    return {
        name.removeprefix("photoz.")
        for name in imports(tree)
        if name.startswith("photoz.") and name != "photoz.__version__"
    }


def libraries(tree):
    roots = {name.partition(".")[0] for name in imports(tree)}
    return roots - set(sys.stdlib_module_names) - {"photoz"}


def belongs(module, place):
    return module == place or module.startswith(f"{place}.")


def calls(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def run(code):
    """Output of a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def loaded_by(statement):
    return run(
        f"import json, sys; {statement}; "
        f"print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    )


def test_every_module_has_a_layer():
    """Give a new module its place in LAYERS."""
    assert {module.partition(".")[0] for module in MODULES} <= set(ROOMS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_to_earlier_layers(module):
    room = module.partition(".")[0]
    others = {name.partition(".")[0] for name in siblings(MODULES[module])} - {room}
    # test_every_module_has_a_layer speaks for rooms that are not in LAYERS.
    layer = ROOMS.get(room, len(ROOMS))

    assert {other for other in others if ROOMS.get(other, 0) >= layer} == set()


@pytest.mark.parametrize("module", MODULES)
def test_libraries_stay_where_they_belong(module):
    """Give a new library its place in LIBRARIES."""
    for library in libraries(MODULES[module]) - ANYWHERE:
        places = LIBRARIES.get(library, [])
        assert any(belongs(module, place) for place in places), f"{library} in {module}"


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("estimators.")])
def test_families_do_not_import_each_other(module):
    families = {place.partition(":")[0].removeprefix("photoz.") for place in ESTIMATORS.values()}
    found = {
        family
        for name in siblings(MODULES[module])
        for family in families
        if belongs(name, family)
    }

    assert found == set()


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("adapters.")])
def test_adapters_do_not_need_each_other(module):
    """Only qp is shared: ensembles are what the field's codes hand on."""
    own = ".".join(module.split(".")[:2])
    others = {name for name in siblings(MODULES[module]) if name.startswith("adapters.")}

    assert {name for name in others if not belongs(name, own)} <= {"adapters.qp.to_qp"}


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_pickled(module):
    tree = MODULES[module]
    roots = {name.partition(".")[0] for name in imports(tree)}
    keywords = {
        (keyword.arg, keyword.value.value)
        for call in calls(tree)
        for keyword in call.keywords
        if isinstance(keyword.value, ast.Constant)
    }
    torch_files = {
        ast.unparse(call.func)
        for call in calls(tree)
        if ast.unparse(call.func) in {"torch.load", "torch.save"}
    }

    assert roots & PICKLING == set()
    assert {("weights_only", False), ("allow_pickle", True)} & keywords == set()
    assert torch_files == set()


@pytest.mark.parametrize("module", MODULES)
def test_no_text_is_run_as_code(module):
    called = {call.func.id for call in calls(MODULES[module]) if isinstance(call.func, ast.Name)}

    assert called & RUNNING == set()


def test_importing_photoz_loads_nothing_heavy():
    assert loaded_by("import photoz") == []


def test_reading_and_splitting_load_nothing_heavy():
    modules = "survey, photometry, catalogue, datasets, split"

    assert loaded_by(f"from photoz import {modules}") == []


def test_scoring_loads_no_compiler_before_it_is_needed():
    assert "numba" not in loaded_by("import photoz.scoring")


def test_what_predicts_loads_the_libraries_of_a_family_with_its_model():
    assert loaded_by("import photoz.bundle, photoz.prediction") == []


@pytest.mark.parametrize(
    ("families", "unwanted"),
    [(["trainz", "knn", "forest", "network"], {"torch", "lightgbm"}), (["boosting"], {"torch"})],
)
def test_a_family_loads_no_library_of_another(families, unwanted):
    code = f"from photoz.estimators import get_estimator; [*map(get_estimator, {families})]"

    assert set(loaded_by(code)) & {*unwanted, "mlflow", "optuna"} == set()


def test_every_public_name_can_be_had():
    assert [name for name in photoz.__all__ if not hasattr(photoz, name)] == []
