"""Who may import what, as docs/architecture.md says, and what a plain import really loads."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"vicrop_kernels": "kernels", "vicrop_engine": "engine", "vicrop_export": "export"}
ALLOWED = {
    "vicrop_kernels": {"numpy", "vicrop_kernels"},
    "vicrop_engine": {"numpy", "PIL", "tokenizers", "typer", "rich", "vicrop_kernels", "vicrop_engine"},
    "vicrop_export": {
        *(
            "torch",
            "transformers",
            "onnx",
            "onnxscript",
            "onnx_ir",
            "safetensors",
            "numpy",
            "tokenizers",
            "PIL",
            "ml_dtypes",
        ),
        *("vicrop_engine", "vicrop_export"),
    },
}
ONLY_IN = {
    "onnxruntime": {"vicrop_engine/runtime/onnx_runtime.py"},
    "vicrop_export": {"vicrop_engine/builder.py"},
    "ray": {
        *(f"vicrop_engine/ray_serve/{name}.py" for name in ("__init__", "application", "ingress", "replica")),
        *(f"vicrop_engine/ray_serve/{name}.py" for name in ("remote_scheduler", "router")),
        "vicrop_engine/ray_data/job.py",
    },
    "pyarrow": {"vicrop_engine/ray_data/job.py"},
    "datasets": {"vicrop_engine/evaluation/sources/hub.py"},
    "lmms_eval": {"vicrop_engine/harness/manifest.py", "vicrop_engine/harness/lmms_model.py"},
    "huggingface_hub": {"vicrop_export/checkpoint/hub.py"},
    "triton": {
        *("vicrop_kernels/triton_kernel.py", "vicrop_kernels/triton_search.py"),
        *("vicrop_kernels/triton_operator.py", "vicrop_kernels/compile.py"),
    },
    "pillow_heif": {"vicrop_engine/images/heif.py"},
    "llguidance": {"vicrop_engine/model/answers/json_mask.py"},
    "torch": {f"vicrop_kernels/{name}.py" for name in ("triton_operator", "dlpack_operator")},
}
ONLY_UNDER = dict.fromkeys(
    ("starlette", "uvicorn", "h11", "prometheus_client", "opentelemetry"), "vicrop_engine/server/"
)
# A room imports only from rows below its own; rooms of one row do not know each other.
ROWS = {
    "vicrop_engine": (
        {
            *("errors", "arrays", "counters", "timing", "byte_cache", "user_text", "drawing"),
            "process_limits",
        },
        {"engine_dir", "answer_form"},
        {"images", "runtime"},
        {"external", "examples", "families"},
        {"model"},
        {"vicrop"},
        {"serving"},
        {"builder"},
        {"engine"},
        {"server", "measure", "ray_data"},
        {"evaluation"},
        {"cli"},
        {"ray_serve", "cli_output", "harness"},
    ),
    "vicrop_export": (
        {"staging", "progress", "quiet", "probe", "ops"},
        {"precision", "checkpoint"},
        {"onnx_files"},
        {"modules"},
        {"trt", "families"},
        {"plan"},
        {"targets", "existing", "checks"},
        {"build", "external"},
    ),
}
FOR_BUILDS = 6  # rows of the engine that the build package may use
MOST_MODULES = 20  # in one folder


def modules(package: str) -> list[Path]:
    return sorted((ROOT / FOLDERS[package] / package).rglob("*.py"))


def every_file() -> list[Path]:
    return [path for package in FOLDERS for path in modules(package)]


def imports(path: Path) -> list[str]:
    """Full dotted names of everything the file imports, wherever it stands; `from a import b` gives `a.b`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[1]


@pytest.mark.parametrize("path", every_file(), ids=name_of)
def test_only_allowed_packages_are_imported(path: Path) -> None:
    inside = path.relative_to(ROOT / FOLDERS[package_of(path)]).as_posix()
    for name in imports(path):
        top = name.split(".")[0]
        allowed = top in sys.stdlib_module_names or top in ALLOWED[package_of(path)]
        allowed = allowed or (top in ONLY_UNDER and inside.startswith(ONLY_UNDER[top]))
        assert allowed or inside in ONLY_IN.get(top, set()), f"{inside} imports {name}"


def test_sessions_of_onnx_runtime_are_made_in_one_place() -> None:
    """Where it is seen to that none of them gives inexact products."""
    files = [*every_file(), *(ROOT / "benchmarks").glob("*.py"), *(ROOT / "scripts").glob("*.py")]
    making = {path.name for path in files if "InferenceSession(" in path.read_text("utf-8")}
    assert making == {"sessions.py"}


def test_tensorrt_is_loaded_in_two_places_and_only_when_wanted() -> None:
    """The runtime of plans and their compiler find the package by name, for it may be one of two."""
    loading = {path.name for path in every_file() if "import_module(" in path.read_text(encoding="utf-8")}
    ours = {"__init__.py", "app.py"}  # which load modules of this package
    assert loading - ours == {"tensorrt_plans.py", "compiler.py"}
    assert not [path for path in every_file() for name in imports(path) if name.startswith("tensorrt")]


def test_the_build_package_is_imported_when_building_only() -> None:
    path = ROOT / "engine" / "vicrop_engine" / "builder.py"
    outermost = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]
    assert not [node.module for node in outermost if str(node.module).startswith("vicrop_export")]
    assert "vicrop_export.build.build_engine" in imports(path)


def room(name: str) -> str:
    """The room of a dotted name inside a package, "" for the package itself."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def ranks(package: str) -> dict[str, int]:
    return {name: rank for rank, names in enumerate(ROWS[package]) for name in names}


@pytest.mark.parametrize("path", [*modules("vicrop_engine"), *modules("vicrop_export")], ids=name_of)
def test_a_room_knows_only_rooms_below_it(path: Path) -> None:
    package = package_of(path)
    known = ranks(package)
    own = path.relative_to(ROOT / FOLDERS[package] / package).parts[0].removesuffix(".py")
    if own == "__init__":  # the public face
        return
    assert own in known, f"give {own} its row in ROWS"
    if path.name == "__main__.py":  # a way in from outside: it stands above all rooms
        return
    for name in imports(path):
        if name.split(".")[0] == package and room(name) != own:
            assert known.get(room(name), len(known)) < known[own], f"{name_of(path)} imports {name}"


@pytest.mark.parametrize("path", modules("vicrop_export"), ids=name_of)
def test_the_build_knows_no_more_of_the_engine_than_the_method(path: Path) -> None:
    known = set().union(*ROWS["vicrop_engine"][:FOR_BUILDS])
    for name in imports(path):
        assert not name.startswith("vicrop_engine.") or room(name) in known, f"{name_of(path)}: {name}"
        assert name != "vicrop_engine", f"{name_of(path)} imports the public face"


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_imports_go_in_a_circle() -> None:
    """Not even those inside functions; who imports a name imports the file that it stands in."""
    files = {module_of(path): path for path in every_file()}
    known = {
        module: [name if name in files else name.rpartition(".")[0] for name in imports(path)]
        for module, path in files.items()
    }
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " imports ".join((*above[above.index(module) :], module))
        if module in done or module not in files:
            return
        for other in known[module]:
            visit(other, (*above, module))
        done.add(module)

    for module in files:
        visit(module, ())


def test_folders_are_small_enough_to_be_read() -> None:
    folders = {path.parent for path in every_file()}
    crowded = {name_of(folder) for folder in folders if len(list(folder.glob("*.py"))) - 1 > MOST_MODULES}
    assert not crowded


def test_no_file_is_named_like_the_standard_library() -> None:
    assert not [name_of(path) for path in every_file() if path.stem in sys.stdlib_module_names]


def test_a_plain_import_loads_neither_runtime_nor_torch() -> None:
    program = (
        "import sys, vicrop_engine; "
        "heavy = {'onnxruntime', 'torch', 'triton', 'transformers', 'onnx', 'vicrop_export', 'starlette', "
        "'uvicorn', 'prometheus_client', 'opentelemetry', 'ray', 'pyarrow', 'datasets', 'lmms_eval'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["serve", "--help"], ["eval", "--help"], ["asks"]]
)
def test_the_command_line_knows_its_command_before_it_loads_anything(arguments: list[str]) -> None:
    program = (
        "import sys; from vicrop_engine.cli import main; main(sys.argv[1:]); "
        "heavy = {'numpy', 'PIL', 'onnxruntime', 'torch', 'starlette', 'uvicorn', 'tokenizers', 'datasets'}; "
        "print('loaded', sorted(heavy & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded []"


def test_a_command_loads_no_other() -> None:
    program = (
        "import sys; from vicrop_engine.cli import main; main(['serve', '--help']); "
        "print(sorted(name for name in sys.modules if name in {'vicrop_engine.cli.ask', "
        "'vicrop_engine.cli.build', 'vicrop_engine.cli.serve'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['vicrop_engine.cli.serve']"


def test_all_is_what_the_package_offers() -> None:
    import vicrop_engine

    assert {"ViCropEngine", "Answer", "ViCropError"} <= set(vicrop_engine.__all__)
    assert list(vicrop_engine.__all__) == sorted(set(vicrop_engine.__all__))
    for name in vicrop_engine.__all__:
        assert getattr(vicrop_engine, name) is not None
    modules = {module.name for module in pkgutil.iter_modules(vicrop_engine.__path__)}
    public = {name for name in vars(vicrop_engine) if not name.startswith("_")} - modules - {"annotations"}
    assert public <= set(vicrop_engine.__all__)


def requirements(extra: str | None = None) -> set[str]:
    """Names of the distributions an extra, or the base, asks for itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    return {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in lines}


def test_extras_bring_what_they_should_and_no_more() -> None:
    heavy = {"torch", "transformers", "onnx", "onnxscript"}
    assert requirements("cpu") == {"onnxruntime"}
    assert "onnxruntime-gpu" in requirements("gpu")
    assert heavy <= requirements("build")
    assert requirements("optimum") == {"optimum"}
    for extra in (None, "cpu", "tensorrt", "rtx", "serve", "ray", "eval"):
        assert not heavy & requirements(extra), extra
    for extra in ("gpu", "triton"):  # whose kernel takes torch's tensors
        assert heavy & requirements(extra) == {"torch"}, extra
    for extra in (None, "build", "serve", "tensorrt", "optimum", "dev"):
        assert not {"onnxruntime", "onnxruntime-gpu"} & requirements(extra), extra


def test_every_folder_is_packaged() -> None:
    for package in FOLDERS:
        assert importlib.import_module(package).__file__ is not None
        assert (ROOT / FOLDERS[package] / package / "py.typed").is_file()
