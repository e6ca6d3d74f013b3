"""Work that ends at a bad moment: what is left is never taken for what was asked for."""

import json

from heldout_torch.cli import main
from heldout_torch.zoo import sample_zoo
from heldout_torch.zoo.folder import FolderZoo
from tests.helpers.zoos import export, files_below


def test_an_evaluation_of_which_nothing_is_known_yet_is_made_again(tmp_path, monkeypatch, capsys):
    """Killed between the arrays and the file that says what they were made of."""
    out = tmp_path / "out"
    words = ["evaluate", str(sample_zoo()), "--runs", "0-1", "--out"]
    assert main([*words, str(tmp_path / "undisturbed")]) == 0
    put = FolderZoo.put

    def put_and_end(*arguments, **options):
        put(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FolderZoo, "put", put_and_end)
        assert main([*words, str(out)]) == 130
    capsys.readouterr()
    assert main([*words, str(out)]) == 0
    assert "2 runs evaluated into" in capsys.readouterr().out
    assert files_below(out) == files_below(tmp_path / "undisturbed")


def test_an_evaluation_of_another_run_that_was_interrupted_is_made_again(tmp_path, monkeypatch, capsys):
    out, zoo = tmp_path / "out", tmp_path / "zoo"
    words = ["evaluate", str(zoo), "--out", str(out)]
    export(sample_zoo(), zoo, runs=[0])
    assert main(words) == 0
    made = out / "digits-mlp-tf/0.7/evaluations/0.json"
    made.write_text(json.dumps({**json.loads(made.read_text()), "run": "0" * 64}, sort_keys=True))  # of another one
    for end in ("before", "after"):
        put = FolderZoo.put

        def put_and_end(*arguments, end=end, put=put, **options):
            if end == "after":
                put(*arguments, **options)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(FolderZoo, "put", put_and_end)
            assert main(words) == 130
    capsys.readouterr()
    assert main(words) == 0
    assert "1 run evaluated" in capsys.readouterr().out


def test_a_declaration_that_was_interrupted_after_its_file_is_done(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["declare", "mine", "--dataset", "digits", "--architecture", "mlp", "--config"]
    assert main([*command, '{"widths": [8]}']) == 0
    before = (tmp_path / "mine.toml").read_bytes()
    assert main([*command, '{"widths": [8]}']) == 0
    assert main([*command, '{"widths": [9]}']) == 1
    assert (tmp_path / "mine.toml").read_bytes() == before
