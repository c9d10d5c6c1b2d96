"""Options in force, as the admin process reads them from the file that main writes."""

from services.metrics.description import Description


def describe(options_file=None):
    return Description("nginx", 1, "process", 8000, "127.0.0.1", {"workers": 2}, options_file)


def test_options_are_those_of_the_start_without_a_file(tmp_path):
    assert describe().current_options() == {"workers": 2}
    assert describe(tmp_path / "options.json").current_options() == {"workers": 2}


def test_options_are_those_that_main_has_written(tmp_path):
    (tmp_path / "options.json").write_text('{"workers": 3}')
    assert describe(tmp_path / "options.json").current_options() == {"workers": 3}


def test_options_that_are_half_written_are_not_taken(tmp_path):
    (tmp_path / "options.json").write_text('{"workers": ')
    assert describe(tmp_path / "options.json").current_options() == {"workers": 2}
