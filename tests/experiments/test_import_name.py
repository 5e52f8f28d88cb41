"""The `ssl` trap (DESIGN.md section 1): a folder called ssl at the root must never win over Python's own."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USE_SSL = "import ssl; ssl.create_default_context(); assert ssl.__file__.endswith('ssl.py'), ssl.__file__"
ROOMS = ("curation", "ssl", "eval", "experiments", "configs")


def python(code: str, *, cwd: Path = ROOT, path: str = "", executable: str = sys.executable) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | ({"PYTHONPATH": path} if path else {})
    subprocess.run([executable, "-c", code], cwd=cwd, env=environment, check=True, timeout=1200)


def test_standard_ssl_from_the_root():
    python(USE_SSL)


def test_standard_ssl_with_the_root_first_on_the_path():
    python(USE_SSL, path=str(ROOT))


def test_standard_ssl_in_a_spawned_worker():
    code = (
        "import multiprocessing as m\n"
        "def check(_):\n    import ssl; ssl.create_default_context(); return ssl.__file__\n"
        "if __name__ == '__main__':\n"
        "    with m.get_context('spawn').Pool(1) as pool: assert pool.map(check, [0])[0].endswith('ssl.py')\n"
    )
    script = ROOT / "runs" / "spawn_check.py"
    script.parent.mkdir(exist_ok=True)
    script.write_text(code)
    try:
        subprocess.run([sys.executable, str(script)], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    finally:
        script.unlink()


def test_no_init_file_where_it_would_shadow():
    assert not (ROOT / "ssl" / "__init__.py").exists()
    assert not (ROOT / "__init__.py").exists()


def test_packages_lists_every_folder_with_code_or_config():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    tracked = subprocess.run(["git", "ls-files", *ROOMS], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [Path(name) for name in tracked.splitlines() if name.endswith((".py", ".yaml"))]
    folders = {"strata." + ".".join(file.parent.parts) for file in files} | {"strata", "strata.ssl"}
    assert listed == folders


def test_every_config_folder_is_a_package():
    for file in (ROOT / "configs").rglob("*.yaml"):
        assert (file.parent / "__init__.py").is_file(), f"{file.parent} needs __init__.py for pkg://"


@pytest.fixture(scope="module")
def wheel_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the tracked files, unpacked into a folder of its own."""
    source, built, site = (tmp_path_factory.mktemp(name) for name in ("source", "built", "site"))
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        if not (ROOT / name).is_file() or name.startswith((".typecheck", "tests", "results")):
            continue
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "-q", ".", "--no-deps", "--no-build-isolation", "-w", str(built)]
    subprocess.run(command, cwd=source, check=True, timeout=1200)
    with zipfile.ZipFile(next(built.glob("strata-*.whl"))) as archive:
        archive.extractall(site)
    return site


def test_wheel_works_elsewhere(wheel_site: Path, tmp_path: Path):
    """The wheel beside the installed libraries, without the editable install: PYTHONPATH entries run no .pth files."""
    libraries = Path(sys.prefix) / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    base = str(Path(sys.base_prefix) / "bin" / "python3")
    path = f"{wheel_site}{os.pathsep}{libraries}"
    python(USE_SSL, cwd=tmp_path, path=path, executable=base)
    code = (
        "import strata.curation.errors as e, sys; "
        f"assert e.__file__.startswith({str(wheel_site)!r}), e.__file__; "
        "from strata.experiments.cli import dispatch; "
        "sys.exit(dispatch(['plan', 'experiment=quickstart']))"
    )
    python(code, cwd=tmp_path, path=path, executable=base)
    assert not any(tmp_path.iterdir()), "planning wrote something"
