from ser.corpus.errors import TRAIN_AGAIN, DamagedError


def test_the_remedy_is_the_command_that_trains_the_head(tmp_path):
    (tmp_path / "finetuned" / "wavlm").mkdir(parents=True)
    remedies = [
        DamagedError(tmp_path / "heads" / name / "head.json", "it is missing", TRAIN_AGAIN).remedy
        for name in ("wavlm", "gru")
    ]
    assert remedies == [
        "train the head again with `ser finetune wavlm --force`",
        "train the head again with `ser heads train gru --force`",
    ]


def test_a_name_that_no_file_system_takes_is_reported_too(tmp_path):
    (tmp_path / "finetuned").mkdir()
    path = tmp_path / "heads" / ("x" * 300) / "head.json"
    error = DamagedError(path, "it is missing", TRAIN_AGAIN)
    assert str(error).endswith(f"`ser heads train {'x' * 300} --force`.")
