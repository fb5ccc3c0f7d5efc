"""evaluate.py submission=<folder>: its one packed file and its rows, or one line."""

import pytest

from golf.config.cross_checks import inputs
from golf.errors import UserError
from golf.pipeline.evaluate import locate_artifact, submitted_seq_len


def asked(folder):
    return {"run": None, "artifact": None, "submission": str(folder)}


@pytest.mark.parametrize("name", ["final_model.golf", "final_model.int6.ptz"])
def test_the_one_packed_file_of_a_folder_is_scored(tmp_path, name):
    (tmp_path / name).touch()
    (tmp_path / "train_gpt.py").touch()
    assert locate_artifact(asked(tmp_path)) == (tmp_path / name, None)
    assert submitted_seq_len(str(tmp_path)) == 0
    (tmp_path / "resolved_config.yaml").write_text("data: {seq_len: 384}\n")
    assert submitted_seq_len(str(tmp_path)) == 384


def test_a_folder_without_one_says_what_it_has(tmp_path):
    with pytest.raises(UserError, match=r"must have one .golf or .ptz file \(none\): type artifact="):
        locate_artifact(asked(tmp_path))
    with pytest.raises(UserError, match=r"\(no such folder\)"):
        locate_artifact(asked(tmp_path / "missing"))
    for name in ("a.golf", "b.ptz"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"\(a.golf, b.ptz\)"):
        locate_artifact(asked(tmp_path))


def test_one_thing_is_scored():
    nothing = dict.fromkeys(("run", "artifact", "submission"))
    assert inputs(nothing) == [
        "nothing to score: type run=<run folder>, artifact=<packed file> or submission=<record folder>"
    ]
    assert inputs({**nothing, "submission": "a"}) == []
    assert inputs({**nothing, "run": "a", "submission": "b"}) == [
        "run and submission are both set: leave one of them out"
    ]
