import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from derivation import check
from derivation import claim as claims
from derivation.catalogue import CATALOGUE
from derivation.report import markdown

ROOT = Path(__file__).parents[2]
FAST = ["two-step", "boxed"]


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "derivation.check", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def without_progress(text):
    """The lines without those of the progress, which a busy machine prints and an idle one does not."""
    return [line for line in text.splitlines() if not line.startswith("checking: ")]


def test_table_and_exit_status_for_chosen_claims(capsys):
    assert check.main(FAST) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:4] == ["two-step", "refuted", "proved", "6/6"]
    assert lines[2].split()[:3] == ["boxed", "proved", "proved"]
    assert max(map(len, lines)) <= 80


def test_exit_status_1_when_a_misprint_is_not_refuted(monkeypatch, capsys):
    entry = next(entry for entry in CATALOGUE if entry.id == "two-step")
    proved = claims.load(entry)()
    broken = claims.Claim(
        proved.finding, proved.precise[0], (proved.precise[0],), proved.assumptions, proved.method, proved.argument
    )
    wrong = claims.Statement(broken.precise[0].latex, broken.precise[0].decide, expected="refuted")
    monkeypatch.setitem(
        claims._REGISTRY,
        "two-step",
        lambda: claims.Claim(proved.finding, wrong, broken.precise, proved.assumptions, proved.method, proved.argument),
    )
    assert check.main(["two-step"]) == 1
    assert "expected refuted" in capsys.readouterr().out


def test_json_on_standard_output_is_json_alone():
    done = command(*FAST, "--json", "-")
    assert done.returncode == 0
    content = json.loads(done.stdout)
    assert set(content) == {"claims", "summary", "versions"}
    two_step, boxed = content["claims"]
    assert two_step["id"] == "two-step"
    assert {"title", "source", "statement", "assumptions", "method", "seconds"} <= set(two_step)
    assert two_step["as_printed"]["status"] == "refuted"
    assert two_step["as_printed"]["witness"] == {"setting": "L₁ = x, L₂ = x²/2, at x = 0", "left": "1", "right": "0"}
    assert two_step["made_precise"]["status"] == "proved"
    assert "nabla" in two_step["made_precise"]["statement"]
    assert two_step["mutants"]["total"] == two_step["mutants"]["refuted"] > 0
    assert boxed["as_printed"] == {"status": "proved", "witness": None}
    assert content["summary"]["all_in_order"] is True
    assert set(content["versions"]) == {"composite-updates", "sympy", "python"}
    assert "two-step" in done.stderr


def test_page_is_one_wellformed_file_without_script_or_network(tmp_path):
    path = tmp_path / "proofs.html"
    assert check.main([*FAST, "--html", str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    for forbidden in ("<script", "http://www.w3.org/1999/xhtml", "src=", "<link", "@import", "url("):
        assert forbidden not in text
    assert text.count("<math") > 20
    # The tags balance: what is left after the few HTML-only spellings are closed parses as XML.
    body = text.split("<body>")[1].split("</body>")[0].replace("&epsilon;", "e").replace("&eta;", "h")
    ElementTree.fromstring(f"<body>{body}</body>")


def test_readme_table_is_current(reports):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == check.readme_with_table(text, markdown(reports[entry.id] for entry in CATALOGUE)), (
        "run `make readme`"
    )


def test_readme_without_marks_is_refused_before_any_work(tmp_path, capsys):
    path = tmp_path / "README.md"
    path.write_text("nothing here")
    with pytest.raises(SystemExit) as exit_:
        check.main(["--readme", str(path)])
    assert exit_.value.code == 2
    assert "marks" in capsys.readouterr().err
    assert path.read_text() == "nothing here"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["eq-2"], "Did you mean eq-1?"),
        (["warmup"], "Did you mean warm-up?"),
        (["--jsn", "-"], "Did you mean --json?"),
        (["--explian"], "Did you mean --explain?"),
        (["--html", "no/such/folder/page.html"], "folder that exists"),
        (["--json", "."], "must be a file"),
        (["--json", "-", "--html", "-"], "different places"),
        (["--json", "x.out", "--html", "x.out"], "different places"),
        (["--json", ""], "must name a file"),
        (["--json", "x" * 300], "can be written to"),
        (["two-step", "--readme", "README.md"], "leave the ids out"),
        (["--json"], "--json must have a value"),
    ],
)
def test_a_wrong_call_ends_with_2_and_says_what_is_wrong(arguments, hint, capsys):
    with pytest.raises(SystemExit) as exit_:
        check.main(arguments)
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert hint in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--help"], ["--list"], ["no-such-claim"]])
def test_questions_that_need_no_algebra_do_not_import_it(arguments):
    code = (
        "import sys\n"
        "from derivation import check\n"
        "try:\n"
        f"    check.main({arguments!r})\n"
        "except SystemExit:\n"
        "    pass\n"
        "sys.exit('sympy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_list_names_every_claim(capsys):
    assert check.main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [entry.id for entry in CATALOGUE]


def test_explanations_show_the_post_beside_ours(capsys):
    assert check.main(["warm-up", "--explain"]) == 0
    text = capsys.readouterr().out
    assert "the post" in text
    assert "made precise" in text
    assert "m²/2 − m" in text
    assert "claimed 6" in text
    assert max(map(len, text.splitlines())) <= 80


def test_interrupt_ends_with_130_and_writes_nothing(tmp_path):
    path = tmp_path / "verdicts.json"
    running = subprocess.Popen(
        [sys.executable, "-u", "-m", "derivation.check", "--json", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert running.stdout is not None
    while "grpo-split" not in running.stdout.readline():  # well inside the run
        pass
    time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Interrupted" in out
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m derivation.check --list | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("grpo-gradient")
    assert without_progress(done.stderr) == []


def test_a_reader_that_goes_away_during_the_table_is_no_failed_claim():
    script = f"{sys.executable} -m derivation.check two-step boxed eq-1 | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[1] == "141"
    assert without_progress(done.stderr) == []


def test_a_full_device_is_one_line_and_status_1():
    for arguments in (["--list"], ["two-step"], ["two-step", "--json", "-"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "derivation.check", *arguments], stdout=full, stderr=-1, text=True, check=False
            )
        assert done.returncode == 1
        assert "No space left" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_terminal_without_the_glyphs_gets_no_traceback():
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = command("two-step", "--explain", env=environment)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert json.loads(command("two-step", "--json", "-", env=environment).stdout)["summary"]["all_in_order"]


def test_closed_standard_output_is_no_error():
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m derivation.check two-step >&-"], stderr=-1, text=True, check=False
    )
    assert (done.returncode, without_progress(done.stderr)) == (0, [])


def test_links_permissions_and_pipes_are_kept(tmp_path):
    target, link, pipe = tmp_path / "target", tmp_path / "link", tmp_path / "pipe"
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to(target)
    assert check.main(["two-step", "--json", str(link)]) == 0
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o600
    assert json.loads(target.read_text())["summary"]["claims"] == 1
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=-1, text=True) as reader:
        assert check.main(["two-step", "--json", str(pipe)]) == 0
        assert json.loads(reader.communicate(timeout=60)[0])["summary"]["claims"] == 1
    assert pipe.is_fifo()


def test_line_ends_of_a_readme_are_kept():
    text = f"a\r\n{check._START}\r\nold\r\n{check._END}\r\nb\r\n"
    renewed = check.readme_with_table(text, "x\ny\n")
    assert renewed == f"a\r\n{check._START}\r\nx\r\ny\r\n{check._END}\r\nb\r\n"


def test_a_file_that_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch, capsys):
    path = tmp_path / "verdicts.json"
    path.write_text("precious")

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)  # the last step: all has been written beside it
    assert check.main(["two-step", "--json", str(path)]) == 1
    assert "No space left" in capsys.readouterr().out
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]
