"""What the commands share: the values of options, each refused with its rule, and progress on and off a terminal."""

import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import progress as progress_module
from console import values
from console.command import CallError, FailureError, application, call, option
from console.output import write
from console.packages import missing
from console.progress import progress

ROOT = Path(__file__).parents[2]


def refusal(parse, value):
    with pytest.raises(ValueError, match=r"^must ") as caught:
        parse(value)
    return str(caught.value)


# Numbers and words ----------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**15 - 1), st.integers(0, 10**15 - 1), st.integers(0, 10**15 - 1))
def test_a_whole_number_is_taken_within_its_bounds_and_nowhere_else(number, one, other):
    least, most = sorted((one, other))
    if least <= number <= most:
        assert values.whole(least, most)(str(number)) == number
    else:
        assert refusal(values.whole(least, most), str(number)) == (
            f"must be a whole number of at least {least} and at most {most}; got {number}."
        )


@pytest.mark.parametrize(
    "value",
    ["", "-1", "+1", "1.0", "1e3", " 1", "1 ", "1_000", "1,000", "٣", "²", "one", "0x1", "9" * 16, "nan"],
)
def test_what_is_no_whole_number(value):
    assert refusal(values.whole(0), value) == f"must be a whole number of at least 0; got {value}."


def test_the_ends_belong_to_the_bounds():
    parse = values.whole(5, 60)
    assert (parse("5"), parse("60"), parse("007")) == (5, 60, 7)
    assert values.whole(1)("9" * 15) == 10**15 - 1
    for value in ("4", "61"):
        assert refusal(parse, value) == f"must be a whole number of at least 5 and at most 60; got {value}."


@given(st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_a_positive_number_is_read_back(number):
    assert values.number()(repr(number)) == number
    assert values.number(is_zero_allowed=True)(repr(number)) == number
    for parse, rule in (
        (values.number(), "a positive number"),
        (values.number(is_zero_allowed=True), "a number of at least 0"),
    ):
        assert refusal(parse, repr(-number)) == f"must be {rule}; got {-number!r}."


@pytest.mark.parametrize("value", ["", "x", "nan", "inf", "-inf", "1e999", "1,5", "-1"])
def test_what_is_no_amount(value):
    assert refusal(values.number(), value) == f"must be a positive number; got {value}."
    assert refusal(values.number(is_zero_allowed=True), value) == f"must be a number of at least 0; got {value}."


@pytest.mark.parametrize("zero", ["0", "0.0", "-0", "1e-999"])
def test_zero_is_an_amount_where_it_is_allowed(zero):
    assert values.number(is_zero_allowed=True)(zero) == 0
    assert refusal(values.number(), zero) == f"must be a positive number; got {zero}."


def test_one_of_several_words():
    parse = values.one_of(("train", "test"))
    assert (parse("train"), parse("test")) == ("train", "test")
    assert refusal(parse, "tran") == "must be one of train, test; got tran. Did you mean train?"
    assert refusal(parse, "Q") == "must be one of train, test; got Q."
    assert refusal(parse, "") == "must be one of train, test; got ."


def test_a_long_value_is_not_shown_whole():
    for parse in (values.whole(1), values.number(), values.one_of(("train", "test"))):
        assert refusal(parse, "z" * 5000).endswith(f"; got {'z' * 60}.")


# Paths ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to stand in, with a folder, a file and a link that leads nowhere."""
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").write_text("here")
    Path("astray").symlink_to("nowhere")
    return tmp_path


def test_an_input_folder_is_there(place):
    assert values.input_folder("folder") == Path("folder")
    assert values.input_folder(".") == Path()
    assert refusal(values.input_folder, "file") == "must be a folder that exists; got the file file."
    assert refusal(values.input_folder, "other") == "must be a folder that exists; got no folder other."
    assert refusal(values.input_folder, "astray") == "must be a folder that exists; got no folder astray."
    assert refusal(values.input_folder, "") == "must be a folder that exists; got nothing."


def test_an_input_file_can_be_read(place, monkeypatch):
    assert values.input_file("file") == Path("file")
    assert refusal(values.input_file, "folder") == "must be a file that can be read; got the folder folder."
    assert refusal(values.input_file, "other") == "must be a file that can be read; got no readable file other."
    assert refusal(values.input_file, "astray") == "must be a file that can be read; got no readable file astray."
    assert refusal(values.input_file, "") == "must be a file that can be read; got nothing."
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.R_OK)  # root may read everything
    assert refusal(values.input_file, "file") == "must be a file that can be read; got no readable file file."


def test_an_output_folder_is_there_or_can_be_made(place, monkeypatch):
    assert values.output_folder("folder") == Path("folder")
    assert values.output_folder("folder/new") == Path("folder/new")
    assert not Path("folder/new").exists()
    assert refusal(values.output_folder, "file") == "must be a folder; got the file file."
    assert refusal(values.output_folder, "") == "must name a folder; got nothing."
    assert refusal(values.output_folder, "-") == "must name a folder; got -."
    assert values.output_folder("a/b/c") == Path("a/b/c")
    assert (
        refusal(values.output_folder, "file/b")
        == "must be a folder that can be made; got file/b: " + str(Path("file").absolute()) + " cannot hold it."
    )
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    assert refusal(values.output_folder, "folder") == "must be a folder that can be written to; got folder."
    assert refusal(values.output_folder, "new").startswith("must be a folder that can be made; got new: ")


# Progress -------------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock(monkeypatch):
    told = Clock()
    monkeypatch.setattr(progress_module.time, "monotonic", told)
    return told


def test_off_a_terminal_there_is_a_line_now_and_then(clock, capsys):
    with progress("scoring", 3000, "completions") as advance:
        for done, seconds in [(1, 0), (2, 9), (1500, 11), (1501, 12), (2999, 22), (3000, 22)]:
            clock.seconds = float(seconds)
            advance(done, f"{done // 2} right" if done > 2000 else "")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "scoring: 1,500 of 3,000 completions",
        "scoring: 2,999 of 3,000 completions, 1499 right",
        "scoring: 3,000 of 3,000 completions, 1500 right",
    ]


def test_a_quick_work_is_told_once(clock, capsys):
    with progress("asking", 2, "problems") as advance:
        advance(1)
        advance(2, "2 solved")
    assert capsys.readouterr().err == "asking: 2 of 2 problems, 2 solved\n"


def test_a_work_that_fails_says_nothing_of_its_end(clock, capsys):
    def work():
        with progress("asking", 2, "problems") as advance:
            advance(1)
            raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        work()
    assert capsys.readouterr().err == ""


WORK = """
import time
from console.progress import progress
with progress("scoring", 1234, "completions") as advance:
    for done in (0, 617, 1234):
        advance(done, f"{done // 2} right" if done else "")
        time.sleep(0.3)
print("done")
"""


def on_a_terminal(code, width=100):
    """What a program shows on a terminal of so many columns, standard output not among it."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, width))
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**environment, "TERM": "xterm"},
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # Linux says so where the other side has gone
                break
            if not piece:
                break
            shown += piece
        assert process.stdout is not None
        out = process.stdout.read()
    os.close(ours)
    assert process.returncode == 0
    return shown.decode(), out.decode()


def test_on_a_terminal_a_bar_is_shown_and_taken_away():
    shown, out = on_a_terminal(WORK)
    frames = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "━" in frames
    assert re.search(r"scoring +━+ +0/1234", frames)
    assert re.search(r"308 right +[━╸╺]+ +617/1234", frames)
    assert re.search(r"617 right +━+ +1234/1234", frames)
    assert "of 1,234 completions" not in frames
    assert shown.rstrip("\r\n").endswith("\x1b[2K")  # the line is erased: what is printed next stands alone
    assert out == "done\n"


LONG = """
from console.progress import progress
with progress("run", 1000, "updates") as advance:
    advance(123, "L+ -0.00012 L- -1.23e-05 | log p -0.000123 -1.23e-05 | g+.g- -1.23e-05")
"""


def test_on_a_narrow_terminal_the_text_gives_way_and_no_number_is_cut():
    shown, _ = on_a_terminal(LONG, width=80)
    frames = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(r"L\+ -0\.00012 .*… +123/1000 0:00:0[0-9] -:--:--", frames)
    assert max(map(len, re.split(r"[\r\n]+", frames))) <= 80


def test_the_same_program_off_a_terminal_shows_no_bar():
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr == "scoring: 1,234 of 1,234 completions, 617 right\n"
    assert done.stdout == "done\n"


SILENT = """
import time
import sys
import console.progress as module
module._SECONDS_BEFORE_FIRST_LINE, module._SECONDS_BETWEEN_LINES, module._SECONDS_BETWEEN_LOOKS = 0.2, 0.4, 0.02
with module.progress("sequential", 24, "updates") as advance:
    advance(0, "the first update: compiling")
    started = time.monotonic()
    time.sleep(1.0)
    lasted = time.monotonic() - started
    advance(1)
with module.waiting("loading"):
    time.sleep(0.5)
print("{}" if sys.stderr.isatty() else lasted)
"""


def test_a_single_long_piece_of_work_says_that_it_lasts():
    done = subprocess.run([sys.executable, "-c", SILENT], capture_output=True, text=True, cwd=ROOT, check=True)
    lines = done.stderr.splitlines()
    counted, loading = [line for line in lines if line[0] == "s"], [line for line in lines if line[0] == "l"]
    if counted[-1] == "sequential: 1 of 24 updates":  # as it is where a busy machine has let the sleep last longer
        counted.pop()
    assert 2 <= len(counted) <= float(done.stdout) / 0.4 + 2
    assert all(
        re.fullmatch(r"sequential: 0 of 24 updates, the first update: compiling, \d+ s", line) for line in counted
    )
    assert loading
    assert all(re.fullmatch(r"loading, \d+ s", line) for line in loading)
    assert len(counted) + len(loading) + ("sequential: 1 of 24 updates" in lines) == len(lines)


def test_a_silent_work_has_a_line_after_2_seconds_and_then_every_10(clock, capsys, monkeypatch):
    class Ticks:
        """An event that is awaited for hundredths of a second, whatever was asked, and is set after 25 seconds."""

        count = 0

        def wait(self, seconds):
            self.count += 1
            clock.seconds = self.count / 100
            return clock.seconds > 25

        def set(self):
            pass

    monkeypatch.setattr(progress_module, "Event", Ticks)
    with progress_module.waiting("loading"):
        pass  # its end waits for the thread, and so for the 25 seconds
    assert capsys.readouterr().err.splitlines() == ["loading, 2 s", "loading, 12 s", "loading, 22 s"]


def test_on_a_terminal_a_single_long_piece_of_work_is_a_live_line():
    shown, out = on_a_terminal(SILENT)
    frames = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(r"the first update: compiling +━+ +0/24", frames)
    assert re.search(r"loading 0:00:00", frames)
    assert " of 24 updates" not in frames
    assert shown.rstrip("\r\n").endswith("\x1b[2K")
    assert out == "{}\n"


def test_what_is_quick_need_not_say_so(clock, capsys):
    for seconds in (1.9, 2.1):
        clock.seconds = 0.0
        with progress("expanding", 3, "stages", is_silent_if_quick=True) as advance:
            clock.seconds = seconds
            advance(3)
    assert capsys.readouterr().err == "expanding: 3 of 3 stages\n"


# What is not installed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "module", "arguments"),
    [
        ("sympy", "derivation.expand", ["--schedule=ab"]),
        ("cyclopts", "derivation.expand", ["--schedule=ab"]),
        ("sympy", "derivation.check", ["two-step"]),
        ("rich", "derivation.check", ["two-step"]),
        ("cyclopts", "derivation.check", ["two-step"]),
    ],
)
def test_what_is_not_installed_is_named_with_the_command_that_installs_it(package, module, arguments):
    code = (
        f"import runpy, sys\nsys.modules[{package!r}] = None\n"
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 2
    name = "" if package == "cyclopts" else f"python -m {module}: "  # without it there is no command
    assert done.stderr == (
        f"{name}{package} must be installed. In the project's folder: python -m pip install "
        "--constraint constraints.txt --editable '.'\n"
    )


def test_a_module_of_our_own_that_is_missing_is_a_fault_of_ours():
    assert missing(ModuleNotFoundError("No module named 'console.none'", name="console.none")) is None


# The call of a command ------------------------------------------------------------------------------------------------


@pytest.fixture
def called(capsys):
    """A command with an option of each kind: the status of a call, what it got, and the line on standard error."""
    app = application("demo", "The end.")

    @app.default
    def demo(
        *words: str,
        count: Annotated[int, option("how many", "N", values.whole(1, 9))] = 3,
        side: Annotated[Literal["left", "right"], option("of the road", "SIDE")] = "left",
        path: Annotated[str, option(metavar="PATH", choices=("-", "-+", "--+"), name="--to")] = "-",
        is_quiet: Annotated[bool, option("no output")] = False,
        many: tuple[str, ...] = (),
    ) -> int:
        if words == ("wrong",):
            raise CallError("words must be right; got wrong.")
        if words == ("late",):
            raise FailureError("the disk is full.")
        got.append((words, count, side, path, is_quiet, many))
        return 0

    got = []

    def run(*arguments):
        got.clear()
        try:
            status = call(app, arguments)
        except SystemExit as stop:
            status = stop.code
        shown = capsys.readouterr()
        return status, got[0] if got else shown.out, shown.err

    return run


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ("", ((), 3, "left", "-", False, ())),
        ("a b", (("a", "b"), 3, "left", "-", False, ())),
        ("--count 4 --count=5", ((), 5, "left", "-", False, ())),
        ("--to -+", ((), 3, "left", "-+", False, ())),
        ("--to=--+ a", (("a",), 3, "left", "--+", False, ())),
        ("--to -", ((), 3, "left", "-", False, ())),
        ("--is-quiet a", (("a",), 3, "left", "-", True, ())),
        ("--many a --many b c", (("c",), 3, "left", "-", False, ("a", "b"))),
        ("-- --count -4", (("--count", "-4"), 3, "left", "-", False, ())),
    ],
)
def test_options_are_read(arguments, values, called):
    assert called(*arguments.split()) == (0, values, "")


DASHES = "One that begins with a dash stands behind an equals sign."


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("--count 0", "--count must be a whole number of at least 1 and at most 9; got 0."),
        ("--count -1", "--count must be a whole number of at least 1 and at most 9; got -1."),
        ("--count", f"--count must have a value. {DASHES}"),
        ("--to --+", f"--to must have a value. {DASHES}"),
        ("--to -x", f"--to must have a value. {DASHES}"),
        (
            "--count --is-quiet",
            f"--count must have a value. {DASHES}",
        ),
        ("--side lift", "--side must be one of left, right; got lift. Did you mean left?"),
        ("--to +-", "--to must be one of -, -+, --+; got +-. Did you mean -?"),
        ("--is-quiet=3", "--is-quiet must stand alone; got 3."),
        ("--cuont=2", "no such option: --cuont. Did you mean --count?"),
        ("--no-is-quiet", "no such option: --no-is-quiet. Did you mean --is-quiet?"),
        ("wrong", "words must be right; got wrong."),
    ],
)
def test_a_wrong_call_is_one_line_and_status_2(arguments, line, called):
    assert called(*arguments.split()) == (2, "", f"demo: {line}\n")


def test_work_that_fails_is_one_line_and_status_1(called):
    assert called("late") == (1, "", "demo: the disk is full.\n")


def test_the_help_names_each_default_once(called):
    status, out, err = called("--help")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "usage: demo [OPTIONS] [ARGS...]"
    assert "  --count N      how many (default: 3)" in out.splitlines()
    assert "  --side SIDE    of the road left, right (default: left)" in out.splitlines()
    assert "  --is-quiet     no output" in out.splitlines()
    assert out.splitlines()[-1] == "The end."


@pytest.mark.parametrize("module", ["derivation.check", "derivation.expand"])
def test_the_help_fits(module):
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert not [line for line in done.stdout.splitlines() if line.endswith(" ")]  # nothing was broken to make it fit


def test_a_file_is_nobody_elses_while_it_is_written(tmp_path, monkeypatch):
    path = tmp_path / "private"
    path.write_text("old")
    path.chmod(0o600)
    modes = []
    replace = Path.replace

    def watched(self, target):
        modes.append(self.stat().st_mode & 0o777)
        return replace(self, target)

    def opened(handle, *arguments, **options):
        modes.append(os.fstat(handle).st_mode & 0o777)
        return fdopen(handle, *arguments, **options)

    fdopen = os.fdopen
    monkeypatch.setattr(os, "fdopen", opened)
    monkeypatch.setattr(Path, "replace", watched)
    write(path, "new")
    assert path.read_text() == "new"
    assert modes == [0o600, 0o600]


def test_a_name_that_the_file_system_takes_is_taken(tmp_path):
    path = tmp_path / ("\N{CJK UNIFIED IDEOGRAPH-6F22}" * 85)  # 255 bytes, the most
    write(path, "x")
    assert path.read_text() == "x"
